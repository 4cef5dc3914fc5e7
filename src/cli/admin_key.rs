//! The admin key: made once, kept in the data folder for its owner only, or given by the environment.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};
use super::local::open_failure;
use super::show;
use crate::config::Settings;
use crate::domain::actor::Actor;
use crate::engine::{Metergate, OpenError};
use crate::keys::new_secret;
use crate::store;

/// The key's file in the data folder.
const FILE_NAME: &str = "admin.key";
/// The most bytes that are read of it.
const FILE_BYTES_MAX: u64 = 4_096;

/// The key of a data folder, and whether it was made just now.
pub struct AdminKey {
    /// What a client sends.
    pub key: String,
    /// The file it was written to now; `None` when it existed.
    pub made: Option<PathBuf>,
}

/// Reads the folder's key, or makes one when there is none.
pub fn read_or_make(folder: &Path) -> Result<AdminKey, Failure> {
    if let Some(key) = read(folder)? {
        return Ok(AdminKey { key, made: None });
    }
    let key = new_key();
    let path = folder.join(FILE_NAME);
    match write(folder, &path, &key) {
        Ok(()) => Ok(AdminKey { key, made: Some(path) }),
        // Another process was first: its key counts.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match read(folder)? {
            Some(key) => Ok(AdminKey { key, made: None }),
            None => Err(Failure::caused(Exit::Unreachable, path.display(), &error)),
        },
        Err(error) => {
            let what = format!("the admin key cannot be written to {} (make the folder writable)", path.display());
            Err(Failure::caused(Exit::Unreachable, what, &error))
        }
    }
}

/// The folder's key, if there is one. Fails when others could read it, or when it is empty.
pub fn read(folder: &Path) -> Result<Option<String>, Failure> {
    let path = folder.join(FILE_NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => {
            return Err(Failure::caused(Exit::Unreachable, format!("{} cannot be read", path.display()), &error));
        }
    };
    refuse_loose_mode(&path, &file)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| Failure::caused(Exit::Failed, format!("{} cannot be read", path.display()), &error))?;
    check(text.trim()).map_err(|reason| {
        Failure::new(
            Exit::Failed,
            format!("{}: {reason}: remove the file, and `metergate serve` makes a new key", path.display()),
        )
    })?;
    Ok(Some(text.trim().to_owned()))
}

/// Makes the key of a stopped data folder anew, audited. Refuses while a server has the folder, and where the environment
/// sets the key.
pub fn reset(settings: &Settings) -> Result<Exit, Failure> {
    if settings.value("admin_key").is_some() {
        return Err(Failure::usage(
            "METERGATE_ADMIN_KEY sets the admin key, not admin.key: change it where it is set and restart the server; \
             or unset it, and run this again",
        ));
    }
    let folder = settings.data_dir();
    if !folder.join(store::FILE_NAME).is_file() {
        let what = format!("there is no metergate data in {}: name its folder with --data-dir", folder.display());
        return Err(Failure::new(Exit::Unreachable, what));
    }
    let engine = Metergate::open_with(settings.engine()).map_err(|error| match error {
        OpenError::InUse(folder) => {
            let what = format!("a server has the data folder {folder} open: stop it first, then run this again");
            Failure::new(Exit::Unreachable, what)
        }
        error => open_failure(error),
    })?;
    let (path, key) = (folder.join(FILE_NAME), new_key());
    let failed = |error: std::io::Error| {
        let what = format!("the admin key cannot be written to {} (make the folder writable)", path.display());
        Failure::caused(Exit::Failed, what, &error)
    };
    let outcome = write_unfinished(&folder, &key).map_err(failed).and_then(|unfinished| {
        // Told before it is true: a new key that nobody is told of would be worse.
        let audited = engine.api_keys().record_built_in_reset(&Actor::named("keys reset-admin"));
        let replaced = match audited {
            Ok(()) => std::fs::rename(&unfinished, &path).and_then(|()| sync_folder(&folder)).map_err(failed),
            Err(error) => Err(Failure::caused(Exit::Failed, "the audit log cannot be written", &error)),
        };
        if replaced.is_err() {
            // A file left behind is harmless and for the owner only.
            let _ = std::fs::remove_file(&unfinished);
        }
        replaced
    });
    engine.close();
    outcome?;
    show::print(format!("a new admin key is in {}; the old one opens nothing any more", path.display()));
    Ok(Exit::Ok)
}

/// Whether a text can be sent as a key. Fails with the reason.
pub fn check(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        Err("the key is empty")
    } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("a key is of visible ASCII characters without spaces")
    } else {
        Ok(())
    }
}

#[cfg(unix)]
fn refuse_loose_mode(path: &Path, file: &File) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file
        .metadata()
        .map_err(|error| Failure::caused(Exit::Unreachable, format!("{} cannot be read", path.display()), &error))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!(
            "{} has mode {mode:04o}, so others can read the key: run `chmod 600 {}`",
            path.display(),
            path.display()
        ),
    ))
}

#[cfg(not(unix))]
fn refuse_loose_mode(_path: &Path, _file: &File) -> Result<(), Failure> {
    Ok(())
}

/// `mg_` and 256 random bits in hexadecimal digits.
pub fn new_key() -> String {
    new_secret().expose().to_owned()
}

/// Writes the whole key under another name first, so that no one ever reads half of it.
fn write(folder: &Path, path: &Path, key: &str) -> std::io::Result<()> {
    let unfinished = write_unfinished(folder, key)?;
    // Unlike a rename, a link never replaces a key that another process has just made.
    let written = std::fs::hard_link(&unfinished, path);
    // A file left behind is harmless and for the owner only.
    let _ = std::fs::remove_file(&unfinished);
    written?;
    sync_folder(folder)
}

fn write_unfinished(folder: &Path, key: &str) -> std::io::Result<PathBuf> {
    let unfinished = folder.join(format!("{FILE_NAME}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options.open(&unfinished).and_then(|mut file| {
        writeln!(file, "{key}")?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(unfinished),
        Err(error) => {
            let _ = std::fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let first = read_or_make(folder.path()).unwrap();
        assert!(first.made.is_some() && first.key.starts_with("mg_") && first.key.len() == 67);
        let second = read_or_make(folder.path()).unwrap();
        assert!(second.made.is_none() && second.key == first.key);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = read_or_make(folder.path()).unwrap().made.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let failure = read(folder.path()).unwrap_err();
        assert!(failure.message.contains("0644") && failure.message.contains("chmod 600"), "{failure}");
    }
}
