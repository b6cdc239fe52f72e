//! For PostgreSQL: libpq's variables and password file, which nearly every client understands, unlike its service file.

use countersign_client::{LeaseView, PostgresView};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::database::{Files, Jdbc, Variables};
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

/// Settings of libpq that say nothing about where and as whom to connect.
const HARMLESS: [&str; 5] = [
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGDATA",
    "PGGEQO",
    "PGTZ",
];

/// Whether a variable of the user's could override, or bypass, what we hand over: libpq gets more of them every year, and
/// some drivers stop at one that they do not know.
fn misleads(name: &str) -> bool {
    name.strip_prefix("PG")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase()))
        && !HARMLESS.contains(&name)
}

/// Writes the files. The password goes into the environment only when `in_environment`.
pub(super) fn lay_out(
    credential: &PostgresView,
    lease: &LeaseView,
    request: &str,
    in_environment: bool,
) -> Result<Delivery, Failure> {
    check(credential, request)?;
    let directory = Directory::make()?;
    let files = Files::write(
        &directory,
        &credential.password,
        credential.sslmode.starts_with("verify"),
        credential.ca_pem.as_deref(),
    )?;
    directory.put("pgpass", &password_file(credential))?;
    let mut variables: Variables = vec![
        ("PGHOST", credential.host.clone().into()),
        ("PGPORT", credential.port.to_string().into()),
        ("PGDATABASE", credential.database.clone().into()),
        ("PGUSER", credential.user.clone().into()),
        ("PGPASSFILE", directory.path("pgpass").into()),
        ("PGSSLMODE", credential.sslmode.clone().into()),
        ("PGCONNECT_TIMEOUT", "10".into()),
        ("PGAPPNAME", format!("countersign:{request}").into()),
    ];
    if let Some(ca) = &files.ca {
        variables.push(("PGSSLROOTCERT", ca.into()));
    }
    variables.extend(files.variables(&Jdbc {
        driver: "postgresql",
        host: &credential.host,
        port: credential.port,
        database: &credential.database,
        user: &credential.user,
        settings: &[("sslmode", &credential.sslmode)],
        ca: "sslrootcert",
    }));
    if in_environment {
        variables.push(("PGPASSWORD", credential.password.expose_secret().into()));
    }
    Ok(Delivery {
        directory,
        endpoint: None,
        variables,
        misleads,
        expires: lease.expires_at.as_deref().and_then(instant),
    })
}

/// A value that could end its line in the password file, or that no variable can hold, is refused.
fn check(credential: &PostgresView, request: &str) -> Result<(), Failure> {
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
    } else if !id(request) {
        "id"
    } else {
        return Ok(());
    };
    Err(Failure::new(
        Exit::NotStarted,
        "delivery",
        format!("the credential's {wrong} cannot be handed to libpq"),
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
    fn a_value_cannot_add_a_line_to_the_password_file() {
        assert!(check(&credential("db.internal", "jit_a", "p"), "req_a").is_ok());
        for (host, user, password, request) in [
            ("db\nsslmode=disable", "u", "p", "req_a"),
            ("db", "u\rx", "p", "req_a"),
            (" db", "u", "p", "req_a"),
            ("", "u", "p", "req_a"),
            ("db", "u", "p\n*:*:*:*:q", "req_a"),
            ("db", "u", "p", "req_a b"),
        ] {
            let failure = check(&credential(host, user, password), request).unwrap_err();
            assert_eq!(failure.code, "delivery");
            assert!(!failure.what.contains('\n'));
        }
        let mode = PostgresView {
            sslmode: "maybe".into(),
            ..credential("db", "u", "p")
        };
        assert!(check(&mode, "req_a").is_err());
    }

    #[test]
    fn the_users_own_ways_to_a_server_are_kept_out() {
        for name in [
            "PGPASSWORD",
            "PGHOSTADDR",
            "PGSERVICE",
            "PGSYSCONFDIR",
            "PGSSLCERT",
            "PGNEXTYEARS",
        ] {
            assert!(misleads(name), "{name}");
        }
        for name in ["PGTZ", "PG", "PG_COLOR", "PGBOUNCER_URL", "PATH"] {
            assert!(!misleads(name), "{name}");
        }
    }
}
