//! For PostgreSQL: a libpq service file and password file.

use std::ffi::OsString;

use countersign_client::{LeaseView, PostgresView};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::{Delivery, Directory};
use crate::cli::exit::{Exit, Failure};
use crate::cli::text::instant;

const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// libpq settings that would override, or bypass, what we hand over.
const MISLEADING: &[&str] = &[
    "PGHOSTADDR",
    "PGPASSWORD",
    "PGREQUIRESSL",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLROOTCERT",
    "PGSSLNEGOTIATION",
    "PGREQUIREAUTH",
    "PGTARGETSESSIONATTRS",
    "PGOPTIONS",
];

/// Writes the files. The password goes into the environment only when `in_environment`.
pub(super) fn lay_out(
    credential: &PostgresView,
    lease: &LeaseView,
    request: &str,
    in_environment: bool,
) -> Result<Delivery, Failure> {
    check(credential, &lease.id, request)?;
    let directory = Directory::make()?;
    let application = format!("countersign:{request}");
    if let Some(pem) = &credential.ca_pem {
        directory.put("ca.pem", pem)?;
    }
    let service = service_file(credential, &directory, &lease.id, &application);
    directory.put("pg_service.conf", &service)?;
    directory.put("pgpass", &password_file(credential))?;
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("PGSERVICEFILE", directory.path("pg_service.conf").into()),
        ("PGSERVICE", lease.id.clone().into()),
        ("PGPASSFILE", directory.path("pgpass").into()),
        ("PGHOST", credential.host.clone().into()),
        ("PGPORT", credential.port.to_string().into()),
        ("PGDATABASE", credential.database.clone().into()),
        ("PGUSER", credential.user.clone().into()),
        ("PGSSLMODE", credential.sslmode.clone().into()),
        ("PGAPPNAME", application.into()),
    ];
    if credential.ca_pem.is_some() {
        variables.push(("PGSSLROOTCERT", directory.path("ca.pem").into()));
    }
    if in_environment {
        variables.push(("PGPASSWORD", credential.password.expose_secret().into()));
    }
    Ok(Delivery {
        directory,
        endpoint: None,
        variables,
        misleading: MISLEADING,
        expires: lease.expires_at.as_deref().and_then(instant),
    })
}

fn service_file(
    credential: &PostgresView,
    directory: &Directory,
    service: &str,
    application: &str,
) -> String {
    let mut text = format!(
        "[{service}]\nhost={}\nport={}\ndbname={}\nuser={}\nsslmode={}\nconnect_timeout=10\napplication_name={application}\n",
        credential.host, credential.port, credential.database, credential.user, credential.sslmode,
    );
    if credential.ca_pem.is_some() {
        text.push_str(&format!(
            "sslrootcert={}\n",
            directory.path("ca.pem").display()
        ));
    }
    text
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
}
