//! `metergate serve --dev`: a folder that goes away at the end, and a clock that nobody else may move.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};
use super::local::prepare_folder;
use crate::store;
use crate::{config, ids};

/// Marks a folder whose clock was moved: its times may be far ahead, so it is never one of production.
const MARK: &str = "development";

/// The folder of a development server.
pub struct DevelopmentFolder {
    path: PathBuf,
    /// Goes away with it.
    _scratch: Option<Scratch>,
}

/// A temporary folder for this user only, removed when this is dropped.
pub struct Scratch(PathBuf);

impl DevelopmentFolder {
    /// A new temporary folder; or the one that was named, which is kept. Fails for one with data of another server.
    pub fn make(named: Option<&Path>) -> Result<Self, Failure> {
        let (path, scratch) = match named {
            Some(path) => (path.to_owned(), None),
            None => {
                let scratch = Scratch::make("metergate-dev")?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        let mark = path.join(MARK);
        if path.join(store::FILE_NAME).exists() && !mark.exists() {
            return Err(Failure::usage(format!(
                "{} has data that was not made by serve --dev: its clock would be moved, name another --data-dir or none",
                path.display()
            )));
        }
        prepare_folder(&path)?;
        let folder = Self { path, _scratch: scratch };
        fs::write(&mark, "made by metergate serve --dev\n")
            .map_err(|error| Failure::caused(Exit::Unreachable, mark.display(), &error))?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Scratch {
    /// A new one, whose name begins so.
    pub fn make(name: &str) -> Result<Self, Failure> {
        let random: [u8; 8] = ids::random_bytes();
        let name = random.iter().fold(format!("{name}-"), |name, byte| name + &format!("{byte:02x}"));
        let path = config::temporary_folder().join(name);
        prepare_folder(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the temporary folder could not be removed");
        }
    }
}

/// A clock that can be moved is for this machine alone.
pub fn refuse_others(listen: SocketAddr) -> Result<(), Failure> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "serve --dev listens on loopback only, since its clock can be moved, not on {listen}: use --listen 127.0.0.1:8080"
    )))
}

/// Standard output's second line: where the data and the admin key are.
pub fn announce(folder: &Path) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "development: the data and admin.key are in {}, POST /api/dev/clock moves the clock",
        folder.display()
    );
    let _ = out.flush();
}
