//! Names that repeat without end (event types, methods, endpoints, models, providers), each kept once for the life of the
//! process, so that an event carries a number instead of a text.
//!
//! At most [`NAMES_MAX`] names of at most [`NAME_BYTES_MAX`] bytes are kept, a few megabytes; a name beyond them stays with
//! its event. Nothing that is stored or shown depends on which names are kept.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::{LazyLock, OnceLock};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

/// The most names that are kept.
pub const NAMES_MAX: usize = 16_384;
/// A longer name is not kept.
pub const NAME_BYTES_MAX: usize = 128;

/// A kept name. The same text is the same name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name(NonZeroU32);

/// The texts, by number less one; written once each.
static TEXTS: [OnceLock<Box<str>>; NAMES_MAX] = [const { OnceLock::new() }; NAMES_MAX];
static BOOK: LazyLock<RwLock<Book>> = LazyLock::new(RwLock::default);

#[derive(Default)]
struct Book {
    /// Seeded at random: names are the callers'.
    hasher: DefaultHashBuilder,
    names: HashTable<Name>,
}

impl Book {
    fn find(&self, hash: u64, text: &str) -> Option<Name> {
        self.names.find(hash, |name| name.as_str() == text).copied()
    }
}

/// Places in each thread's memory of the names it asked for last.
const RECENT: usize = 64;

thread_local! {
    static RECENT_NAMES: Cell<[Option<Name>; RECENT]> = const { Cell::new([None; RECENT]) };
}

/// The place of a text among the recent ones: by its length and its end, where names differ most.
fn recent_place(text: &str) -> usize {
    let mut end = [0; 8];
    let tail = &text.as_bytes()[text.len().saturating_sub(8)..];
    end[..tail.len()].copy_from_slice(tail);
    let mixed = (u64::from_le_bytes(end) ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as usize % RECENT
}

impl Name {
    /// The name of `text`, kept from now on; `None` for one that is too long, or one too many.
    pub fn of(text: &str) -> Option<Self> {
        let place = recent_place(text);
        // Asked for without a lock that all threads share.
        let recent = RECENT_NAMES.get()[place];
        if recent.is_some_and(|name| name.as_str() == text) {
            return recent;
        }
        let name = Self::kept(text)?;
        let mut recent = RECENT_NAMES.get();
        recent[place] = Some(name);
        RECENT_NAMES.set(recent);
        Some(name)
    }

    fn kept(text: &str) -> Option<Self> {
        let book = BOOK.read();
        let hash = book.hasher.hash_one(text);
        if let Some(name) = book.find(hash, text) {
            return Some(name);
        }
        let full = book.names.len() >= NAMES_MAX;
        drop(book);
        if full || text.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut book = BOOK.write();
        if let Some(name) = book.find(hash, text) {
            return Some(name);
        }
        let place = book.names.len();
        let name = Self(NonZeroU32::new(place as u32 + 1)?);
        TEXTS.get(place)?.get_or_init(|| text.into());
        let Book { hasher, names } = &mut *book;
        names.insert_unique(hash, name, |name| hasher.hash_one(name.as_str()));
        Some(name)
    }

    /// Its text.
    pub fn as_str(self) -> &'static str {
        // A name is made only with its text in place.
        TEXTS[self.0.get() as usize - 1].get().map_or("", |text| text)
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_the_same_name_on_every_thread() {
        let texts: Vec<String> = (0..200).map(|number| format!("name {number}")).collect();
        let named = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| texts.iter().map(|text| Name::of(text)).collect::<Vec<_>>())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(named.windows(2).all(|pair| pair[0] == pair[1]));
        let read: Vec<&str> = named[0].iter().map(|name| name.unwrap().as_str()).collect();
        assert_eq!(read, texts);
        assert_eq!(Name::of(&"x".repeat(NAME_BYTES_MAX + 1)), None);
    }
}
