//! Minting, and what an answer to it means.

use std::time::Duration;

use sqlx::mysql::MySqlRow;

use super::links::{For, Trouble};
use super::text::{self, Making};
use super::{MariadbIssuer, PERFORMANCE_SCHEMA_OFF, number, words};
use crate::domain::lease;
use crate::issuers::password::draw_password;
use crate::issuers::{MariadbCredential, MintError, MintOrder};

impl MariadbIssuer {
    pub(super) async fn mint_account(
        &self,
        order: &MintOrder,
    ) -> Result<MariadbCredential, MintError> {
        let bad_scope = |detail: String| MintError::Refused {
            code: "bad_scope".into(),
            detail,
        };
        let scope = self.read(&order.scope).map_err(bad_scope)?;
        let handle = lease::handle_of(&order.lease);
        order.left(self.clock.now())?;
        let password = draw_password(&*self.entropy);
        let making = Making {
            handle: &handle,
            verifier: &self.names.plugin.verifier(&password),
            request: &order.request.to_string(),
            agent: &order.agent,
        };
        let place = self.place(Some(&order.server));
        let text = |until: &str| place.mint(making, &scope, until);
        text("").map_err(bad_scope)?;
        let answer = self
            .links
            .mint(|theirs| {
                let left = order.left(self.clock.now());
                let until = theirs(left.map_or(Duration::ZERO, |left| left.mint_within));
                text(&text::timestamp(until)).unwrap_or_default()
            })
            .await;
        let rows = answer.map_err(|trouble| call_error(&trouble))?;
        outcome(&rows)?;
        let prepared = words(&rows, "data");
        if !prepared.is_empty() {
            let note = place.note(&handle, &prepared);
            let noted = self.links.ask(For::Mints, &note).await;
            noted.map_err(|trouble| MintError::Unknown {
                detail: format!("note prepared transactions: {}", trouble.detail()),
            })?;
        }
        Ok(MariadbCredential {
            host: self.target.host.clone(),
            port: self.target.port,
            database: self.target.database.clone(),
            user: handle,
            password,
            verify_tls: self.names.encrypted,
            ca_pem: self.root_pem.clone(),
        })
    }
}

fn too_late() -> MintError {
    MintError::Unavailable {
        detail: "too late: the time for this mint is over".into(),
    }
}

fn refused(code: &str, detail: impl Into<String>) -> MintError {
    MintError::Refused {
        code: code.into(),
        detail: detail.into(),
    }
}

/// What the answer to a mint means. Anything unforeseen after the call was sent may have minted.
fn outcome(rows: &[MySqlRow]) -> Result<(), MintError> {
    let outcome = words(rows, "outcome").pop().unwrap_or_default();
    let said = words(rows, "words").pop().unwrap_or_default();
    let unknown = |detail: &str| MintError::Unknown {
        detail: detail.into(),
    };
    match outcome.as_str() {
        "minted" => Ok(()),
        "too_late" => Err(too_late()),
        // An account of this name is there already: whoever made it, it has to be ended.
        "exists" => Err(unknown("an account of this name is there, or being made")),
        "elsewhere" => Err(MintError::Elsewhere {
            detail: format!("the server is {said}"),
        }),
        "read_only" => Err(refused(
            "read_only_target",
            "the server is read-only; point the target at the primary",
        )),
        "unseen" => Err(refused("performance_schema_off", PERFORMANCE_SCHEMA_OFF)),
        "delayed" => Err(refused(
            "delayed_inserts",
            format!(
                "rows that a lease adds to {said} with INSERT DELAYED would come after its end: SET GLOBAL max_delayed_threads = 0 (and in the server's configuration), or make it an InnoDB table"
            ),
        )),
        "bad_argument" => Err(refused(
            "bad_argument",
            "the procedure refused its arguments; run `countersign target init-sql` again",
        )),
        "refused" => {
            let code = number(rows, "code").unwrap_or_default();
            Err(refusal(code, &said))
        }
        _ => Err(unknown("the procedure gave no outcome")),
    }
}

/// What the procedure met and cleaned up behind. It had seen that the server is not read-only.
fn refusal(code: i64, said: &str) -> MintError {
    let detail = format!("{said} (error {code})");
    let code = match code {
        // Out of connections, memory, disk, time or locks.
        1021 | 1028 | 1037 | 1040 | 1041 | 1205 | 1213 | 1317 | 1969 => {
            return MintError::Unavailable { detail };
        }
        1044 | 1142 | 1143 | 1227 | 1370 | 1410 => "insufficient_privilege",
        1049 | 1146 => "table_missing",
        1054 => "column_missing",
        // One number for every option that forbids a statement; the option is named in it, in every language.
        1290 if said.contains("strict-password-validation") => "password_validation",
        1290 if said.contains("skip-grant-tables") => "accounts_switched_off",
        1290 if said.contains("read-only") => "read_only_target",
        1819 => "password_validation",
        1836 => "read_only_target",
        1524 => "plugin_missing",
        code => return refused(&format!("error_{code}"), detail),
    };
    match code {
        "password_validation" => refused(
            code,
            format!(
                "{detail}; a lease's account is made with a verifier, which password validation cannot judge: SET GLOBAL strict_password_validation = OFF"
            ),
        ),
        code => refused(code, detail),
    }
}

/// What an error instead of an outcome means.
fn call_error(trouble: &Trouble) -> MintError {
    let detail = trouble.detail();
    let code = match trouble {
        Trouble::Unreachable(_) => return MintError::Unavailable { detail },
        Trouble::Lost(_) => return MintError::Unknown { detail },
        // The broker's own login, which its operator mends.
        Trouble::Barred { .. } => return MintError::Unavailable { detail },
        // Said before the procedure began.
        Trouble::Said { code, .. } => match code {
            1046 | 1049 | 1146 | 1305 | 1318 | 1370 => "not_prepared",
            1449 => "definer_missing",
            _ => return MintError::Unknown { detail },
        },
    };
    refused(code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16) -> MintError {
        call_error(&Trouble::Said {
            code,
            detail: "words".into(),
        })
    }

    #[test]
    fn errors_say_whether_anything_was_minted() {
        assert!(matches!(of(1305), MintError::Refused { code, .. } if code == "not_prepared"));
        assert!(matches!(of(1449), MintError::Refused { code, .. } if code == "definer_missing"));
        assert!(matches!(of(1396), MintError::Unknown { .. }));
        assert!(matches!(of(2013), MintError::Unknown { .. }));
        let lost = call_error(&Trouble::Lost("cut".into()));
        assert!(matches!(lost, MintError::Unknown { .. }));
        let never = call_error(&Trouble::Unreachable("refused".into()));
        assert!(matches!(never, MintError::Unavailable { .. }));
        assert!(matches!(refusal(1205, ""), MintError::Unavailable { .. }));
    }

    #[test]
    fn finding_t21_one_number_is_not_taken_for_one_cause() {
        let running = |option: &str| {
            format!(
                "The MariaDB server is running with the --{option} option so it cannot execute this statement"
            )
        };
        for (number, said, expected) in [
            (1142, String::new(), "insufficient_privilege"),
            (1146, String::new(), "table_missing"),
            (1054, String::new(), "column_missing"),
            (
                1290,
                running("strict-password-validation"),
                "password_validation",
            ),
            (1290, running("skip-grant-tables"), "accounts_switched_off"),
            (1290, running("read-only"), "read_only_target"),
            (1290, running("secure-file-priv"), "error_1290"),
            (1819, String::new(), "password_validation"),
        ] {
            match refusal(number, &said) {
                MintError::Refused { code, .. } => assert_eq!(code, expected, "{said}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
