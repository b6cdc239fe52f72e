//! What is kept between two runs for the same question: one 0600 file in a 0700 directory, and a lock beside it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_client::AwsView;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::cli::aws::secret_json;
use crate::cli::connect::environment;
use crate::cli::exit::{Exit, Failure};

/// How far asking has come.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kept {
    /// It may have been asked for, under this idempotency key.
    Asking {
        /// The key.
        key: [u8; 16],
    },
    /// It was asked for.
    Asked {
        /// The request.
        request: String,
        /// The idempotency key it is collected with.
        key: [u8; 16],
    },
    /// It was collected.
    Held(Held),
    /// It was denied or taken away: nobody is asked again until this is forgotten.
    Refused {
        /// Whether a person denied it; otherwise it was taken away.
        denied: bool,
        /// What happened.
        what: String,
    },
}

/// A collected credential.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Held {
    /// The request.
    pub(super) request: String,
    /// Its lease.
    pub(super) lease: String,
    /// When the lease ends by itself.
    pub(super) expires_at: Option<String>,
    /// The credential.
    #[serde(serialize_with = "keep")]
    pub(super) credential: AwsView,
}

/// The one place where a session is written to disk.
fn keep<S: Serializer>(credential: &AwsView, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Kept<'a> {
        access_key_id: &'a str,
        secret_access_key: &'a str,
        session_token: &'a str,
        account_id: &'a str,
        region: &'a str,
        expires_at: &'a str,
    }
    let kept = Kept {
        access_key_id: &credential.access_key_id,
        secret_access_key: credential.secret_access_key.expose_secret(),
        session_token: credential.session_token.expose_secret(),
        account_id: &credential.account_id,
        region: &credential.region,
        expires_at: &credential.expires_at,
    };
    kept.serialize(serializer)
}

/// The place for one question, locked: others who ask the same wait.
#[derive(Debug)]
pub(super) struct Cache {
    file: PathBuf,
    _lock: File,
}

impl Cache {
    /// Locks the place for the question named `name`, waiting for others until `until`.
    pub(super) async fn lock(name: &str, until: Instant) -> Result<Self, Failure> {
        let directory = directory()?;
        let lock = directory.join(format!("{name}.lock"));
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock);
        let file = opened.map_err(|error| cannot_keep(&lock, &error))?;
        check_private(&directory, &file)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::Error(error)) => return Err(cannot_keep(&lock, &error)),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= until => {
                    return Err(Failure::new(
                        Exit::Pending,
                        "pending",
                        "another process has asked for the same and still waits",
                        "run it again once that is decided; `countersign ls` shows where",
                    ));
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(Self {
            file: directory.join(format!("{name}.json")),
            _lock: file,
        })
    }

    /// What is kept. What cannot be read as such is as good as nothing.
    pub(super) fn read(&self) -> Result<Option<Kept>, Failure> {
        match std::fs::read(&self.file).map(Zeroizing::new) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot_keep(&self.file, &error)),
        }
    }

    /// Keeps something in the place of what was there.
    pub(super) fn write(&self, kept: &Kept) -> Result<(), Failure> {
        let fresh = self.file.with_extension("new");
        let write = || -> std::io::Result<()> {
            let bytes = secret_json(kept)?;
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&bytes)?;
            std::fs::rename(&fresh, &self.file)
        };
        write().map_err(|error| cannot_keep(&self.file, &error))
    }

    /// Keeps nothing any more.
    pub(super) fn forget(&self) -> Result<(), Failure> {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(cannot_keep(&self.file, &error))
            }
            _ => Ok(()),
        }
    }
}

/// `countersign` under the runtime directory, or else the state directory, of this user.
fn directory() -> Result<PathBuf, Failure> {
    let base = environment("XDG_RUNTIME_DIR")
        .or_else(|| environment("XDG_STATE_HOME"))
        .or_else(|| environment("HOME").map(|home| format!("{home}/.local/state")));
    let base = base.map(PathBuf::from).filter(|base| base.is_absolute());
    let Some(base) = base else {
        return Err(Failure::usage(
            "no_place",
            "there is no directory to keep the credential in",
            "set XDG_RUNTIME_DIR, XDG_STATE_HOME or HOME to an absolute path",
        ));
    };
    let directory = base.join("countersign");
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.map_err(|error| cannot_keep(&directory, &error))?;
    Ok(directory)
}

/// Nobody else may look into the directory, or own it.
fn check_private(directory: &Path, ours: &File) -> Result<(), Failure> {
    let private = || -> std::io::Result<bool> {
        let (place, file) = (std::fs::symlink_metadata(directory)?, ours.metadata()?);
        let closed = place.permissions().mode() & 0o077 == 0;
        Ok(place.is_dir() && closed && place.uid() == file.uid())
    };
    match private() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::usage(
            "not_private",
            format!("{} is open to others", directory.display()),
            "run chmod 700 on it, as its owner",
        )),
        Err(error) => Err(cannot_keep(directory, &error)),
    }
}

fn cannot_keep(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        "not_kept",
        format!("keep the credential in {}: {error}", path.display()),
        "let this user write there, or set XDG_RUNTIME_DIR to another directory",
    )
}
