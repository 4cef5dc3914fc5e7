//! Bringing a store of an older format up to this one: a copy first, then one transaction.
//!
//! Going back is putting the copy in the store's place with the older metergate; what was recorded since is then lost.

use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};

use super::audit_log::AuditWriter;
use super::tables::{self, FORMAT_VERSION};
use super::{StoreError, records};
use crate::domain::slice::Slice;

/// Where the copy of a store of format `found` stands: beside it.
pub(super) fn copy_of(store: &Path, found: u32) -> PathBuf {
    named_after(store, &format!("format-{found}"))
}

fn named_after(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Does nothing to a store of this format. `path` is `None` in memory, where there is nothing to copy.
pub(super) fn bring_up(db: &Database, found: u32, path: Option<&Path>) -> Result<(), StoreError> {
    if found == FORMAT_VERSION {
        return grow_missing_tree(db);
    }
    if let Some(path) = path {
        let copy = copy_of(path, found);
        back_up(path, &copy).map_err(|error| {
            let megabytes = path.metadata().map_or(0, |file| file.len() / 1_000_000 + 1);
            let reason = format!("{}: {error}; it needs {megabytes} MB of free space there", copy.display());
            StoreError::NoBackup { found, reason }
        })?;
        tracing::warn!(
            from = found,
            to = FORMAT_VERSION,
            copy = %copy.display(),
            "the store is brought to a newer format; the copy is what an older metergate can read"
        );
    }
    let mut write = db.begin_write()?;
    write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
    tables::make_all(&write)?;
    if found < 2 {
        AuditWriter(&write).grow_tree()?;
        AuditWriter(&write).give_leaves()?;
        AuditWriter(&write).give_ids_to_tenants()?;
    }
    if found < 3 {
        give_hours_to_slices(&write)?;
    }
    records::write_format(&mut write.open_table(tables::META)?)?;
    write.commit()?;
    Ok(())
}

/// A store of format 2 of before there was a tree over its audit log gets one: nothing else of it changes.
fn grow_missing_tree(db: &Database) -> Result<(), StoreError> {
    let missing = {
        let read = db.begin_read()?;
        matches!(read.open_table(tables::AUDIT_NODES), Err(redb::TableError::TableDoesNotExist(_)))
    };
    if !missing {
        return Ok(());
    }
    let mut write = db.begin_write()?;
    write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
    tables::make_all(&write)?;
    AuditWriter(&write).grow_tree()?;
    write.commit()?;
    Ok(())
}

/// Up to format 2 all tenants of an hour were folded together: each slice of them is as far as they were.
fn give_hours_to_slices(write: &WriteTransaction) -> Result<(), StoreError> {
    {
        let tenants =
            write.open_table(tables::TENANTS)?.last()?.map_or(0, |(tenant_no, _)| tenant_no.value() as usize + 1);
        let mut hours = write.open_table(tables::HOURS)?;
        for row in write.open_table(tables::HOURS_2)?.iter()? {
            let (hour, mark) = row?;
            for slice in Slice::of_all(tenants) {
                hours.insert((hour.value(), slice.0), mark.value())?;
            }
        }
    }
    write.delete_table(tables::HOURS_2)?;
    Ok(())
}

/// Copies under another name first: a copy that bears its name is whole. Nobody writes to the store meanwhile, since it
/// is locked and not handed out yet.
fn back_up(store: &Path, copy: &Path) -> std::io::Result<()> {
    let unfinished = named_after(copy, "unfinished");
    std::fs::copy(store, &unfinished).inspect_err(|_| {
        let _it_may_not_be_there = std::fs::remove_file(&unfinished);
    })?;
    std::fs::File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, copy)?;
    copy.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}
