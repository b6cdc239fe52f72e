//! What the deliveries for databases share: the password and the certificate as files of their own, for the clients that
//! have no file format for them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::Directory;
use crate::cli::exit::Failure;

/// Variables for the command.
pub(super) type Variables = Vec<(&'static str, OsString)>;

/// The files.
pub(super) struct Files {
    /// Holds the password and nothing else.
    password: PathBuf,
    /// Whom the server's certificate has to be from, when it is to be verified: PEM.
    pub(super) ca: Option<PathBuf>,
}

impl Files {
    /// Writes them. Without an authority of the target's own this machine's bundle is used, and named all the same: some
    /// clients look for authorities nowhere, and then connect without TLS.
    pub(super) fn write(
        directory: &Directory,
        password: &SecretString,
        verify: bool,
        ca_pem: Option<&str>,
    ) -> Result<Self, Failure> {
        directory.put("password", password.expose_secret())?;
        let ca = match ca_pem {
            _ if !verify => None,
            Some(pem) => {
                directory.put("ca.pem", pem)?;
                Some(directory.path("ca.pem"))
            }
            None => openssl_probe::probe().cert_file,
        };
        let password = directory.path("password");
        Ok(Self { password, ca })
    }

    /// Where they are, and an address for JDBC that holds no secret, if it can be written without quoting.
    pub(super) fn variables(&self, jdbc: &Jdbc<'_>) -> Variables {
        let mut variables = vec![("COUNTERSIGN_PASSWORD_FILE", self.password.clone().into())];
        if let Some(ca) = &self.ca {
            variables.push(("COUNTERSIGN_CA_FILE", ca.into()));
        }
        if let Some(url) = jdbc.url(self.ca.as_deref()) {
            variables.push(("COUNTERSIGN_JDBC_URL", url.into()));
        }
        variables
    }
}

/// What a JDBC address is made of.
pub(super) struct Jdbc<'a> {
    pub(super) driver: &'static str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
    /// Settings besides the user.
    pub(super) settings: &'a [(&'static str, &'a str)],
    /// The setting that names the file with the authority's certificate.
    pub(super) ca: &'static str,
}

impl Jdbc<'_> {
    fn url(&self, ca: Option<&Path>) -> Option<String> {
        let ca = match ca {
            Some(path) => Some(path.to_str()?),
            None => None,
        };
        let settings = [("user", self.user)].into_iter();
        let settings = settings.chain(self.settings.iter().copied());
        let settings: Vec<_> = settings.chain(ca.map(|path| (self.ca, path))).collect();
        // The drivers do not agree on how to quote what has a meaning in an address.
        let plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let path = |text: &str| text.split('/').all(plain);
        let fits = plain(self.host)
            && plain(self.database)
            && settings.iter().all(|(_, value)| path(value));
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        fits.then(|| {
            let Self {
                driver,
                host,
                port,
                database,
                ..
            } = self;
            format!(
                "jdbc:{driver}://{host}:{port}/{database}?{}",
                settings.join("&")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jdbc<'a>(host: &'a str, database: &'a str) -> Jdbc<'a> {
        Jdbc {
            driver: "postgresql",
            host,
            port: 5432,
            database,
            user: "jit_a",
            settings: &[("sslmode", "verify-full")],
            ca: "sslrootcert",
        }
    }

    #[test]
    fn an_address_for_jdbc_is_whole_or_absent() {
        let ca = Some(Path::new("/run/a/ca.pem"));
        assert_eq!(
            jdbc("db.internal", "orders").url(ca).unwrap(),
            "jdbc:postgresql://db.internal:5432/orders?user=jit_a&sslmode=verify-full&sslrootcert=/run/a/ca.pem"
        );
        for (host, database) in [
            ("/run/pg", "orders"),
            ("::1", "orders"),
            ("db", "a&sslmode=disable"),
            ("db", "a/b"),
        ] {
            assert_eq!(jdbc(host, database).url(ca), None, "{host} {database}");
        }
        assert_eq!(
            jdbc("db", "orders").url(Some(Path::new("/run/a b/ca.pem"))),
            None
        );
    }
}
