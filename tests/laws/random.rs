//! The laws under random commands.

use std::sync::Arc;

use countersign::domain::command::{EndFailure, GiveReview, MintResult, RefusalCode, Revoker};
use countersign::domain::event::{BlobRef, Freeze};
use countersign::domain::request::ReviewDecision;
use countersign::domain::{
    Actor, Command, Digest, Event, LeaseId, Owed, Proof, RequestId, Seconds,
};
use proptest::prelude::*;
use serde_json::Map;

use super::desk::{Desk, settle};
use crate::support::rules::{people, reviewer};

/// One random step. Indexes pick among what exists; they may also pick what does not fit, which must be refused.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        agent: usize,
        action: usize,
        ttl: Option<u64>,
        on_behalf_of: Option<usize>,
        key: Option<u8>,
    },
    Review {
        request: usize,
        person: usize,
        approve: bool,
        wrong_digest: bool,
    },
    Withdraw {
        request: usize,
        agent: usize,
    },
    Collect {
        request: usize,
        agent: usize,
        key: u8,
    },
    Mint {
        lease: usize,
        result: u8,
    },
    Acknowledge {
        lease: usize,
        agent: usize,
    },
    Finish {
        request: usize,
        agent: usize,
    },
    Revoke {
        request: usize,
        by: u8,
    },
    Claim {
        lease: usize,
        broker: u8,
    },
    End {
        lease: usize,
        broker: u8,
        seen: u8,
    },
    Lapse {
        request: usize,
    },
    Freeze {
        what: u8,
        on: bool,
    },
    Shut,
    Away {
        back: bool,
    },
    Abandon {
        lease: usize,
    },
    Orphan {
        which: u8,
        broker: u8,
        what: u8,
    },
    Move,
    Disable {
        agent: usize,
    },
    Apply {
        change: u8,
    },
    Wait {
        seconds: u64,
    },
}

const AGENTS: [&str; 3] = ["reporter", "fixer", "stranger"];
const ACTIONS: [&str; 4] = [
    "orders.report",
    "customers.export",
    "schema.migrate",
    "no.such",
];

fn step() -> impl Strategy<Value = Step> {
    let ttl = prop_oneof![
        Just(None),
        prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 62), 1..5000u64].prop_map(Some)
    ];
    prop_oneof![
        4 => (0..3usize, 0..4usize, ttl, proptest::option::weighted(0.2, 0..5usize), proptest::option::of(0..4u8))
            .prop_map(|(agent, action, ttl, on_behalf_of, key)| Step::Submit { agent, action, ttl, on_behalf_of, key }),
        6 => (0..12usize, 0..5usize, any::<bool>(), proptest::bool::weighted(0.1))
            .prop_map(|(request, person, approve, wrong_digest)| Step::Review { request, person, approve: approve || person % 2 == 0, wrong_digest }),
        1 => (0..12usize, 0..3usize).prop_map(|(request, agent)| Step::Withdraw { request, agent }),
        6 => (0..12usize, 0..3usize, 0..2u8).prop_map(|(request, agent, key)| Step::Collect { request, agent, key }),
        5 => (0..12usize, 0..4u8).prop_map(|(lease, result)| Step::Mint { lease, result }),
        3 => (0..12usize, 0..3usize).prop_map(|(lease, agent)| Step::Acknowledge { lease, agent }),
        2 => (0..12usize, 0..3usize).prop_map(|(request, agent)| Step::Finish { request, agent }),
        2 => (0..12usize, 0..4u8).prop_map(|(request, by)| Step::Revoke { request, by }),
        4 => (0..12usize, 0..2u8).prop_map(|(lease, broker)| Step::Claim { lease, broker }),
        5 => (0..12usize, 0..2u8, 0..4u8).prop_map(|(lease, broker, seen)| Step::End { lease, broker, seen }),
        3 => (0..12usize).prop_map(|request| Step::Lapse { request }),
        1 => (0..4u8, any::<bool>()).prop_map(|(what, on)| Step::Freeze { what, on }),
        1 => Just(Step::Shut),
        2 => any::<bool>().prop_map(|back| Step::Away { back }),
        1 => (0..12usize).prop_map(|lease| Step::Abandon { lease }),
        2 => (0..3u8, 0..2u8, 0..4u8).prop_map(|(which, broker, what)| Step::Orphan { which, broker, what }),
        1 => Just(Step::Move),
        1 => (0..3usize).prop_map(|agent| Step::Disable { agent }),
        1 => (0..4u8).prop_map(|change| Step::Apply { change }),
        4 => prop_oneof![Just(0), Just(1), 1..40u64, Just(900), Just(3600)].prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn failure(attempts: u32) -> EndFailure {
    EndFailure {
        code: "target_unavailable".into(),
        detail: String::new(),
        attempts,
        retry_in: Seconds(7),
    }
}

/// Finds an orphan, or does one step of its end.
fn orphan_command(which: u8, broker: String, what: u8) -> Command {
    let (target, handle) = ("shop".parse().unwrap(), format!("jit_{which}"));
    match what {
        0 => Command::FindOrphan { target, handle },
        1 => Command::ClaimEnds {
            broker,
            owed: vec![Owed::Orphan((target, handle))],
        },
        seen => {
            let result = match seen {
                2 => Ok(Proof::gone(["no_role"])),
                _ => Err(failure(u32::from(which))),
            };
            let results = vec![(Owed::Orphan((target, handle)), result)];
            Command::RecordEnds { broker, results }
        }
    }
}

/// Requests and leases ever made, so that steps can also name what is over.
#[derive(Default)]
struct Known {
    requests: Vec<RequestId>,
    leases: Vec<LeaseId>,
}

fn pick<T: Clone>(from: &[T], index: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[index % from.len()].clone())
}

fn command(desk: &mut Desk, known: &Known, step: &Step) -> Option<Command> {
    Some(match step {
        Step::Withdraw { request, agent } => Command::Withdraw {
            agent: AGENTS[*agent].parse().unwrap(),
            request: pick(&known.requests, *request)?,
        },
        Step::Collect {
            request,
            agent,
            key,
        } => Command::Collect {
            agent: AGENTS[*agent].parse().unwrap(),
            request: pick(&known.requests, *request)?,
            lease: LeaseId::draw(desk.now, desk.draw()),
            key: Digest::of(&[*key]),
        },
        Step::Mint { lease, result } => Command::RecordMint {
            lease: pick(&known.leases, *lease)?,
            result: match result {
                0 | 1 => MintResult::Minted,
                2 => MintResult::Unknown,
                _ => MintResult::Failed {
                    code: "target_unavailable".into(),
                    retryable: lease % 2 == 0,
                },
            },
        },
        Step::Acknowledge { lease, agent } => Command::Acknowledge {
            agent: AGENTS[*agent].parse().unwrap(),
            lease: pick(&known.leases, *lease)?,
        },
        Step::Finish { request, agent } => Command::Finish {
            agent: AGENTS[*agent].parse().unwrap(),
            request: pick(&known.requests, *request)?,
            report: Map::new(),
        },
        other => return duty(desk, known, other),
    })
}

/// What ends things, and what the broker does by itself.
fn duty(desk: &Desk, known: &Known, step: &Step) -> Option<Command> {
    Some(match step {
        Step::Revoke { request, by } => Command::Revoke {
            by: match by {
                0 => Revoker::Operator,
                1 => Revoker::Agent("reporter".parse().unwrap()),
                2 => Revoker::Person(Box::new(reviewer("chloe", &["security"]))),
                _ => Revoker::Person(Box::new(reviewer("eve", &[]))),
            },
            request: pick(&known.requests, *request)?,
        },
        Step::Claim { lease, broker } => Command::ClaimEnds {
            broker: format!("b{broker}"),
            owed: vec![
                Owed::Lease(pick(&known.leases, *lease)?),
                Owed::Lease(pick(&known.leases, lease + 1)?),
            ],
        },
        Step::End {
            lease,
            broker,
            seen,
        } => {
            let result = || match seen {
                0 => Ok(Proof::gone(["no_role"])),
                1 | 2 => Ok(Proof::CutOff {
                    seen: vec!["denied".into()],
                    until: desk.now.plus(Seconds(3600)),
                }),
                _ => Err(failure(u32::from(*broker))),
            };
            let both = [*lease, lease + 1];
            let owed = both.map(|lease| pick(&known.leases, lease).map(Owed::Lease));
            Command::RecordEnds {
                broker: format!("b{broker}"),
                results: owed
                    .into_iter()
                    .flatten()
                    .map(|it| (it, result()))
                    .collect(),
            }
        }
        Step::Orphan {
            which,
            broker,
            what,
        } => orphan_command(*which, format!("b{broker}"), *what),
        Step::Lapse { request } => Command::Lapse {
            requests: vec![
                pick(&known.requests, *request)?,
                pick(&known.requests, request + 1)?,
            ],
        },
        Step::Away { back: true } => Command::NoteTargetBack {
            target: "shop".parse().unwrap(),
        },
        Step::Away { back: false } => Command::NoteTargetAway {
            target: "shop".parse().unwrap(),
            broker: "b0".into(),
            code: match desk.world.away.len() {
                0 => "target_unavailable".into(),
                _ => "read_only_target".into(),
            },
            detail: String::new(),
        },
        other => return order(desk, known, other),
    })
}

/// What the operator says.
fn order(desk: &Desk, known: &Known, step: &Step) -> Option<Command> {
    Some(match step {
        Step::Move => {
            let target = "shop".parse().unwrap();
            let from = desk.world.servers.get(&target)?.clone();
            Command::MoveTarget {
                to: format!("{from}'").parse().ok()?,
                target,
                from,
                reason: None,
            }
        }
        Step::Freeze { what, on } => Command::SetFreeze {
            by: Actor::Operator,
            freeze: match what {
                0 => Freeze::Everything,
                1 => Freeze::Agent("reporter".parse().unwrap()),
                2 => Freeze::Action("customers.export".parse().unwrap()),
                _ => Freeze::Target("shop".parse().unwrap()),
            },
            on: *on,
        },
        Step::Abandon { lease } => Command::AbandonLease {
            lease: pick(&known.leases, *lease)?,
            reason: BlobRef {
                sha256: Digest::of(b"gone for good"),
            },
        },
        Step::Shut => Command::ShutGuard {
            guard: "guard".parse().unwrap(),
        },
        Step::Disable { agent } => Command::DisableAgent {
            agent: AGENTS[*agent].parse().unwrap(),
        },
        Step::Apply { .. } => Command::ApplyBundle {
            content: BlobRef {
                sha256: desk.policy_digest(),
            },
        },
        _ => return None,
    })
}

fn take(desk: &mut Desk, known: &mut Known, step: &Step) {
    if let Step::Apply { change } = step {
        desk.change_policy(*change);
    }
    match step {
        Step::Wait { seconds } => desk.now = desk.now.plus(Seconds(*seconds)),
        Step::Submit {
            agent,
            action,
            ttl,
            on_behalf_of,
            key,
        } => {
            let submitted = desk.submit_with(AGENTS[*agent], ACTIONS[*action], |submit| {
                submit.ttl = ttl.map(Seconds);
                submit.on_behalf_of = on_behalf_of.map(|i| people()[i].person.clone());
                submit.idempotency_key = key.map(|key| Digest::of(&[key]));
            });
            if let Ok(request) = submitted {
                known.requests.push(request);
            }
        }
        Step::Review {
            request,
            person,
            approve,
            wrong_digest,
        } => {
            let Some(id) = pick(&known.requests, *request) else {
                return;
            };
            let decision = if *approve {
                ReviewDecision::Approve
            } else {
                ReviewDecision::Deny
            };
            let who = &people()[*person];
            if *wrong_digest {
                let digest = Digest::of(b"something else");
                let review = GiveReview {
                    reviewer: who.clone(),
                    request: id,
                    digest,
                    decision,
                    comment: None,
                };
                let refused = desk.tell(&Command::Review(Box::new(review)));
                assert!(
                    refused.is_err(),
                    "a review of another digest counts for nothing"
                );
            } else {
                drop(desk.review(&id, who, decision));
            }
        }
        other => {
            let Some(command) = command(desk, known, other) else {
                return;
            };
            if let Ok(events) = desk.tell(&command) {
                known
                    .leases
                    .extend(events.iter().filter_map(|event| match event {
                        Event::LeaseIntended { lease, .. } => Some(lease.clone()),
                        _ => None,
                    }));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// L1, L2, L4, L5, L9, L11, L12, L13 after any sequence of commands, and no duty is ever stuck.
    #[test]
    fn l01_l02_l05_l12_l13_hold_after_any_commands(steps in prop::collection::vec(step(), 1..120)) {
        let (mut desk, mut known) = (Desk::new(), Known::default());
        desk.targets.room = Some(3);
        for step in &steps {
            take(&mut desk, &mut known, step);
        }
        desk.check();
        settle(&mut desk);
        desk.check();
        prop_assert!(desk.world.leases.is_empty(), "every lease ends when its duties are done");
        prop_assert!(desk.world.requests.is_empty(), "every request closes");
    }

    /// L11: whatever is asked and wherever the bounds lie, the lifetime is no longer than any of them.
    #[test]
    fn l11_ttl_only_shrinks(
        asked in prop_oneof![Just(None), prop_oneof![Just(0), Just(u64::MAX), any::<u64>()].prop_map(Some)],
        default in any::<u64>(),
        longest in any::<u64>(),
        target in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        policy in proptest::option::of(prop_oneof![Just(0), any::<u64>()]),
    ) {
        let mut desk = Desk::new();
        desk.policy.edition += 1;
        desk.policy.actions[0].ttl.default = Seconds(default);
        desk.policy.actions[0].ttl.longest = Seconds(longest);
        desk.policy.ttl_at_most = policy.map(Seconds);
        desk.targets.longest = Seconds(target);
        let content = BlobRef { sha256: Digest::of(b"other") };
        desk.tell(&Command::ApplyBundle { content }).unwrap();
        let submitted = desk.submit_with("reporter", "orders.report", |s| s.ttl = asked.map(Seconds));
        let least = asked.unwrap_or(default).min(longest).min(target).min(policy.unwrap_or(u64::MAX));
        match submitted {
            Err(code) => {
                prop_assert_eq!(code, RefusalCode::InvalidTtl);
                prop_assert_eq!(least, 0);
            }
            Ok(request) => {
                let lease = desk.collect("reporter", &request, "k").unwrap();
                let lease = Arc::clone(&desk.world.leases[&lease]);
                prop_assert_eq!(lease.ttl_seconds, Seconds(least));
                prop_assert!(least > 0);
                prop_assert!(lease.expires <= desk.now.plus(Seconds(least)));
            }
        }
        desk.check();
    }
}
