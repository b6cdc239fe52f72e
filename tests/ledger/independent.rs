//! The verifier that shares no code with Countersign, on the same files as Countersign's own.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::exports::{check_bytes, entries, export};
use super::log_key;

fn python_accepts(directory: &Path, export: &str) -> bool {
    let file = directory.join("export.jsonl");
    std::fs::write(&file, export).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/verify_ledger.py");
    let ran = Command::new("python3")
        .arg(script)
        .arg(&file)
        .arg(log_key().verifying_key().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    match ran.status.code() {
        Some(0) => assert!(said.starts_with("OK: "), "{said}"),
        Some(1) => assert!(said.starts_with("FAILED"), "{said}"),
        other => panic!("{other:?}: {ran:?}"),
    }
    ran.status.success()
}

#[test]
fn finding_b17_both_verifiers_refuse_the_same_files() {
    let directory = tempfile::tempdir().unwrap();
    let honest = export(&entries()[..6]);
    let with = |at: usize, change: &dyn Fn(&mut Value)| {
        let mut lines: Vec<String> = honest.lines().map(Into::into).collect();
        let mut line = serde_json::from_str(&lines[at]).unwrap();
        change(&mut line);
        lines[at] = line.to_string();
        lines.join("\n") + "\n"
    };
    let twice = honest.replacen("{\"seq\":2,", "{\"seq\":7,\"seq\":2,", 1);
    assert_ne!(twice, honest);
    let files = [
        (true, honest.clone()),
        (false, with(0, &|line| line["more"] = json!(1))),
        (
            false,
            with(2, &|line| line["signature"] = line["sig"].take()),
        ),
        (false, with(2, &|line| line["more"] = json!(null))),
        (false, with(2, &|line| line["sig"] = json!(7))),
        (false, with(7, &|line| line["sig"] = json!("AAAA"))),
        (false, with(3, &|line| line["seq"] = json!("2"))),
        (false, twice),
        (false, honest.trim_end().to_owned()),
        (false, format!("{honest}\n")),
    ];
    for (right, file) in files {
        assert_eq!(check_bytes(file.as_bytes(), None).is_ok(), right, "{file}");
        assert_eq!(python_accepts(directory.path(), &file), right, "{file}");
    }
}
