//! AWS, as an emulator on this machine plays it: it checks every signature and judges every call by the policies of
//! caller, boundary, session and resource. All tests share it, so each works in a corner of its own.

mod caller;
mod corner;
mod meddler;

use url::Url;

pub use caller::{Answer, Caller, Keys};
pub use corner::{Corner, Role, policy};
pub use meddler::{Meddler, Meddling};

/// The account all of it is in.
pub const ACCOUNT: &str = "123456789012";

/// The region everything is signed for.
pub const REGION: &str = "eu-central-1";

/// Where AWS is, from `COUNTERSIGN_TEST_AWS`.
pub fn aws() -> Url {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests learn of their servers this way"
    )]
    let url = std::env::var("COUNTERSIGN_TEST_AWS").expect(
        "COUNTERSIGN_TEST_AWS is not set: run scripts/test, which starts the emulator tests need",
    );
    url.parse().unwrap()
}
