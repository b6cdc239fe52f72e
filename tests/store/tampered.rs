//! L6 on a real ledger.db: whatever somebody with the file in hand does to it, `verify` names it.

use std::fs;
use std::sync::Arc;

use countersign::domain::{Digest, Time};
use countersign::ledger::packed::pack;
use countersign::ledger::tree::leaf_hash;
use countersign::ledger::{Problem, Tree, decode};
use countersign::store::{SqliteStore, Store, StoredEntry};
use serde_json::json;
use sqlx::Connection;

use super::scene::{
    Scene, failure, forged, moved, private, renumbered, verify, write_history, write_key,
};
use super::{TestDatabase, run};
use crate::support::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn l06_an_append_has_one_signature_and_it_is_the_checkpoints() {
    let scene = Scene::set().await;
    let signed = scene
        .rows
        .iter()
        .filter(|row| row.signature.is_some())
        .count();
    assert!(signed > 5 && signed < scene.rows.len(), "{signed}");
    let store = SqliteStore::open(&scene.dir.path().join("ledger.db"))
        .await
        .unwrap();
    let head = store.head().await.unwrap();
    let last = scene.rows.last().unwrap().signature.clone().unwrap();
    assert!(head.checkpoint.ends_with(&format!(" {last}\n")), "{head:?}");
    for row in &scene.rows {
        assert_eq!(row.leaf, leaf_hash(&row.bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_a_flipped_byte_in_any_column_of_any_row_is_named() {
    let mut scene = Scene::set().await;
    for row in scene.rows.clone() {
        let length = row.bytes.len();
        let mut spoilt = Vec::new();
        for at in [0, length / 2, length - 1] {
            let mut bytes = row.bytes.clone();
            bytes[at] ^= 1;
            spoilt.push(format!("bytes = x'{}'", hex::encode(bytes)));
        }
        for kept in spoilt_forms(&row.bytes) {
            spoilt.push(format!("bytes = x'{}'", hex::encode(kept)));
        }
        let mut leaf = row.leaf;
        leaf.0[31] ^= 1;
        spoilt.push(format!("leaf = x'{}'", hex::encode(leaf.0)));
        spoilt.push("kind = 'x' || kind".into());
        spoilt.push("time = time + 1".into());
        spoilt.push("actor = 'operators'".into());
        for column in ["agent", "action", "outcome"] {
            spoilt.push(format!("{column} = coalesce('x' || {column}, 'x')"));
        }
        for column in ["request", "lease"] {
            spoilt.push(format!(
                "{column} = cast('x' || coalesce({column}, '') as blob)"
            ));
            spoilt.push(format!("{column} = zeroblob(16)"));
        }
        spoilt.push(format!("key = x'{}'", hex::encode(leaf.0)));
        if let Some(signature) = &row.signature {
            let last = if signature.ends_with("A=") {
                "B="
            } else {
                "A="
            };
            let other = format!("{}{last}", &signature[..signature.len() - 2]);
            spoilt.push(format!("sig = '{other}'"));
            spoilt.push("sig = 'AAAA'".into());
        }
        for change in spoilt {
            let seq = row.seq;
            scene
                .sql(&format!("UPDATE entries SET {change} WHERE seq = {seq}"))
                .await;
            let failure = scene.failure().await;
            let named = (failure.first_bad, failure.last_bad);
            assert_eq!(named, (seq, seq), "{change}: {failure}");
            scene
                .sql(&format!("DELETE FROM entries WHERE seq = {seq}"))
                .await;
            scene.insert(&row).await;
        }
    }
    scene.verify(None).await.unwrap();
}

/// What a store keeps of `bytes`, cut short, of a form that there is not, with a hash that is not there, with another digit.
fn spoilt_forms(bytes: &[u8]) -> [Vec<u8>; 4] {
    let kept = pack(bytes.to_vec());
    assert!(kept.len() < bytes.len(), "packed");
    let cut = kept[..kept.len() - 1].to_vec();
    let mut strange = kept.clone();
    strange[0] += 1;
    let short = [kept.as_slice(), &[0; 32]].concat();
    let mut other = kept.clone();
    other[kept.len() / 2] ^= 1;
    [cut, strange, short, other]
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_a_careful_edit_is_named_by_its_append() {
    let mut scene = Scene::set().await;
    let mut together = 0;
    for seq in 0..scene.rows.len() as u64 {
        let mut rows = scene.rows.clone();
        let row = &mut rows[usize::try_from(seq).unwrap()];
        *row = forged(row, |entry| {
            entry.time = Time::from_millis(entry.time.millis() + 1);
        });
        scene.replace(&rows).await;
        let failure = scene.failure().await;
        let (first, last) = scene.append_of(seq);
        assert_eq!(
            (failure.first_bad, failure.last_bad, failure.proven),
            (first, last, first),
            "{seq}: {failure}"
        );
        let words = failure.to_string();
        if first < last {
            together += 1;
            assert!(
                words.contains(&format!("one of entries {first} to {last}:")),
                "{words}"
            );
        } else {
            assert!(
                words.contains(&format!("from entry {first} on:")),
                "{words}"
            );
        }
    }
    assert!(together > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_deleted_inserted_and_reordered_rows_are_named() {
    let mut scene = Scene::set().await;
    let size = scene.rows.len();
    for at in 0..size {
        let (first, _) = scene.append_of(at as u64);
        let mut deleted = scene.rows.clone();
        deleted.remove(at);
        scene.replace(&deleted).await;
        let failure = scene.failure().await;
        assert_eq!(
            (failure.first_bad, failure.last_bad),
            (at as u64, at as u64),
            "{failure}"
        );
        let mut inserted = scene.rows.clone();
        let lie = forged(&scene.rows[at], |entry| {
            entry.time = Time::from_millis(entry.time.millis() + 1);
        });
        inserted.insert(
            at,
            StoredEntry {
                signature: None,
                ..lie
            },
        );
        let mut reordered = scene.rows.clone();
        reordered.swap(at, (at + 1) % size);
        let at = if at + 1 == size { 0 } else { at as u64 };
        let first_swapped = scene.append_of(at).0;
        for (what, rows, at, first) in [
            ("deleted", &deleted, deleted_at(&scene, &deleted), first),
            ("inserted", &inserted, deleted_at(&scene, &inserted), first),
            ("reordered", &reordered, at, first_swapped),
        ] {
            for rows in [moved(rows), renumbered(rows)] {
                scene.replace(&rows).await;
                let failure = scene.failure().await;
                let named = failure.first_bad..=failure.last_bad;
                assert!(named.contains(&at), "{what} at {at}: {failure}");
                assert!(failure.first_bad >= first, "{what} at {at}: {failure}");
            }
        }
    }
}

/// The first place at which `rows` are not what was written.
fn deleted_at(scene: &Scene, rows: &[StoredEntry]) -> u64 {
    let same = scene
        .rows
        .iter()
        .zip(rows)
        .take_while(|(a, b)| a.bytes == b.bytes);
    same.count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_a_cut_off_end_is_named_and_a_rollback_by_a_remembered_checkpoint() {
    let mut scene = Scene::set().await;
    let size = scene.rows.len() as u64;
    let remembered = scene.dir.path().join("remembered");
    let checkpoint: (String,) = sqlx::query_as("SELECT checkpoint FROM head")
        .fetch_one(&mut scene.raw)
        .await
        .unwrap();
    fs::write(&remembered, &checkpoint.0).unwrap();
    for left in (1..size).rev() {
        scene
            .sql(&format!("DELETE FROM entries WHERE seq >= {left}"))
            .await;
        assert_eq!(scene.failure().await.first_bad, left);
        // The head is rolled back, too, with what the rows that are left give away.
        let mut tree = Tree::default();
        let rows = &scene.rows[..usize::try_from(left).unwrap()];
        rows.iter().for_each(|row| tree.append(&row.bytes));
        let edge: String = tree.edge().iter().map(ToString::to_string).collect();
        scene
            .sql(&format!("UPDATE head SET size = {left}, edge = x'{edge}'"))
            .await;
        assert_eq!(scene.failure().await.first_bad, left);
        let origin = checkpoint.0.lines().next().unwrap().to_owned();
        let (signature, signed) = match &scene.rows[usize::try_from(left).unwrap() - 1].signature {
            Some(signature) => (signature.clone(), true),
            None => ("AAAAAAAA".into(), false),
        };
        let root = base64(&tree.root());
        let note = format!("{origin}\n{left}\n{root}\n\n— {origin} {signature}\n");
        scene
            .sql(&format!("UPDATE head SET checkpoint = '{note}'"))
            .await;
        assert_eq!(
            scene.verify(None).await.is_ok(),
            signed,
            "only an earlier head is consistent in itself"
        );
        let failure = failure(scene.verify(Some(remembered.clone())).await);
        assert_eq!(
            (failure.first_bad, failure.last_bad),
            (left, left),
            "{failure}"
        );
        scene
            .sql(&format!("UPDATE head SET checkpoint = '{}'", checkpoint.0))
            .await;
    }
}

fn base64(digest: &Digest) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(digest.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_a_changed_head_is_named() {
    let mut scene = Scene::set().await;
    let size = scene.rows.len() as u64;
    scene
        .sql("CREATE TEMP TABLE kept AS SELECT * FROM head")
        .await;
    for change in [
        "size = size - 1".to_owned(),
        "size = size + 1".into(),
        "edge = zeroblob(length(edge))".into(),
        "edge = x''".into(),
        "checkpoint = replace(checkpoint, '=', 'A')".into(),
        "checkpoint = ''".into(),
        "size = 0, edge = x'', checkpoint = ''".into(),
    ] {
        scene.sql(&format!("UPDATE head SET {change}")).await;
        let failure = scene.failure().await;
        assert_eq!(failure.first_bad, size, "{change}: {failure}");
        assert!(
            matches!(failure.problem, Problem::Head | Problem::Checkpoint(_)),
            "{failure}"
        );
        scene.sql("UPDATE head SET size = k.size, edge = k.edge, checkpoint = k.checkpoint FROM kept AS k")
            .await;
    }
    scene.verify(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_a_changed_text_is_named_and_an_erased_one_is_counted() {
    let mut scene = Scene::set().await;
    let rows = scene.rows.clone();
    let texts = rows.iter().filter_map(|row| {
        let entry = decode(&row.bytes).unwrap();
        entry.event.text().map(|text| (row.seq, text.sha256))
    });
    let texts: Vec<_> = texts.collect();
    assert!(texts.len() > 6, "a bundle, contexts and comments");
    scene
        .sql("CREATE TEMP TABLE kept AS SELECT * FROM blobs")
        .await;
    for (seq, sha256) in &texts {
        let this = format!("WHERE sha256 = x'{sha256}'");
        for change in [
            "bytes = CAST(bytes || x'20' AS BLOB)",
            "bytes = x''",
            "salt = x'0123456789abcdef0123456789abcdef'",
        ] {
            scene
                .sql(&format!("UPDATE blobs SET {change} {this}"))
                .await;
            let failure = scene.failure().await;
            assert_eq!(
                (failure.first_bad, failure.last_bad),
                (*seq, *seq),
                "{failure}"
            );
            assert!(matches!(failure.problem, Problem::Text(text) if text == *sha256));
            scene.sql(&format!("DELETE FROM blobs {this}")).await;
            assert_eq!(scene.verify(None).await.unwrap().texts_erased, Some(1));
            scene
                .sql(&format!("INSERT INTO blobs SELECT * FROM kept {this}"))
                .await;
        }
    }
    assert_eq!(scene.verify(None).await.unwrap().texts_erased, Some(0));
}

/// The file that `countersign ledger export` writes of these rows.
fn export(rows: &[StoredEntry], checkpoint: &str, key: &str) -> String {
    let mut lines = vec![json!({"countersign_ledger": 1, "vkey": key})];
    for row in rows {
        let entry = str::from_utf8(&row.bytes).unwrap();
        let mut line = json!({"seq": row.seq, "entry": entry, "leaf": row.leaf});
        if let Some(sig) = &row.signature {
            line["sig"] = json!(sig);
        }
        lines.push(line);
    }
    lines.push(json!({"checkpoint": checkpoint}));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_an_export_of_a_store_names_what_was_changed() {
    let mut scene = Scene::set().await;
    let (checkpoint,): (String,) = sqlx::query_as("SELECT checkpoint FROM head")
        .fetch_one(&mut scene.raw)
        .await
        .unwrap();
    let key = House::new(5).ports().0.key.verifying_key().to_string();
    let file = scene.dir.path().join("export.jsonl");
    fs::write(&file, export(&scene.rows, &checkpoint, &key)).unwrap();
    let verified = verify(&file, None, None).await.unwrap();
    assert_eq!((verified.key_given, verified.texts_erased), (false, None));
    assert!(
        verify(&file, Some(key.clone()), None)
            .await
            .unwrap()
            .key_given
    );
    for at in 1..scene.rows.len() {
        let seq = at as u64;
        let mut rows = scene.rows.clone();
        rows[at].bytes[20] ^= 1;
        fs::write(&file, export(&rows, &checkpoint, &key)).unwrap();
        let careless = failure(verify(&file, None, None).await);
        assert_eq!(
            (careless.first_bad, careless.last_bad),
            (seq, seq),
            "{careless}"
        );
        rows[at] = forged(&scene.rows[at], |entry| {
            entry.time = Time::from_millis(entry.time.millis() + 1);
        });
        fs::write(&file, export(&rows, &checkpoint, &key)).unwrap();
        let careful = failure(verify(&file, None, None).await);
        let named = (careful.first_bad, careful.last_bad);
        assert_eq!(named, scene.append_of(seq), "{careful}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_a_postgres_store_is_verified_through_its_configuration() {
    for server in crate::support::postgres_servers() {
        let database = TestDatabase::create(&server).await;
        let house = House::new(5);
        let broker = write_history(&house, Arc::new(database.store().await)).await;
        let dir = tempfile::tempdir().unwrap();
        write_key(&house, dir.path());
        fs::write(dir.path().join("url"), database.url.as_str()).unwrap();
        private(&dir.path().join("url"));
        let config = "[server]\npublic_url = \"https://countersign.example\"\nstate_dir = \".\"\n\
            [store]\nkind = \"postgres\"\nurl_file = \"url\"\n";
        fs::write(dir.path().join("countersign.toml"), config).unwrap();
        // The broker may run.
        verify(dir.path(), None, None).await.unwrap();
        broker.stop().await;
        let verified = verify(dir.path(), None, None).await.unwrap();
        assert!(verified.size > 10 && verified.texts_erased == Some(0));
        let rows = database.store().await.read(0, usize::MAX).await.unwrap();
        let mut raw = database.raw().await;
        run(&mut raw, "ALTER TABLE entries DISABLE TRIGGER ALL".into())
            .await
            .unwrap();
        let bytes = "bytes = set_byte(bytes, 9, get_byte(bytes, 9) # 1)";
        for change in [bytes, "outcome = 'approved'", "sig = 'AAAA'"] {
            let seq = rows
                .iter()
                .rfind(|row| row.signature.is_some())
                .unwrap()
                .seq;
            run(
                &mut raw,
                format!("CREATE TEMP TABLE kept AS SELECT * FROM entries WHERE seq = {seq}"),
            )
            .await
            .unwrap();
            run(
                &mut raw,
                format!("UPDATE entries SET {change} WHERE seq = {seq}"),
            )
            .await
            .unwrap();
            let failure = failure(verify(dir.path(), None, None).await);
            assert_eq!(
                (failure.first_bad, failure.last_bad),
                (seq, seq),
                "{change}: {failure}"
            );
            for back in [
                format!("DELETE FROM entries WHERE seq = {seq}"),
                "INSERT INTO entries SELECT * FROM kept".into(),
                "DROP TABLE kept".into(),
            ] {
                run(&mut raw, back).await.unwrap();
            }
        }
        run(
            &mut raw,
            "UPDATE blobs SET bytes = 'forged' WHERE length(bytes) < 20".into(),
        )
        .await
        .unwrap();
        let failure = failure(verify(dir.path(), None, None).await);
        assert!(matches!(failure.problem, Problem::Text(_)), "{failure}");
        raw.close().await.unwrap();
        database.remove().await;
    }
}
