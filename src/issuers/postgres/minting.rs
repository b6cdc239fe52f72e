//! Minting: what is drawn, what is sent, and what an answer means.

use std::time::Duration;

use secrecy::SecretString;

use super::links::Trouble;
use super::text::{self, Birth, Leases};
use super::{PostgresIssuer, scram};
use crate::domain::{Time, lease};
use crate::issuers::password::draw_password;
use crate::issuers::{Left, MintError, MintOrder, PostgresCredential};

/// Logins stay possible this long past the end, so that clocks may differ a little; the end itself does not wait.
const LOGIN_GRACE: Duration = Duration::from_secs(60);

impl PostgresIssuer {
    /// The messages that would mint `order` and end it in the common case, with the verifier of a password nobody knows.
    /// For benchmarks and for auditors.
    ///
    /// # Errors
    /// What is wrong with the order's scope.
    pub fn transcript(&self, order: &MintOrder) -> Result<[String; 2], String> {
        let scope = self.around.read(&order.scope)?;
        let handle = lease::handle_of(&order.lease);
        let password = draw_password(&*self.entropy);
        let verifier = scram::draw_verifier(&password, &*self.entropy);
        let whole = Left {
            ttl: order.ttl,
            mint_within: order.mint_within,
        };
        let birth = self.birth(order, &handle, &verifier, whole, |left| {
            order.ordered.after(left)
        });
        let leases = Leases {
            handles: &[&handle],
            deployment: self.deployment.as_str(),
            server: Some(&order.server),
        };
        let messages = [
            text::mint(&self.names, &birth, &scope),
            text::end(&self.names, &leases),
        ];
        Ok(messages.map(|sql| sql.to_string()))
    }

    /// What is sent of `order`, with what is `left` of its times by the server's clock.
    fn birth<'a>(
        &'a self,
        order: &'a MintOrder,
        handle: &'a str,
        verifier: &'a str,
        left: Left,
        theirs: impl Fn(Duration) -> Time,
    ) -> Birth<'a> {
        Birth {
            handle,
            deployment: self.deployment.as_str(),
            request: order.request.as_str(),
            agent: &order.agent,
            verifier,
            valid_until: theirs(left.ttl + LOGIN_GRACE),
            mint_until: theirs(left.mint_within),
            server: order.server.as_str(),
        }
    }

    pub(super) async fn mint_role(
        &self,
        order: &MintOrder,
    ) -> Result<PostgresCredential, MintError> {
        self.keep_ready();
        let bad_scope = |detail: String| MintError::Refused {
            code: "bad_scope".into(),
            detail,
        };
        let scope = self.around.read(&order.scope).map_err(bad_scope)?;
        let handle = lease::handle_of(&order.lease);
        let (password, verifier) = self.draw_password().await?;
        let borrowed = self.links.borrow(scope.database.as_str()).await;
        let borrowed = borrowed.map_err(|trouble| mint_error(&trouble))?;
        let server = borrowed.server();
        let mut borrowed = Some(borrowed);
        let left = match order.left(self.clock.now()) {
            Ok(left) => left,
            Err(too_late) => {
                self.links.give_back(borrowed);
                return Err(too_late);
            }
        };
        let birth = self.birth(order, &handle, &verifier, left, |left| server.in_(left));
        let sql = text::mint(&self.names, &birth, &scope);
        let answer = self.links.ask(&mut borrowed, &sql).await;
        self.links.give_back(borrowed);
        answer.map_err(|trouble| mint_error(&trouble))?;
        self.act_as_owner(&scope, &handle, &password, &order.server)
            .await?;
        Ok(PostgresCredential {
            host: self.target.host.clone(),
            port: self.target.port,
            database: scope.database.as_str().to_owned(),
            user: handle,
            password,
            sslmode: self.sslmode.into(),
            ca_pem: self.root_pem.clone(),
        })
    }

    /// A password and its verifier, which takes a millisecond to work out, so another thread does.
    async fn draw_password(&self) -> Result<(SecretString, String), MintError> {
        let entropy = self.entropy.clone();
        let drawn = tokio::task::spawn_blocking(move || {
            let password = draw_password(&*entropy);
            let verifier = scram::draw_verifier(&password, &*entropy);
            (password, verifier)
        });
        drawn.await.map_err(|_| MintError::Unavailable {
            detail: "no password could be drawn".into(),
        })
    }
}

/// What a trouble while minting means.
fn mint_error(trouble: &Trouble) -> MintError {
    let detail = trouble.detail();
    let state = match trouble {
        Trouble::Unreachable(_) => return MintError::Unavailable { detail },
        Trouble::Lost(_) => return MintError::Unknown { detail },
        Trouble::Refused { code, .. } => {
            return match code.as_str() {
                "too_late" => MintError::Unavailable { detail },
                "target_changed" | "read_only_target" => MintError::Elsewhere { detail },
                code => MintError::Refused {
                    code: code.into(),
                    detail,
                },
            };
        }
        Trouble::Said { state, .. } => state.as_str(),
    };
    let code = match state {
        // A role of this name is there already: whoever made it, it has to be ended.
        "42710" => return MintError::Unknown { detail },
        "42501" => "insufficient_privilege",
        "42704" => "role_missing",
        // Our schema, our functions.
        "42P01" | "3F000" | "42883" => "not_prepared",
        "3D000" => "database_missing",
        "25006" => return MintError::Elsewhere { detail },
        // Class 28: the broker's own login, which its operator mends.
        _ if ["28", "40", "53", "55", "57", "58", "XX"]
            .iter()
            .any(|class| state.starts_with(class)) =>
        {
            return MintError::Unavailable { detail };
        }
        _ => {
            return MintError::Refused {
                code: format!("sqlstate_{}", state.to_lowercase()),
                detail,
            };
        }
    };
    MintError::Refused {
        code: code.into(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: &str) -> MintError {
        mint_error(&Trouble::Said {
            state: state.into(),
            detail: "words".into(),
        })
    }

    #[test]
    fn errors_say_whether_anything_was_minted() {
        let code = |state: &str| match said(state) {
            MintError::Refused { code, .. } => code,
            MintError::Unavailable { .. } => "unavailable".into(),
            MintError::Elsewhere { .. } => "elsewhere".into(),
            MintError::Unknown { .. } => "unknown".into(),
        };
        assert_eq!(code("42501"), "insufficient_privilege");
        assert_eq!(code("42883"), "not_prepared");
        assert_eq!(code("28P01"), "unavailable");
        assert_eq!(code("40001"), "unavailable");
        assert_eq!(code("55P03"), "unavailable");
        assert_eq!(code("25006"), "elsewhere");
        assert_eq!(code("42710"), "unknown");
        assert_eq!(code("54000"), "sqlstate_54000");
        let lost = mint_error(&Trouble::Lost("cut".into()));
        assert!(matches!(lost, MintError::Unknown { .. }));
        let never = mint_error(&Trouble::Unreachable("refused".into()));
        assert!(matches!(never, MintError::Unavailable { .. }));
    }

    #[test]
    fn refusals_of_our_functions_keep_their_codes() {
        let of = |code: &str| {
            mint_error(&Trouble::Refused {
                code: code.into(),
                detail: "words".into(),
            })
        };
        assert!(matches!(of("too_late"), MintError::Unavailable { .. }));
        assert!(matches!(of("target_changed"), MintError::Elsewhere { .. }));
        let refused = of("rows_unbound");
        assert!(matches!(refused, MintError::Refused { code, .. } if code == "rows_unbound"));
    }
}
