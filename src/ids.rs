//! Ids and random bytes, made here and nowhere else.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::domain::time::Timestamp;

/// The bits of a UUIDv7 below its millisecond, version and variant left out.
const TAIL_BITS: u32 = 74;

/// The last id made: its millisecond and its tail.
struct Last(u64, u128);

static LAST: Mutex<Last> = Mutex::new(Last(0, 0));

/// A UUIDv7 of `now`, larger than every one this process made before.
///
/// The first of a millisecond has a random tail, the others count on from it (RFC 9562, method 2): 100,000 in one
/// millisecond cost one system call. Unique, but not a secret.
pub fn new_uuid_v7(now: Timestamp) -> Uuid {
    let (millis, tail) = LAST.lock().next(now);
    uuid_v7(millis, tail)
}

fn uuid_v7(millis: u64, tail: u128) -> Uuid {
    let (high, low) = ((tail >> 62) as u16 & 0x0fff, tail as u64 & (u64::MAX >> 2));
    let bits = (u128::from(millis) << 80) | (u128::from(high) << 64) | u128::from(low);
    // The builder writes version and variant.
    Builder::from_u128(bits).with_version(uuid::Version::SortRand).with_variant(uuid::Variant::RFC4122).into_uuid()
}

impl Last {
    fn next(&mut self, now: Timestamp) -> (u64, u128) {
        let millis = (now.micros() / 1_000) as u64;
        if millis > self.0 {
            // The top bit stays clear, so that counting on does not overflow.
            *self = Self(millis, u128::from_le_bytes(random_bytes()) >> (128 - TAIL_BITS + 1));
        } else {
            self.1 += 1;
        }
        (self.0, self.1)
    }
}

/// The time that a UUIDv7 carries; `None` for other ids. Ids made while the clock stood behind an earlier one carry that
/// one's time.
pub fn time_of(id: &Uuid) -> Option<Timestamp> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    Some(Timestamp::from_micros(micros.checked_add(i64::from(nanos / 1_000))?))
}

/// The UUID (version 8) that stands for a name: the same name gives the same, others give others.
pub fn uuid_of_name(name: &str) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The id of a request: unique, cheap, and no secret. A random prefix of the process and a count (UUID version 8).
pub fn new_request_id() -> Uuid {
    static PREFIX: LazyLock<[u8; 8]> = LazyLock::new(random_bytes);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&*PREFIX);
    bytes[8..].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// Random bytes from the operating system, fit for keys.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Fails only on a system without any source of randomness, where no key or id may be made.
    getrandom::fill(&mut bytes).expect("the operating system has a source of randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_carry_their_time_and_never_repeat() {
        let now: Timestamp = "2026-11-24T09:30:00.125Z".parse().unwrap();
        // Its own: the process's may have gone ahead by another test's clock.
        let mut last = Last(0, 0);
        let mut make = |now| {
            let (millis, tail) = last.next(now);
            uuid_v7(millis, tail)
        };
        let ids: Vec<Uuid> = (0..10_000).map(|_| make(now)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(make(now.plus_micros(-5_000_000)) > ids[9_999], "time behind still grows");
        assert!(new_uuid_v7(now) < new_uuid_v7(now));
        for id in [ids[0], ids[9_999]] {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert_eq!(id.get_timestamp().map(|time| time.to_unix()), Some((now.seconds() as u64, 125_000_000)));
        }
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random_bytes::<32>(), random_bytes::<32>());
    }
}
