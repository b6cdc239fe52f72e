//! How the command gets its credential: variables, 0600 files in a fresh 0700 directory, and for AWS an endpoint.
//! All of it is gone when the command has ended.

mod aws;
mod database;
mod directory;
mod mariadb;
mod postgres;

use std::ffi::OsString;

use countersign_client::{CollectedView, CredentialView};

use super::endpoint::Endpoint;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use directory::Directory;

/// What was laid out for the command. Dropping it removes the files and closes the endpoint, on an error or panic too.
#[derive(Debug)]
pub(super) struct Delivery {
    directory: Directory,
    endpoint: Option<Endpoint>,
    variables: Vec<(&'static str, OsString)>,
    misleads: fn(&str) -> bool,
    expires: Option<i64>,
}

impl Delivery {
    /// Lays a collected credential out. The secret itself goes into the environment only when `in_environment`.
    pub(super) async fn lay_out(
        collected: CollectedView,
        request: &str,
        in_environment: bool,
    ) -> Result<Self, Failure> {
        let lease = collected.lease;
        let expires_at = lease.expires_at.clone().unwrap_or_default();
        let mut delivery = match collected.credential {
            CredentialView::Postgres(credential) => {
                postgres::lay_out(&credential, &lease, request, in_environment)?
            }
            CredentialView::Aws(credential) => {
                aws::lay_out(credential, &lease, in_environment).await?
            }
            CredentialView::Mariadb(credential) => {
                mariadb::lay_out(&credential, &lease, in_environment)?
            }
            CredentialView::Unknown => {
                return Err(Failure::new(
                    Exit::Failed,
                    "unknown_credential",
                    "the credential is of a kind this version cannot hand on",
                    "upgrade countersign",
                ));
            }
        };
        delivery.variables.extend([
            ("COUNTERSIGN_LEASE", lease.id.into()),
            ("COUNTERSIGN_REQUEST", request.into()),
            ("COUNTERSIGN_EXPIRES_AT", expires_at.into()),
        ]);
        Ok(delivery)
    }

    /// What the command's environment gets.
    pub(super) fn variables(&self) -> &[(&'static str, OsString)] {
        &self.variables
    }

    /// Which settings of somebody else's would override, or bypass, what is handed over.
    pub(super) fn misleads(&self) -> fn(&str) -> bool {
        self.misleads
    }

    /// The endpoint that hands the credential out, if one does.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    /// When the credential ends, in milliseconds since 1970.
    pub(super) fn expires(&self) -> Option<i64> {
        self.expires
    }

    /// Closes the endpoint, removes the files, and says so if that is not possible.
    pub(super) fn remove(self, output: Output) {
        drop(self.endpoint);
        self.directory.remove(output);
    }
}
