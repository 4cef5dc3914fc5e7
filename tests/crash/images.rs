//! What a disk may hold after a crash: everything up to the last sync, and of what came since any part, in any order.

use super::disk::Call;
use super::random::Random;

/// A sector is written whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing of what was not synced.
    Nothing,
    /// All of it.
    Everything,
    /// What came first.
    Prefix,
    /// Any of the calls.
    Subset,
    /// Any sectors of the calls.
    Torn,
    /// All writes, but not the new length: what lies beyond the old one is gone.
    LateLength,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Nothing, Self::Everything, Self::Prefix, Self::Subset, Self::Torn, Self::LateLength];
}

/// Calls as they are made, and at each point the images that a crash there may leave.
pub struct Played<'a> {
    synced: Vec<u8>,
    pending: Vec<&'a Call>,
}

impl<'a> Played<'a> {
    pub const fn over(bytes: Vec<u8>) -> Self {
        Self { synced: bytes, pending: Vec::new() }
    }

    pub fn play(&mut self, call: &'a Call) {
        match call {
            Call::Sync => {
                for call in std::mem::take(&mut self.pending) {
                    apply(&mut self.synced, call, |_| true);
                }
            }
            call => self.pending.push(call),
        }
    }

    pub fn image(&self, kind: Kind, random: &mut Random) -> Vec<u8> {
        let mut image = self.synced.clone();
        let first = random.below(self.pending.len() as u64 + 1) as usize;
        for (place, call) in self.pending.iter().enumerate() {
            match kind {
                Kind::Nothing => {}
                Kind::Everything => apply(&mut image, call, |_| true),
                Kind::Prefix if place < first => apply(&mut image, call, |_| true),
                Kind::Prefix => {}
                Kind::Subset if random.coin() => apply(&mut image, call, |_| true),
                Kind::Subset => {}
                Kind::Torn => apply(&mut image, call, |_| random.coin()),
                Kind::LateLength => match call {
                    Call::SetLen(_) => {}
                    call => apply(&mut image, call, |_| true),
                },
            }
        }
        if kind == Kind::LateLength {
            image.truncate(self.synced.len());
        }
        image
    }
}

/// Applies a call; of a write only the sectors that are kept.
fn apply(bytes: &mut Vec<u8>, call: &Call, mut keeps: impl FnMut(usize) -> bool) {
    match call {
        Call::SetLen(len) => {
            if keeps(0) {
                bytes.resize(*len as usize, 0);
            }
        }
        Call::Write(offset, data) => {
            let offset = *offset as usize;
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            for (number, sector) in data.chunks(SECTOR).enumerate() {
                if keeps(number) {
                    let at = offset + number * SECTOR;
                    bytes[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        Call::Sync => {}
    }
}
