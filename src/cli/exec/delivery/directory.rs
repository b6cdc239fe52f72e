//! A directory for one command's credential files, removed when dropped.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::cli::connect::{environment, random};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;

/// A fresh 0700 directory.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes it, outside the working directory, where whoever searches a project would find it.
    pub(super) fn make() -> Result<Self, Failure> {
        make_directory().map(Self)
    }

    /// Where a file in it is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a new file, 0600.
    pub(super) fn put(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| cannot_write(&path, &error))
    }

    /// Removes it, and says so if that is not possible.
    pub(super) fn remove(self, output: Output) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            output.warn(&format!(
                "remove {}: {error}; what it holds stops working with the lease",
                self.0.display()
            ));
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // After `remove` there is nothing left, and nobody to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    let next = "set XDG_RUNTIME_DIR to a directory of this user that can be written to";
    Failure::new(
        Exit::NotStarted,
        "delivery",
        format!("write {}: {error}", path.display()),
        next,
    )
}

fn make_directory() -> Result<PathBuf, Failure> {
    let mut bytes = [0; 16];
    random(&mut bytes);
    let name = format!("countersign-{}", hex::encode(bytes));
    let here = std::env::current_dir()
        .and_then(|path| path.canonicalize())
        .ok();
    let runtime = environment("XDG_RUNTIME_DIR").map(PathBuf::from);
    let candidates = [
        runtime,
        Some(std::env::temp_dir()),
        Some("/dev/shm".into()),
        Some("/var/tmp".into()),
    ];
    let mut failure = None;
    for base in candidates.into_iter().flatten() {
        let Ok(base) = base.canonicalize() else {
            continue;
        };
        if here.as_deref().is_some_and(|here| is_inside(&base, here)) {
            continue;
        }
        let path = base.join(&name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) => failure = Some(cannot_write(&path, &error)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        Failure::new(
            Exit::NotStarted,
            "delivery",
            "every directory for temporary files is inside the working directory",
            "start it from another directory, or set XDG_RUNTIME_DIR to one outside",
        )
    }))
}

/// Everything is inside `/`, so a command started there gets no other place.
fn is_inside(path: &Path, working: &Path) -> bool {
    working != Path::new("/") && path.starts_with(working)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_180_dropping_removes_every_file() {
        let directory = Directory::make().unwrap();
        directory.put("pgpass", "secret").unwrap();
        let path = directory.path("pgpass");
        assert!(path.exists());
        drop(directory);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn credentials_are_not_put_where_a_project_is() {
        assert!(is_inside(
            Path::new("/srv/a/project/tmp"),
            Path::new("/srv/a/project")
        ));
        assert!(!is_inside(
            Path::new("/srv/a/project-tmp"),
            Path::new("/srv/a/project")
        ));
        assert!(!is_inside(Path::new("/tmp"), Path::new("/")));
    }
}
