//! L6 on a real ledger.db: what stands beside the entries is held to them, too.

use countersign::domain::World;
use countersign::ledger::{Problem, SigningKey, Snapshot, Tree, decode};

use super::scene::Scene;
use crate::support::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn finding_b17_a_store_whose_signatures_were_removed_does_not_verify() {
    for which in ["", "WHERE seq = (SELECT max(seq) FROM entries)"] {
        let mut scene = Scene::set().await;
        scene
            .sql(&format!("UPDATE entries SET sig = NULL {which}"))
            .await;
        let failure = scene.failure().await;
        assert!(matches!(failure.problem, Problem::Unsigned), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_b17_a_store_with_two_heads_is_refused() {
    let mut scene = Scene::set().await;
    scene.sql("CREATE TABLE heads AS SELECT * FROM head").await;
    scene.sql("DROP TABLE head").await;
    scene.sql("ALTER TABLE heads RENAME TO head").await;
    scene
        .sql("INSERT INTO head SELECT 2, size, edge, checkpoint FROM head")
        .await;
    let failure = scene.failure().await;
    assert!(matches!(failure.problem, Problem::Store(_)), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_b17_a_snapshot_that_is_not_the_fold_is_named() {
    let mut scene = Scene::set().await;
    let house = House::new(5);
    let (ports, _) = house.ports();
    let other = SigningKey::generate("countersign.example", |seed| seed.fill(8)).unwrap();
    let mut world = World::default();
    let mut tree = Tree::default();
    for row in &scene.rows {
        world.apply(&decode(&row.bytes).unwrap()).unwrap();
        tree.append(&row.bytes);
    }
    let honest = serde_json::to_vec(&world).unwrap();
    world.agents.clear();
    let lie = serde_json::to_vec(&world).unwrap();
    let mut swapped = Snapshot::seal(&ports.key, &tree, World::FOLD, honest.clone());
    swapped.bytes.clone_from(&lie);
    let snapshots = [
        (
            true,
            Snapshot::seal(&ports.key, &tree, World::FOLD, honest.clone()),
        ),
        (
            true,
            Snapshot::seal(&ports.key, &tree, "of another version", b"{}".to_vec()),
        ),
        (false, Snapshot::seal(&ports.key, &tree, World::FOLD, lie)),
        (
            false,
            Snapshot::seal(&other, &tree, World::FOLD, honest.clone()),
        ),
        (
            false,
            Snapshot::seal(&ports.key, &Tree::default(), World::FOLD, honest),
        ),
        (false, swapped),
    ];
    for (right, snapshot) in snapshots {
        scene.sql("DELETE FROM snapshot").await;
        sqlx::query("INSERT INTO snapshot VALUES (1, ?, ?, ?, ?)")
            .bind(i64::try_from(snapshot.size).unwrap())
            .bind(
                snapshot
                    .edge
                    .iter()
                    .flat_map(|root| root.0)
                    .collect::<Vec<u8>>(),
            )
            .bind(snapshot.bytes)
            .bind(snapshot.seal)
            .execute(&mut scene.raw)
            .await
            .unwrap();
        if right {
            scene.verify(None).await.unwrap();
        } else {
            let failure = scene.failure().await;
            assert!(matches!(failure.problem, Problem::Snapshot), "{failure}");
        }
    }
}
