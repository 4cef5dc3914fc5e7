//! The key that signs checkpoints: made once, kept in the data folder for its owner only.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

/// The key's file in the data folder: 64 hexadecimal digits.
pub const SIGNING_KEY_FILE: &str = "audit-signing.key";

/// Reads the folder's signing key, or makes one when there is none. Fails when others could read it, or when it is none.
///
/// A key that is lost is replaced by a new one: what the old one signed stays verifiable with the verifier key of then, and
/// the change is a record of the log.
pub fn read_or_make(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join(SIGNING_KEY_FILE);
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match std::fs::File::open(&path) {
        Ok(file) => read(file).map_err(told),
        Err(error) if error.kind() == ErrorKind::NotFound => make(folder, &path).map_err(told),
        Err(error) => Err(told(error)),
    }
}

fn read(file: std::fs::File) -> io::Result<[u8; 32]> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions());
        if mode & 0o077 != 0 {
            let what = "others can read it: chmod 600, and think about whether it is still a secret";
            return Err(io::Error::new(ErrorKind::PermissionDenied, what));
        }
    }
    let mut text = String::new();
    file.take(1_024).read_to_string(&mut text)?;
    let digits = text.trim().as_bytes();
    let broken = || {
        io::Error::new(
            ErrorKind::InvalidData,
            "it is not 64 hexadecimal digits: put the key back, or move the file away to sign with a new one",
        )
    };
    let mut key = [0; 32];
    if digits.len() != 64 {
        return Err(broken());
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(broken);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(key)
}

fn make(folder: &Path, path: &Path) -> io::Result<[u8; 32]> {
    let key: [u8; 32] = crate::ids::random_bytes();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_and_a_broken_or_open_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = read_or_make(folder.path()).unwrap();
        assert_eq!(read_or_make(folder.path()).unwrap(), key);
        let path = folder.path().join(SIGNING_KEY_FILE);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            mode(0o644);
            assert_eq!(read_or_make(folder.path()).unwrap_err().kind(), ErrorKind::PermissionDenied);
            mode(0o600);
        }
        std::fs::write(&path, "abc").unwrap();
        assert!(read_or_make(folder.path()).unwrap_err().to_string().contains(SIGNING_KEY_FILE));
    }

    #[test]
    fn a_changed_key_is_refused_or_another_key() {
        let folder = tempfile::tempdir().unwrap();
        read_or_make(folder.path()).unwrap();
        let path = folder.path().join(SIGNING_KEY_FILE);
        let corpus = [std::fs::read(&path).unwrap()];
        crate::fuzz::fuzz("signing keys", 400, &corpus, |bytes| {
            // Written over, so that it keeps the mode of its owner alone.
            std::fs::write(&path, bytes).unwrap();
            let Ok(key) = read_or_make(folder.path()) else { return false };
            let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(std::str::from_utf8(bytes).unwrap().trim().eq_ignore_ascii_case(&digits));
            true
        });
    }
}
