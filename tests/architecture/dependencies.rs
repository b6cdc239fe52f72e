//! What we build on is not older than the releases that fixed known flaws.

use super::source::read;

/// Crates and the first release without the flaw that abuse case 179 names.
const FLOORS: [(&str, [u64; 3]); 7] = [
    ("h2", [0, 4, 16]),
    ("jsonwebtoken", [10, 3, 0]),
    ("postgres-protocol", [0, 6, 12]),
    ("rustls", [0, 23, 0]),
    ("sqlx", [0, 8, 1]),
    ("tokio-postgres", [0, 7, 18]),
    ("tracing-subscriber", [0, 3, 20]),
];

fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|part| part.parse().unwrap());
    [(); 3].map(|()| parts.next().unwrap())
}

#[test]
fn case_179_no_dependency_is_older_than_its_fix() {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let mut wrong = Vec::new();
    for package in packages {
        let (name, version) = (
            package["name"].as_str().unwrap(),
            package["version"].as_str().unwrap(),
        );
        for (_, floor) in FLOORS.iter().filter(|(crate_name, _)| *crate_name == name) {
            if numbers(version) < *floor {
                wrong.push(format!(
                    "{name} {version} has a known flaw: update to {floor:?} or later"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn case_179_the_sqlite_within_is_not_older_than_its_fix() {
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(numbers(&version) >= [3, 51, 3], "SQLite {version}");
}
