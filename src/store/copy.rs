//! Copying a store table by table through one read transaction: for backups, and to leave behind what was erased.
//!
//! Copying the file while somebody writes to it is unsafe, and redb frees pages without clearing them. A copy by key and
//! value is one state of the store, and holds nothing else.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use redb::{
    AccessGuard, Database, Durability, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableError, TableHandle, Value, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::StoreError;
use super::tables::{self, TableVisitor};

/// Bytes of keys and values that one write transaction of the copy takes.
const PIECE_BYTES: usize = 16 << 20;

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableDigest {
    /// Keys in it.
    pub(super) rows: u64,
    /// Over every key and value in order, 32 hexadecimal digits.
    pub(super) xxh3: String,
}

/// By name.
pub(super) type Digests = BTreeMap<String, TableDigest>;

/// The tables that are there.
pub(super) fn table_names(read: &ReadTransaction) -> Result<BTreeSet<String>, StoreError> {
    Ok(read.list_tables()?.map(|table| table.name().to_owned()).collect())
}

fn key_bytes<K: Key + 'static, T>(key: &AccessGuard<'_, K>, see: impl FnOnce(&[u8]) -> T) -> T {
    let value = key.value();
    see(K::as_bytes(&value).as_ref())
}

fn value_bytes<V: Value + 'static, T>(value: &AccessGuard<'_, V>, see: impl FnOnce(&[u8]) -> T) -> T {
    let value = value.value();
    see(V::as_bytes(&value).as_ref())
}

#[derive(Default)]
struct Digest {
    rows: u64,
    hasher: Xxh3Default,
}

impl Digest {
    /// Adds a row; gives its bytes.
    fn add<K: Key + 'static, V: Value + 'static>(
        &mut self,
        key: &AccessGuard<'_, K>,
        value: &AccessGuard<'_, V>,
    ) -> usize {
        self.rows += 1;
        let hasher = &mut self.hasher;
        let mut put = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
            bytes.len()
        };
        key_bytes(key, &mut put) + value_bytes(value, &mut put)
    }

    fn finish(self) -> TableDigest {
        TableDigest { rows: self.rows, xxh3: format!("{:032x}", self.hasher.digest128()) }
    }
}

/// Digests of every table but the manifest.
pub(super) fn digests(read: &ReadTransaction) -> Result<Digests, StoreError> {
    struct Reader<'a>(&'a ReadTransaction, Digests);
    impl TableVisitor for Reader<'_> {
        fn visit<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'_, K, V>,
        ) -> Result<(), StoreError> {
            let mut digest = Digest::default();
            for row in self.0.open_table(table)?.iter()? {
                let (key, value) = row?;
                digest.add(&key, &value);
            }
            self.1.insert(table.name().to_owned(), digest.finish());
            Ok(())
        }
    }
    let mut reader = Reader(read, Digests::new());
    for name in table_names(read)? {
        if name != tables::BACKUP_MANIFEST.name() {
            tables::visit(&name, &mut reader)?;
        }
    }
    Ok(reader.1)
}

/// Copies every table of `from` into `to`, which is empty, in bounded pieces. Nothing of it is durable yet: that is the next
/// durable commit's to do. Gives what was read.
pub(super) fn copy_all(from: &ReadTransaction, to: &Database) -> Result<Digests, StoreError> {
    struct Copier<'a>(&'a ReadTransaction, &'a Database, Digests);
    impl TableVisitor for Copier<'_> {
        fn visit<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'_, K, V>,
        ) -> Result<(), StoreError> {
            let source = self.0.open_table(table)?;
            let mut rows = source.iter()?;
            let mut digest = Digest::default();
            let mut more = true;
            while more {
                let mut write = self.1.begin_write()?;
                write.set_durability(Durability::None).map_err(redb::Error::from)?;
                {
                    let mut target = write.open_table(table)?;
                    let mut bytes = 0;
                    while bytes < PIECE_BYTES {
                        let Some(row) = rows.next() else {
                            more = false;
                            break;
                        };
                        let (key, value) = row?;
                        bytes += digest.add(&key, &value);
                        target.insert(key.value(), value.value())?;
                    }
                }
                write.commit()?;
            }
            self.2.insert(table.name().to_owned(), digest.finish());
            Ok(())
        }
    }
    let mut copier = Copier(from, to, Digests::new());
    for name in table_names(from)? {
        tables::visit(&name, &mut copier)?;
    }
    Ok(copier.2)
}

/// Makes `to` what `from` is: only rows that differ are written, into `write`, which is a transaction of `to`.
pub(super) fn catch_up(
    from: &ReadTransaction,
    to: &ReadTransaction,
    write: &WriteTransaction,
) -> Result<(), StoreError> {
    let (wanted, there) = (table_names(from)?, table_names(to)?);
    for name in there.difference(&wanted) {
        let gone = to.list_tables()?.find(|table| table.name() == name);
        if let Some(table) = gone {
            write.delete_table(table)?;
        }
    }
    let mut follower = Follower { from, to, write };
    wanted.iter().try_for_each(|name| tables::visit(name, &mut follower))
}

struct Follower<'a> {
    from: &'a ReadTransaction,
    to: &'a ReadTransaction,
    write: &'a WriteTransaction,
}

impl TableVisitor for Follower<'_> {
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<(), StoreError> {
        let source = self.from.open_table(table)?;
        let mut target = self.write.open_table(table)?;
        let behind = match self.to.open_table(table) {
            Ok(behind) => Some(behind),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let mut news = source.iter()?;
        let mut olds = behind.as_ref().map(|behind| behind.iter()).transpose()?;
        let mut next_old = || olds.as_mut().and_then(Iterator::next).transpose();
        let (mut new, mut old) = (news.next().transpose()?, next_old()?);
        loop {
            let order = match (&new, &old) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((new, _)), Some((old, _))) => key_bytes(new, |new| key_bytes(old, |old| K::compare(new, old))),
            };
            let same = order == Ordering::Equal
                && matches!((&new, &old), (Some((_, new)), Some((_, old)))
                    if value_bytes(new, |new| value_bytes(old, |old| new == old)));
            if let (Some((key, value)), false, true) = (&new, same, order != Ordering::Greater) {
                target.insert(key.value(), value.value())?;
            }
            if let (Some((key, _)), Ordering::Greater) = (&old, order) {
                target.remove(key.value())?;
            }
            if order != Ordering::Greater {
                new = news.next().transpose()?;
            }
            if order != Ordering::Less {
                old = next_old()?;
            }
        }
        if target.len()? == source.len()? {
            Ok(())
        } else {
            Err(StoreError::Damaged("a copy of the store has not become what the store is"))
        }
    }
}
