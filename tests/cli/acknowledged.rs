//! B14: the broker is told that a credential arrived before anything is done with it.

use serde_json::json;

use super::fake::{Fake, LEASE};
use super::{Ran, countersign, run};

async fn exec(fake: &Fake, command: &[&str]) -> Ran {
    let mut arguments = vec!["exec", "orders.report", "--param", "days=7", "--"];
    arguments.extend(command);
    run(countersign(fake, &arguments)).await
}

#[tokio::test]
async fn finding_b14_nothing_runs_before_the_credential_is_acknowledged() {
    let acknowledge = format!("POST /v1/leases/{LEASE}/acknowledge");
    let fake = Fake::start("approved").await;
    let ran = exec(&fake, &["true"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(fake.calls(&acknowledge).len(), 1);
    let fake = Fake::start("approved").await;
    let problem = json!({"status": 409, "code": "not_live", "title": "it is being ended"});
    fake.can(&acknowledge, 409, problem);
    let ran = exec(&fake, &["sh", "-c", "echo it ran"]).await;
    assert_eq!(ran.out, "", "{ran:?}");
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("it is being ended"), "{ran:?}");
}
