//! The credential on disk: a libpq service file and password file, 0600 in a fresh 0700 directory, removed when dropped.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use countersign_client::PostgresView;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::cli::connect::{environment, random};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;

const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// Credential files. Dropping it removes them, on an error or panic too.
#[derive(Debug)]
pub(super) struct Delivery {
    directory: PathBuf,
    service: String,
    application: String,
    has_authorities: bool,
}

impl Delivery {
    /// Writes the files.
    pub(super) fn write(
        credential: &PostgresView,
        lease: &str,
        request: &str,
    ) -> Result<Self, Failure> {
        check(credential, lease, request)?;
        let directory = make_directory()?;
        // Made first, so that a failure below removes what is there.
        let delivery = Self {
            directory,
            service: lease.to_owned(),
            application: format!("countersign:{request}"),
            has_authorities: credential.ca_pem.is_some(),
        };
        if let Some(pem) = &credential.ca_pem {
            delivery.put("ca.pem", pem)?;
        }
        delivery.put("pg_service.conf", &delivery.service_file(credential))?;
        delivery.put("pgpass", &password_file(credential))?;
        Ok(delivery)
    }

    /// What the command's environment gets. The password only when `with_password`.
    pub(super) fn variables(
        &self,
        credential: &PostgresView,
        with_password: bool,
    ) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("PGSERVICEFILE", self.path("pg_service.conf").into()),
            ("PGSERVICE", self.service.clone().into()),
            ("PGPASSFILE", self.path("pgpass").into()),
            ("PGHOST", credential.host.clone().into()),
            ("PGPORT", credential.port.to_string().into()),
            ("PGDATABASE", credential.database.clone().into()),
            ("PGUSER", credential.user.clone().into()),
            ("PGSSLMODE", credential.sslmode.clone().into()),
            ("PGAPPNAME", self.application.clone().into()),
        ];
        if self.has_authorities {
            variables.push(("PGSSLROOTCERT", self.path("ca.pem").into()));
        }
        if with_password {
            variables.push(("PGPASSWORD", credential.password.expose_secret().into()));
        }
        variables
    }

    /// Removes the files, and says so if that is not possible.
    pub(super) fn remove(self, output: Output) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            output.warn(&format!(
                "remove {}: {error}; what it holds stops working with the lease",
                self.directory.display()
            ));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn service_file(&self, credential: &PostgresView) -> Zeroizing<String> {
        let mut text = format!(
            "[{}]\nhost={}\nport={}\ndbname={}\nuser={}\nsslmode={}\nconnect_timeout=10\napplication_name={}\n",
            self.service,
            credential.host,
            credential.port,
            credential.database,
            credential.user,
            credential.sslmode,
            self.application
        );
        if self.has_authorities {
            text.push_str(&format!("sslrootcert={}\n", self.path("ca.pem").display()));
        }
        Zeroizing::new(text)
    }

    fn put(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| cannot_write(&path, &error))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // After `remove` there is nothing left, and nobody to tell.
        let _ = std::fs::remove_dir_all(&self.directory);
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

/// The service file has no way to quote, so a value that could end its line or read as something else is refused.
fn check(credential: &PostgresView, lease: &str, request: &str) -> Result<(), Failure> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 255
            && text.trim() == text
            && !text.contains(char::is_control)
    };
    let id = |text: &str| {
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let wrong = if !plain(&credential.host) {
        "host"
    } else if !plain(&credential.database) {
        "database"
    } else if !plain(&credential.user) {
        "user"
    } else if credential.password.expose_secret().is_empty()
        || credential
            .password
            .expose_secret()
            .contains(char::is_control)
    {
        "password"
    } else if !SSL_MODES.contains(&credential.sslmode.as_str()) {
        "sslmode"
    } else if lease.is_empty() || !id(lease) || !id(request) {
        "id"
    } else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::NotStarted,
        "delivery",
        format!("the credential's {wrong} cannot be written to a libpq service file"),
        "check the target's settings in countersign.toml",
    ))
}

/// One line for the host as given, and one for how libpq looks a socket directory up.
fn password_file(credential: &PostgresView) -> Zeroizing<String> {
    let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    let rest = Zeroizing::new(format!(
        "{}:{}:{}:{}\n",
        credential.port,
        escape(&credential.database),
        escape(&credential.user),
        Zeroizing::new(escape(credential.password.expose_secret())).as_str()
    ));
    let mut text = Zeroizing::new(format!("{}:{}", escape(&credential.host), rest.as_str()));
    if credential.host.starts_with('/') {
        text.push_str("localhost:");
        text.push_str(&rest);
    }
    text
}

/// A fresh directory only this user can enter, outside the working directory, where whoever searches a project would find it.
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

    fn credential(host: &str, user: &str, password: &str) -> PostgresView {
        PostgresView {
            host: host.into(),
            port: 5432,
            database: "orders".into(),
            user: user.into(),
            password: password.into(),
            sslmode: "verify-full".into(),
            ca_pem: None,
        }
    }

    #[test]
    fn a_password_file_escapes_what_separates() {
        let text = password_file(&credential("::1", "jit_a", "a:b\\c"));
        assert_eq!(*text, "\\:\\:1:5432:orders:jit_a:a\\:b\\\\c\n");
        let socket = password_file(&credential("/run/pg", "jit_a", "p"));
        assert_eq!(
            *socket,
            "/run/pg:5432:orders:jit_a:p\nlocalhost:5432:orders:jit_a:p\n"
        );
    }

    #[test]
    fn a_value_cannot_add_a_line_to_the_service_file() {
        assert!(check(&credential("db.internal", "jit_a", "p"), "lse_a", "req_a").is_ok());
        for (host, user, password, lease) in [
            ("db\nsslmode=disable", "u", "p", "lse_a"),
            ("db", "u\rx", "p", "lse_a"),
            (" db", "u", "p", "lse_a"),
            ("", "u", "p", "lse_a"),
            ("db", "u", "p\n*:*:*:*:q", "lse_a"),
            ("db", "u", "p", "x]\n[y"),
            ("db", "u", "p", ""),
        ] {
            let failure = check(&credential(host, user, password), lease, "req_a").unwrap_err();
            assert_eq!(failure.code, "delivery");
            assert!(!failure.what.contains('\n'));
        }
        let mode = PostgresView {
            sslmode: "maybe".into(),
            ..credential("db", "u", "p")
        };
        assert!(check(&mode, "lse_a", "req_a").is_err());
    }

    #[test]
    fn case_180_dropping_removes_every_file() {
        let delivery = Delivery::write(&credential("db", "u", "p"), "lse_a", "req_a").unwrap();
        let directory = delivery.directory.clone();
        assert!(directory.join("pgpass").exists());
        drop(delivery);
        assert!(!directory.exists());
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
