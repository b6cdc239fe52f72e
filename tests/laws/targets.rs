//! Which server a target is, and what is found there that no lease explains.

use countersign::domain::command::{EndFailure, RefusalCode};
use countersign::domain::request::Outcome;
use countersign::domain::{Command, Event, Owed, Proof, Seconds, ServerId};

use super::desk::{Desk, server, settle};

fn other() -> ServerId {
    "the shop's second server".parse().unwrap()
}

fn identify(desk: &mut Desk, server: ServerId) -> Result<Vec<Event>, RefusalCode> {
    let target = "shop".parse().unwrap();
    desk.tell(&Command::IdentifyTarget { target, server })
}

fn move_target(desk: &mut Desk, from: ServerId, to: ServerId) -> Result<Vec<Event>, RefusalCode> {
    desk.tell(&Command::MoveTarget {
        target: "shop".parse().unwrap(),
        from,
        to,
        reason: None,
    })
}

#[test]
fn finding_t14_only_the_operators_word_says_that_a_target_is_another_server() {
    let mut desk = Desk::new();
    assert_eq!(identify(&mut desk, server()), Ok(Vec::new()));
    assert_eq!(
        identify(&mut desk, other()),
        Err(RefusalCode::TargetChanged)
    );
    assert_eq!(
        move_target(&mut desk, other(), server()),
        Ok(Vec::new()),
        "it stands for that one already"
    );
    assert_eq!(
        move_target(&mut desk, other(), "a third".parse().unwrap()),
        Err(RefusalCode::TargetChanged),
        "the old server is named rightly or nothing moves"
    );
    assert_eq!(move_target(&mut desk, server(), other()).unwrap().len(), 1);
    assert_eq!(identify(&mut desk, other()), Ok(Vec::new()));
    assert_eq!(
        identify(&mut desk, server()),
        Err(RefusalCode::TargetChanged)
    );
    desk.check();
}

/// The ledger's largest entry is 32 KiB, whatever a lease names what it makes.
#[test]
fn l14_finding_t07_what_outlives_a_lease_fits_into_an_entry() {
    let mut desk = Desk::new();
    let (target, handle) = ("shop".parse().unwrap(), "jit_busy".to_owned());
    desk.tell(&Command::FindOrphan {
        target: "shop".parse().unwrap(),
        handle: handle.clone(),
    })
    .unwrap();
    let owed = Owed::Orphan((target, handle));
    desk.claim(&owed, "b1").unwrap();
    let left = (0..100_000).map(|n| format!("dropped table \u{1}{n} {}", "\u{1}".repeat(900)));
    let result = Ok(Proof::Gone {
        seen: vec!["no_role".into()],
        left: left.collect(),
    });
    let events = desk.record(&owed, "b1", result);
    let events = events.unwrap();
    let Some(Event::OrphanEnded { residue, .. }) = events.first() else {
        panic!("{events:?}");
    };
    assert!(residue[0].starts_with("dropped table"));
    assert!(residue.last().unwrap().starts_with("and 99"), "{residue:?}");
    let entry = countersign::ledger::entry::encode(desk.entries.last().unwrap());
    assert!(entry.is_ok(), "it can be written");
}

#[test]
fn finding_t14_an_approval_for_one_server_is_void_at_another() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    assert_eq!(desk.open(&request).unwrap().sealed().server, server());
    move_target(&mut desk, server(), other()).unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::TargetChanged)
    );
    assert_eq!(desk.outcome(&request), Some(Outcome::Stale));
    desk.check();
}

#[test]
fn finding_t14_a_lease_follows_its_target_when_that_moves_as_planned() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    assert_eq!(desk.world.leases[&lease].server, server());
    move_target(&mut desk, server(), other()).unwrap();
    assert_eq!(desk.world.leases[&lease].server, other());
    settle(&mut desk);
    assert!(desk.world.leases.is_empty());
    desk.check();
}

#[test]
fn finding_t14_a_target_that_never_answered_is_asked_for_nothing() {
    let mut desk = Desk::new();
    desk.world.servers.clear();
    assert_eq!(
        desk.submit("reporter", "orders.report"),
        Err(RefusalCode::TargetUnidentified)
    );
    assert_eq!(
        move_target(&mut desk, server(), other()),
        Err(RefusalCode::TargetUnidentified)
    );
}

/// Each orphan has claims and pauses of its own.
#[test]
fn finding_t05_an_orphan_that_cannot_be_ended_holds_up_no_other() {
    let mut desk = Desk::new();
    let orphan = |handle: &str| ("shop".parse().unwrap(), handle.to_owned());
    for handle in ["jit_stuck", "jit_free"] {
        let (target, handle) = orphan(handle);
        desk.tell(&Command::FindOrphan { target, handle }).unwrap();
    }
    let owed = |handle: &str| Owed::Orphan(orphan(handle));
    let stuck = owed("jit_stuck");
    desk.claim(&stuck, "b1").unwrap();
    assert_eq!(
        desk.claim(&stuck, "b2"),
        Err(RefusalCode::StaleClaim),
        "L12: two brokers do not end one thing"
    );
    let failure = || {
        Err(EndFailure {
            code: "cleanup_blocked".into(),
            detail: "a view needs it".into(),
            attempts: 1,
            retry_in: Seconds(60),
        })
    };
    assert_eq!(
        desk.record(&stuck, "b2", failure()),
        Err(RefusalCode::StaleClaim)
    );
    desk.record(&stuck, "b1", failure()).unwrap();
    let stuck = &desk.world.orphans[&orphan("jit_stuck")];
    assert_eq!((stuck.attempts, stuck.claimed_by.as_ref()), (1, None));
    assert_eq!(desk.owed(), [owed("jit_free")]);
    desk.end_orphan(&orphan("jit_free")).unwrap();
    desk.now = desk.now.plus(Seconds(60));
    assert_eq!(desk.owed(), [owed("jit_stuck")], "never forgotten");
    desk.end_orphan(&orphan("jit_stuck")).unwrap();
    assert!(desk.world.orphans.is_empty());
    desk.check();
}

/// What a lease leaves at its target is in the entry of its end.
#[test]
fn l14_finding_t07_what_outlives_a_lease_is_in_the_ledger() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    desk.now = desk.world.leases[&lease].expires;
    desk.lapse();
    let owed = Owed::Lease(lease);
    desk.claim(&owed, "b1").unwrap();
    let left = vec!["row level security of sales.customers was switched off".to_owned()];
    let result = Ok(Proof::Gone {
        seen: vec!["no_role".into()],
        left: left.clone(),
    });
    let events = desk.record(&owed, "b1", result);
    assert!(matches!(
        events.unwrap().as_slice(),
        [Event::LeaseEnded { residue, .. }] if *residue == left
    ));
    desk.check();
}
