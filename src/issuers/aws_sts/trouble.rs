//! What goes wrong when AWS is asked, and asking again with patience.

use std::time::Duration;

use crate::issuers::{EndError, MintError, TARGET_CHANGED};
use crate::system::Entropy;

/// Attempts at one call.
const ATTEMPTS: u32 = 5;
/// The first pause at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Why AWS gave no answer that is good.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// It was certainly not asked.
    Unsent(String),
    /// It may have done what was asked.
    Lost(String),
    /// Another AWS answered than the one that was meant; what it made is thrown away.
    Elsewhere(String),
    /// It answered with an error; it did nothing.
    Said {
        status: u16,
        code: String,
        detail: String,
    },
}

impl Trouble {
    /// For the operator's log; no secret.
    pub(super) fn detail(&self) -> String {
        match self {
            Trouble::Unsent(detail) | Trouble::Lost(detail) | Trouble::Elsewhere(detail) => {
                detail.clone()
            }
            Trouble::Said { code, detail, .. } => format!("{code}: {detail}"),
        }
    }

    /// AWS's code for it, when it said one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Trouble::Said { code, .. } => Some(code),
            Trouble::Unsent(_) | Trouble::Lost(_) | Trouble::Elsewhere(_) => None,
        }
    }

    /// Whether AWS refused for want of a permission.
    pub(super) fn is_denied(&self) -> bool {
        self.code()
            .is_some_and(|code| ["AccessDenied", "AccessDeniedException"].contains(&code))
    }

    /// Whether asking again later may help and does no harm.
    fn may_pass(&self) -> bool {
        match self {
            Trouble::Unsent(_) => true,
            Trouble::Lost(_) | Trouble::Elsewhere(_) => false,
            Trouble::Said { status, code, .. } => {
                let busy = ["Throttling", "RequestLimitExceeded", "TooManyRequests"];
                *status >= 500 || *status == 429 || busy.iter().any(|word| code.starts_with(word))
            }
        }
    }

    /// What it means for a mint.
    pub(super) fn while_minting(&self) -> MintError {
        let detail = self.detail();
        match self {
            Trouble::Lost(_) => MintError::Unknown { detail },
            Trouble::Elsewhere(_) => MintError::Elsewhere { detail },
            _ if self.may_pass() => MintError::Unavailable { detail },
            Trouble::Unsent(_) => MintError::Unavailable { detail },
            Trouble::Said { code, .. } => MintError::Refused {
                code: words(code),
                detail,
            },
        }
    }

    /// What it means for an end or a proof: `code` when AWS said no.
    pub(super) fn while_ending(&self, code: &str) -> EndError {
        let code = match self {
            Trouble::Said { .. } if !self.may_pass() => code,
            Trouble::Elsewhere(_) => TARGET_CHANGED,
            _ => "target_unavailable",
        };
        EndError {
            code: code.into(),
            detail: self.detail(),
        }
    }
}

/// `PackedPolicyTooLarge` as `packed_policy_too_large`.
fn words(code: &str) -> String {
    let mut text = String::new();
    for letter in code.chars().filter(char::is_ascii_alphanumeric).take(64) {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text.strip_suffix("_exception")
        .map(str::to_owned)
        .unwrap_or(text)
}

/// Asks until there is an answer, AWS says no, or `within` is over. An answer that got lost is not asked for again.
pub(super) async fn patiently<T, F>(
    entropy: &dyn Entropy,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, Trouble>>,
{
    let give_up = tokio::time::Instant::now() + within;
    let mut attempt = 0;
    loop {
        let answer = tokio::time::timeout_at(give_up, ask()).await;
        let trouble = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(trouble)) => trouble,
            Err(_) => return Err(Trouble::Lost("AWS did not answer in time".into())),
        };
        attempt += 1;
        let pause = pause(entropy, attempt);
        let too_late = tokio::time::Instant::now() + pause >= give_up;
        if !trouble.may_pass() || attempt >= ATTEMPTS || too_late {
            return Err(trouble);
        }
        tokio::time::sleep(pause).await;
    }
}

/// A pause of random length, longer with each attempt.
fn pause(entropy: &dyn Entropy, attempt: u32) -> Duration {
    let longest = FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)))
        .min(LONGEST_PAUSE);
    let mut byte = [0];
    entropy.fill(&mut byte);
    longest.mul_f64((f64::from(byte[0]) + 1.0) / 256.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemEntropy;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn said(status: u16, code: &str) -> Trouble {
        Trouble::Said {
            status,
            code: code.into(),
            detail: "words".into(),
        }
    }

    async fn asked(trouble: Trouble) -> (u32, Trouble) {
        let count = AtomicU32::new(0);
        let ask = || {
            count.fetch_add(1, Ordering::SeqCst);
            let trouble = trouble.clone();
            async { Err::<(), _>(trouble) }
        };
        let answer = patiently(&SystemEntropy, Duration::from_secs(60), ask).await;
        (count.into_inner(), answer.unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn case_096_throttling_and_server_errors_are_retried_within_bounds() {
        for (status, code) in [
            (400, "Throttling"),
            (400, "ThrottlingException"),
            (503, "ServiceUnavailable"),
        ] {
            let (count, trouble) = asked(said(status, code)).await;
            assert_eq!(count, ATTEMPTS, "{code}");
            assert!(matches!(
                trouble.while_minting(),
                MintError::Unavailable { .. }
            ));
        }
        let (count, trouble) = asked(Trouble::Unsent("refused".into())).await;
        assert_eq!(count, ATTEMPTS);
        assert!(matches!(
            trouble.while_minting(),
            MintError::Unavailable { .. }
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn case_089_a_policy_too_large_when_packed_is_refused_at_once() {
        let (count, trouble) = asked(said(400, "PackedPolicyTooLarge")).await;
        assert_eq!(count, 1);
        let MintError::Refused { code, .. } = trouble.while_minting() else {
            panic!("not refused");
        };
        assert_eq!(code, "packed_policy_too_large");
    }

    #[tokio::test(start_paused = true)]
    async fn case_095_a_lost_answer_is_unknown_and_not_asked_for_again() {
        let (count, trouble) = asked(Trouble::Lost("cut".into())).await;
        assert_eq!(count, 1);
        assert!(matches!(trouble.while_minting(), MintError::Unknown { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_waited_for_longer_than_allowed() {
        let ask = || std::future::pending::<Result<(), Trouble>>();
        let answer = patiently(&SystemEntropy, Duration::from_secs(5), ask).await;
        assert!(matches!(answer, Err(Trouble::Lost(_))));
    }
}
