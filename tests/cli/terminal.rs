//! On a terminal: text that would steer it, and keys that send signals. `script` (Debian's bsdutils) gives the terminal.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::fake::{Fake, REQUEST};
use super::{assert_nothing_left, countersign};

/// The same command on a terminal of its own. Arguments must not need quoting.
fn on_a_terminal(fake: &Fake, arguments: &[&str]) -> Command {
    let line: Vec<_> = std::iter::once(env!("CARGO_BIN_EXE_countersign"))
        .chain(arguments.iter().copied())
        .collect();
    let plain = countersign(fake, &[]);
    let mut command = Command::new("script");
    command
        .args([
            "--quiet",
            "--return",
            "--command",
            &format!("exec {}", line.join(" ")),
            "/dev/null",
        ])
        .env_clear();
    for (name, value) in plain.as_std().get_envs() {
        command.env(name, value.unwrap());
    }
    command
        .env("SHELL", "/bin/sh")
        .current_dir(fake.path("work"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

const HOSTILE: &str = "\u{1b}[2J\u{1b}]8;;https://evil.example\u{7}click\u{1b}]8;;\u{7}\u{9b}31m\u{202e}desrever\r\nstate closed";

#[tokio::test]
async fn case_012_no_escape_reaches_a_terminal() {
    let fake = Fake::start("pending").await;
    for member in ["action", "agent", "target", "review_url", "digest"] {
        fake.set(member, HOSTILE);
    }
    fake.set("parameters", json!({HOSTILE: HOSTILE}));
    fake.set("needs", json!({HOSTILE: 1}));
    fake.set("reason", HOSTILE);
    fake.set("explanation", json!({"words": [HOSTILE]}));
    let problem = json!({"code": HOSTILE, "detail": HOSTILE, "next": HOSTILE, "request_id": HOSTILE,
        "errors": [{"pointer": HOSTILE, "detail": HOSTILE}]});
    fake.can("GET /v1/leases", 400, problem.clone());
    fake.can("GET /v1/agents", 400, problem);
    for arguments in [
        &["show", REQUEST][..],
        &["show", REQUEST, "--json"],
        &["ls"],
        &["ls", "--json"],
        &["wait", REQUEST, "--timeout", "1s"],
        &["agent", "ls"],
        &["agent", "ls", "--json"],
        &["exec", "orders.refund", "--wait", "1s", "--", "true"],
    ] {
        let output = on_a_terminal(&fake, arguments).output().await.unwrap();
        let shown = output.stdout;
        assert!(shown.len() > 20, "{arguments:?} printed nothing");
        assert!(
            !shown.contains(&0x1b) && !shown.contains(&0x9b) && !shown.contains(&0x07),
            "{arguments:?}: {shown:?}"
        );
        let text = String::from_utf8(shown).unwrap();
        assert!(
            !text.contains('\u{202e}')
                && !text.lines().any(|line| line.trim_end() == "state closed"),
            "{text}"
        );
    }
}

/// Not a shell script: a shell cannot trap what was ignored when it started, as under a job in the background. It writes without
/// Python's buffers, which a signal handler must not enter while `ready` is still on its way through them.
const INTERRUPTIBLE: &str = r"
import os, signal, sys
signal.signal(signal.SIGINT, lambda *_: os.write(1, b'INTERRUPTED\n'))
os.write(1, b'ready\n')
os.write(1, b'bye ' + sys.stdin.readline().encode())
sys.exit(3)
";

#[tokio::test]
async fn an_interrupt_from_the_keyboard_reaches_the_command_once() {
    let fake = Fake::start("approved").await;
    let program = fake.path("program");
    std::fs::write(&program, INTERRUPTIBLE).unwrap();
    let arguments = [
        "exec",
        "orders.refund",
        "--",
        "python3",
        program.to_str().unwrap(),
    ];
    let mut child = on_a_terminal(&fake, &arguments).spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut seen = String::new();
    read_until(&mut screen, &mut seen, "ready").await;
    keyboard.write_all(b"\x03").await.unwrap();
    read_until(&mut screen, &mut seen, "INTERRUPTED").await;
    keyboard.write_all(b"now\n").await.unwrap();
    read_until(&mut screen, &mut seen, "bye now").await;
    let status = tokio::time::timeout(Duration::from_secs(30), child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(3), "{seen}");
    assert_eq!(seen.matches("INTERRUPTED").count(), 1, "{seen}");
    assert_nothing_left(&fake);
}

async fn read_until(screen: &mut tokio::process::ChildStdout, seen: &mut String, wanted: &str) {
    let read = async {
        while !seen.contains(wanted) {
            let mut bytes = [0; 1024];
            let count = screen.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the terminal closed before {wanted}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    let limit = tokio::time::timeout(Duration::from_secs(30), read).await;
    assert!(limit.is_ok(), "never saw {wanted}: {seen}");
}
