//! Finding and starting the command.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::exit::{Exit, Failure};

/// What `exec` proves its identity with, or where that is kept: nothing the command should have.
const OURS: [&str; 6] = [
    "COUNTERSIGN_TOKEN",
    "COUNTERSIGN_KEY",
    "COUNTERSIGN_WORKLOAD",
    "COUNTERSIGN_AGENT",
    "COUNTERSIGN_OPERATOR",
    "COUNTERSIGN_AUDIENCE",
];

/// Where the command is, found before anybody is asked for anything.
pub(super) fn find(command: &[OsString]) -> Result<PathBuf, Failure> {
    let name = command
        .first()
        .map_or_else(|| OsStr::new(""), OsString::as_os_str);
    let candidates: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
        vec![PathBuf::from(name)]
    } else {
        search_path()
            .iter()
            .map(|directory| directory.join(name))
            .collect()
    };
    if let Some(found) = candidates.iter().find(|path| is_executable(path)) {
        return Ok(found.clone());
    }
    match candidates
        .iter()
        .find(|path| path.exists() && !name.is_empty())
    {
        Some(path) => Err(Failure::new(
            Exit::NotExecutable,
            "not_executable",
            format!("{} cannot be executed; nobody was asked", path.display()),
            "name a program, or run chmod +x on it",
        )),
        None => Err(Failure::new(
            Exit::NotFound,
            "command_not_found",
            format!(
                "there is no command {}; nobody was asked",
                Path::new(name).display()
            ),
            "check its name and PATH",
        )),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command is found as a shell would find it"
)]
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).collect()
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Starts the command in our process group, with `variables`, and without those that mislead and what is ours.
pub(super) fn start(
    command: &[OsString],
    variables: &[(&'static str, OsString)],
    misleads: fn(&str) -> bool,
) -> Result<tokio::process::Child, Failure> {
    let mut parts = command.iter();
    let mut process = Command::new(
        parts
            .next()
            .map_or_else(|| OsStr::new(""), OsString::as_os_str),
    );
    process.args(parts);
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| OURS.iter().any(|ours| name.starts_with(ours)) || misleads(name))
        {
            process.env_remove(name);
        }
    }
    process.envs(variables.iter().map(|(name, value)| (name, value)));
    tokio::process::Command::from(process)
        .spawn()
        .map_err(|error| {
            let (exit, code) = match error.kind() {
                std::io::ErrorKind::NotFound => (Exit::NotFound, "command_not_found"),
                _ => (Exit::NotExecutable, "not_executable"),
            };
            Failure::new(
                exit,
                code,
                format!("start the command: {error}"),
                "check that it is a program, and its interpreter's path",
            )
        })
}

/// Keeps other processes of this user, the command among them, from reading our memory and environment.
/// The command itself is not affected: `execve` undoes it. Where the system cannot, nothing changes.
pub(crate) fn hide_from_others() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}
