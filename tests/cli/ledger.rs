//! `countersign ledger` against a broker.

use serde_json::{Value, json};

use super::fake::Fake;
use super::{countersign, run};

#[tokio::test]
async fn an_export_ends_with_the_checkpoint_that_covers_it() {
    let fake = Fake::start("approved").await;
    fake.can("GET /v1/ledger/checkpoint", 200, json!("x"));
    let ran = run(countersign(&fake, &["ledger", "export"])).await;
    assert_eq!(ran.code, Some(8), "{ran:?}");
    let entries = json!({"data": [
        {"seq": 0, "entry": "{\"v\":1}", "leaf": "aa", "sig": null},
        {"seq": 1, "entry": "{}", "leaf": "bb", "sig": "sig"},
        {"seq": 2, "entry": "later", "leaf": "cc", "sig": null},
    ], "next": null});
    fake.can("GET /v1/ledger/entries", 200, entries);
    fake.tell(|script| {
        script.checkpoint = Some("broker.example/log\n2\nAAAA\n\n— broker.example/log sig\n".into())
    });
    let ran = run(countersign(&fake, &["ledger", "export"])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[0],
        json!({"countersign_ledger": 1, "vkey": "broker.example/log+00000000+KEY="})
    );
    assert_eq!(
        lines[1],
        json!({"seq": 0, "entry": "{\"v\":1}", "leaf": "aa"})
    );
    assert_eq!(
        lines[2],
        json!({"seq": 1, "entry": "{}", "leaf": "bb", "sig": "sig"})
    );
    assert!(
        lines[3]["checkpoint"]
            .as_str()
            .unwrap()
            .starts_with("broker.example/log\n2\n")
    );
    for (key, code) in [("broker.example/log+00000000+KEY=", 0), ("another", 1)] {
        let ran = run(countersign(&fake, &["ledger", "export", "--key", key])).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.out.is_empty(), code != 0, "{ran:?}");
    }
    fake.tell(|script| script.checkpoint = Some("broker.example/log\n5\nAAAA\n".into()));
    let ran = run(countersign(&fake, &["ledger", "export"])).await;
    assert_eq!(ran.code, Some(1), "too few entries are no export: {ran:?}");
}
