//! A stopped data folder, opened by the command itself and asked through the server's own routes.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::admin_key;
use super::failure::{Exit, Failure, chain};
use crate::config::Settings;
use crate::engine::{Metergate, OpenError};
use crate::http::{self, HttpState, LocalRequest};
use crate::jobs::Jobs;
use crate::store;

/// No error of a route is longer, in bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// What a command wants with the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Only looks: a folder without a store is an error.
    Read,
    /// Writes: a folder that does not exist is made.
    Write,
}

/// An opened data folder.
pub struct Local {
    engine: Arc<Metergate>,
    state: HttpState,
    /// Opens the routes of this process only.
    key: String,
    runtime: tokio::runtime::Runtime,
}

impl Local {
    /// Opens the data folder of these settings. Fails when another process has it open.
    pub fn open(settings: &Settings, purpose: Purpose) -> Result<Self, Failure> {
        let folder = settings.data_dir();
        match purpose {
            Purpose::Write => prepare_folder(&folder)?,
            // Asking never makes a store in a folder that has none.
            Purpose::Read if folder.join(store::FILE_NAME).is_file() => {}
            Purpose::Read => {
                return Err(Failure::new(
                    Exit::Unreachable,
                    format!(
                        "there is no metergate data in {}: name its folder with --data-dir, or a running server with --server URL",
                        folder.display()
                    ),
                ));
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::caused(Exit::Failed, "a thread cannot be started", &error))?;
        let engine = Arc::new(Metergate::open_with(settings.engine()).map_err(open_failure)?);
        let key = admin_key::new_key();
        let jobs = Jobs::new(engine.writer(), |job| settings.schedule(job.setting()));
        let state = HttpState::new(engine.clone(), jobs, &key, None, false);
        Ok(Self { engine, state, key, runtime })
    }

    /// Asks a route in this process. Gives the status and the body.
    pub fn call(
        &self,
        method: &str,
        path_and_query: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<(u16, Vec<u8>), Failure> {
        let (content_type, body) = body.unzip();
        let body = body.unwrap_or_default();
        let request = LocalRequest { method, target: path_and_query, key: &self.key, content_type, body };
        let surface = http::surface(self.state.clone());
        let answer = self
            .runtime
            .block_on(http::in_process(surface, request))
            .map_err(|error| Failure::caused(Exit::Failed, "the request cannot be made", &error))?;
        Ok((answer.status, answer.body))
    }

    /// [`Self::call`] for a long answer, whose body goes to `out` piece by piece. Gives the status; the body of one that
    /// is not 2xx is given instead of written.
    pub fn download(&self, path_and_query: &str, out: &mut dyn Write) -> Result<(u16, Vec<u8>), Failure> {
        let request = LocalRequest {
            method: "GET",
            target: path_and_query,
            key: &self.key,
            content_type: None,
            body: Vec::new(),
        };
        let surface = http::surface(self.state.clone());
        // The status comes last: what is short enough may be an error, and is written once it is known not to be.
        let mut held = Vec::new();
        let mut written = 0usize;
        let status = self.runtime.block_on(http::in_process_to(surface, request, |piece| {
            held.extend_from_slice(piece);
            if written > 0 || held.len() > ERROR_BYTES_MAX {
                written += held.len();
                return out.write_all(&std::mem::take(&mut held));
            }
            Ok(())
        }));
        let status =
            status.map_err(|error| Failure::caused(Exit::Failed, "the answer cannot be read or written", &error))?;
        if (200..300).contains(&status) {
            let rest = out.write_all(&std::mem::take(&mut held));
            rest.map_err(|error| Failure::caused(Exit::Failed, "the answer cannot be written", &error))?;
        }
        Ok((status, held))
    }

    /// Saves everything and lets go of the folder.
    pub fn close(self) {
        self.engine.close();
    }
}

/// Makes the data folder, for its owner only.
pub fn prepare_folder(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder).map_err(|error| {
        let what = format!(
            "the data folder {} cannot be made (choose another with --data-dir, or make it writable)",
            folder.display()
        );
        Failure::caused(Exit::Unreachable, what, &error)
    })
}

/// Why the folder could not be opened, with the exit code it means.
pub fn open_failure(error: OpenError) -> Failure {
    let exit = match error {
        OpenError::Setting { .. } => Exit::Usage,
        OpenError::Folder { .. } | OpenError::InUse(_) | OpenError::NewerFormat { .. } | OpenError::Storage(_) => {
            Exit::Unreachable
        }
    };
    let remedy = match error {
        OpenError::InUse(_) => {
            ": its address is what `metergate serve` printed, such as --server http://127.0.0.1:8080"
        }
        _ => "",
    };
    Failure::new(exit, format!("{}{remedy}", chain(&error)))
}
