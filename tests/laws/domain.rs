//! `decide`, `apply` and `due` under random commands.

use std::sync::Arc;

use countersign::domain::command::{
    EndFailure, GiveReview, MintResult, RefusalCode, Revoker, Submit,
};
use countersign::domain::event::{BlobRef, Freeze};
use countersign::domain::request::{Outcome, ReviewDecision};
use countersign::domain::rules::Limits;
use countersign::domain::{
    Actor, Command, Digest, Duty, Entry, Event, LeaseId, Request, RequestId, RequestState, Rules,
    Seconds, Time, World, decide, due,
};
use proptest::prelude::*;
use serde_json::{Map, json};

use crate::support::oracle::{check_fold, check_laws};
use crate::support::rules::{AnyTargets, ShopPolicy, people, person, reviewer};

/// A ledger without a store: what the broker does, without its I/O.
pub struct Desk {
    pub policy: ShopPolicy,
    pub targets: AnyTargets,
    pub world: World,
    pub entries: Vec<Entry>,
    pub now: Time,
    ids: u128,
}

impl Desk {
    pub fn new() -> Self {
        let mut desk = Self {
            policy: ShopPolicy::new(),
            targets: AnyTargets {
                longest: Seconds(43_200),
            },
            world: World::default(),
            entries: Vec::new(),
            now: Time::from_millis(1_795_343_400_000),
            ids: 0,
        };
        desk.tell(&Command::Open {
            origin: "countersign.example".into(),
        })
        .unwrap();
        let content = BlobRef {
            sha256: Digest::of(b"bundle"),
        };
        desk.tell(&Command::ApplyBundle { content }).unwrap();
        desk
    }

    /// Decides, appends and folds. A refusal's record is folded too.
    pub fn tell(&mut self, command: &Command) -> Result<Vec<Event>, RefusalCode> {
        let limits = Limits::default();
        let rules = Rules {
            policy: &self.policy,
            targets: &self.targets,
            limits,
        };
        let decision = decide(&self.world, command, &rules, self.now);
        let (events, refusal) = match decision {
            Ok(events) => (events, None),
            Err(refusal) => (refusal.record.clone(), Some(refusal.code)),
        };
        for event in &events {
            let entry = Entry {
                v: 1,
                seq: self.world.size,
                time: self.now,
                actor: command.actor(),
                event: event.clone(),
            };
            self.world
                .apply(&entry)
                .expect("what decide emits always applies");
            self.entries.push(entry);
        }
        refusal.map_or(Ok(events), Err)
    }

    fn draw(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    pub fn submit(&mut self, agent: &str, action: &str) -> Result<RequestId, RefusalCode> {
        self.submit_with(agent, action, |_| {})
    }

    pub fn submit_with(
        &mut self,
        agent: &str,
        action: &str,
        change: impl FnOnce(&mut Submit),
    ) -> Result<RequestId, RefusalCode> {
        let mut parameters = Map::new();
        if action == "customers.export" {
            parameters.insert("country".into(), json!("de"));
        }
        let request = RequestId::draw(self.now, self.draw());
        let mut submit = Submit {
            request: request.clone(),
            agent: agent.parse().unwrap(),
            on_behalf_of: None,
            action: action.parse().unwrap(),
            parameters,
            ttl: None,
            context: None,
            idempotency_key: None,
            fingerprint: Digest::of(action.as_bytes()),
        };
        change(&mut submit);
        self.tell(&Command::Submit(Box::new(submit)))
            .map(|_| request)
    }

    pub fn review(
        &mut self,
        request: &RequestId,
        who: &countersign::domain::Reviewer,
        decision: ReviewDecision,
    ) -> Result<Vec<Event>, RefusalCode> {
        let digest = self.open(request).map(|r| r.submission.digest);
        let digest = digest.unwrap_or(Digest::of(b""));
        self.tell(&Command::Review(Box::new(GiveReview {
            reviewer: who.clone(),
            request: request.clone(),
            digest,
            decision,
            comment: None,
        })))
    }

    pub fn collect(
        &mut self,
        agent: &str,
        request: &RequestId,
        key: &str,
    ) -> Result<LeaseId, RefusalCode> {
        let lease = LeaseId::draw(self.now, self.draw());
        let agent = agent.parse().unwrap();
        let key = Digest::of(key.as_bytes());
        let request = request.clone();
        let events = self.tell(&Command::Collect {
            agent,
            request,
            lease,
            key,
        })?;
        Ok(events.iter().find_map(Event::lease).unwrap().clone())
    }

    pub fn minted(&mut self, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
        self.tell(&Command::RecordMint {
            lease: lease.clone(),
            result: MintResult::Minted,
        })
    }

    pub fn end(&mut self, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
        let broker = "b1".to_owned();
        self.tell(&Command::ClaimEnd {
            lease: lease.clone(),
            broker: broker.clone(),
        })?;
        let result = Ok(vec!["no_role".into()]);
        self.tell(&Command::RecordEnd {
            lease: lease.clone(),
            broker,
            result,
        })
    }

    pub fn open(&self, request: &RequestId) -> Option<&Request> {
        self.world.requests.get(request).map(AsRef::as_ref)
    }

    pub fn outcome(&self, request: &RequestId) -> Option<Outcome> {
        self.entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.event {
                Event::RequestClosed {
                    request: id,
                    outcome,
                } if id == request => Some(*outcome),
                Event::LeaseEnded {
                    request: id,
                    outcome,
                    ..
                }
                | Event::LeaseFailed {
                    request: id,
                    outcome,
                    ..
                } if id == request => *outcome,
                _ => None,
            })
    }

    pub fn check(&self) {
        check_laws(&self.entries, &self.policy);
        check_fold(&self.entries, &self.world);
    }
}

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
        proven: bool,
    },
    Lapse {
        request: usize,
    },
    Freeze {
        what: u8,
        on: bool,
    },
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
        2 => (0..12usize, 0..3usize).prop_map(|(request, agent)| Step::Finish { request, agent }),
        2 => (0..12usize, 0..4u8).prop_map(|(request, by)| Step::Revoke { request, by }),
        4 => (0..12usize, 0..2u8).prop_map(|(lease, broker)| Step::Claim { lease, broker }),
        5 => (0..12usize, 0..2u8, any::<bool>()).prop_map(|(lease, broker, proven)| Step::End { lease, broker, proven }),
        3 => (0..12usize).prop_map(|request| Step::Lapse { request }),
        1 => (0..4u8, any::<bool>()).prop_map(|(what, on)| Step::Freeze { what, on }),
        1 => (0..3usize).prop_map(|agent| Step::Disable { agent }),
        1 => (0..4u8).prop_map(|change| Step::Apply { change }),
        4 => prop_oneof![Just(0), Just(1), 1..40u64, Just(900), Just(3600)].prop_map(|seconds| Step::Wait { seconds }),
    ]
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
        Step::Finish { request, agent } => Command::Finish {
            agent: AGENTS[*agent].parse().unwrap(),
            request: pick(&known.requests, *request)?,
            report: Map::new(),
        },
        Step::Revoke { request, by } => Command::Revoke {
            by: match by {
                0 => Revoker::Operator,
                1 => Revoker::Agent("reporter".parse().unwrap()),
                2 => Revoker::Person(Box::new(reviewer("chloe", &["security"]))),
                _ => Revoker::Person(Box::new(reviewer("eve", &[]))),
            },
            request: pick(&known.requests, *request)?,
        },
        Step::Claim { lease, broker } => Command::ClaimEnd {
            lease: pick(&known.leases, *lease)?,
            broker: format!("b{broker}"),
        },
        Step::End {
            lease,
            broker,
            proven,
        } => Command::RecordEnd {
            lease: pick(&known.leases, *lease)?,
            broker: format!("b{broker}"),
            result: if *proven {
                Ok(vec!["no_role".into()])
            } else {
                Err(EndFailure {
                    code: "target_unavailable".into(),
                    retry_in: Seconds(7),
                })
            },
        },
        Step::Lapse { request } => Command::Lapse {
            request: pick(&known.requests, *request)?,
        },
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
        Step::Disable { agent } => Command::DisableAgent {
            agent: AGENTS[*agent].parse().unwrap(),
        },
        Step::Apply { .. } => Command::ApplyBundle {
            content: BlobRef {
                sha256: desk.policy_digest(),
            },
        },
        Step::Submit { .. } | Step::Review { .. } | Step::Wait { .. } => return None,
    })
}

impl Desk {
    fn policy_digest(&self) -> Digest {
        use countersign::domain::Policy;
        self.policy.bundle()
    }

    fn change_policy(&mut self, change: u8) {
        self.policy.edition += 1;
        match change {
            0 => self.policy.ttl_at_most = Some(Seconds(100)),
            1 => self.policy.ttl_at_most = None,
            2 => {
                self.policy
                    .denied
                    .insert("customers.export".parse().unwrap());
            }
            _ => self.policy.denied.clear(),
        }
    }
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

/// Does what is due until nothing is, with every end proven.
fn settle(desk: &mut Desk) {
    for _ in 0..10_000 {
        let duties = due(&desk.world, desk.now);
        if duties.is_empty() {
            match desk.world.next_deadline() {
                Some(next) => desk.now = desk.now.max(next),
                None => return,
            }
        }
        for duty in duties {
            match duty {
                Duty::Lapse { request } => drop(desk.tell(&Command::Lapse { request })),
                Duty::End { lease, .. } => drop(desk.end(&lease)),
            }
        }
    }
    panic!("duties never end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// L1, L2, L4, L5, L9, L11, L12, L13 after any sequence of commands, and no duty is ever stuck.
    #[test]
    fn l01_l02_l05_l12_l13_hold_after_any_commands(steps in prop::collection::vec(step(), 1..120)) {
        let (mut desk, mut known) = (Desk::new(), Known::default());
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
                let countersign::domain::LeaseState::Issuing { expires, .. } = lease.state else {
                    panic!("issuing")
                };
                prop_assert!(expires <= desk.now.plus(Seconds(least)));
            }
        }
        desk.check();
    }
}

#[test]
fn l01_no_mint_without_a_grant() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::NotApproved)
    );
    desk.review(&request, &people()[1], ReviewDecision::Approve)
        .unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    desk.check();
}

#[test]
fn l02_a_second_collect_gets_nothing_and_a_repeated_one_waits_for_the_first_to_end() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let first = desk.collect("reporter", &request, "k").unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::MintUnderway)
    );
    assert_eq!(
        desk.collect("reporter", &request, "other"),
        Err(RefusalCode::Gone)
    );
    desk.minted(&first).unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "other"),
        Err(RefusalCode::Gone)
    );
    // The same key: the answer was lost. The first credential ends before a second one is minted.
    assert_eq!(desk.collect("reporter", &request, "k").unwrap(), first);
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::MintUnderway)
    );
    desk.end(&first).unwrap();
    let second = desk.collect("reporter", &request, "k").unwrap();
    assert_ne!(second, first);
    desk.check();
}

#[test]
fn l13_nobody_on_the_requesters_side_counts_whatever_their_role() {
    let mut desk = Desk::new();
    // Ana owns `reporter` and leads support; `fixer` belongs to everybody in data-platform.
    let by_owner = desk.submit("reporter", "customers.export").unwrap();
    let by_group = desk.submit("fixer", "customers.export").unwrap();
    let for_ben = desk
        .submit_with("reporter", "customers.export", |s| {
            s.on_behalf_of = Some(person("ben"))
        })
        .unwrap();
    for (request, who) in [(&by_owner, 0), (&by_group, 0), (&for_ben, 1)] {
        let refused = desk.review(request, &people()[who], ReviewDecision::Approve);
        assert_eq!(refused, Err(RefusalCode::SelfApproval));
        let entry = desk.entries.last().unwrap();
        assert!(
            matches!(&entry.event, Event::ReviewRefused { code, .. } if code == "self_approval")
        );
        assert_eq!(desk.open(request).unwrap().state, RequestState::Pending);
    }
    desk.check();
}

#[test]
fn case_024_a_reviewer_who_lost_the_group_is_refused_at_the_click() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    let refused = desk.review(
        &request,
        &reviewer("ben", &["dba"]),
        ReviewDecision::Approve,
    );
    assert_eq!(refused, Err(RefusalCode::NotAReviewer));
    desk.check();
}

#[test]
fn case_007_an_action_that_changed_after_approval_is_not_minted() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    desk.review(&request, &people()[1], ReviewDecision::Approve)
        .unwrap();
    desk.policy.edition += 1;
    desk.policy.actions[1].scope = json!({"roles": ["everything"]});
    let content = BlobRef {
        sha256: Digest::of(b"edited"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::BindingMismatch)
    );
    assert_eq!(desk.outcome(&request), Some(Outcome::Stale));
    desk.check();
}

#[test]
fn case_082_policy_that_changed_after_approval_is_asked_again() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "customers.export").unwrap();
    desk.review(&request, &people()[1], ReviewDecision::Approve)
        .unwrap();
    desk.change_policy(2);
    let content = BlobRef {
        sha256: Digest::of(b"edited"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::PolicyDenied)
    );
    assert_eq!(desk.outcome(&request), Some(Outcome::Stale));
    desk.check();
}

#[test]
fn case_018_a_stale_approval_mints_nothing() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    desk.now = desk.now.plus(Seconds(900));
    assert_eq!(
        desk.collect("reporter", &request, "k"),
        Err(RefusalCode::Expired)
    );
    let late = desk.submit("reporter", "customers.export").unwrap();
    desk.now = desk.now.plus(Seconds(3600));
    let refused = desk.review(&late, &people()[1], ReviewDecision::Approve);
    assert_eq!(refused, Err(RefusalCode::Expired));
    settle(&mut desk);
    assert_eq!(desk.outcome(&late), Some(Outcome::Lapsed));
    desk.check();
}

#[test]
fn case_080_an_evaluation_error_denies() {
    let mut desk = Desk::new();
    desk.policy.edition += 1;
    desk.policy.broken = true;
    let content = BlobRef {
        sha256: Digest::of(b"broken"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
    let request = desk.submit("reporter", "orders.report").unwrap();
    assert_eq!(desk.outcome(&request), Some(Outcome::Refused));
    desk.check();
}

#[test]
fn case_077_a_disabled_agent_loses_everything_and_its_name_stays_taken() {
    let mut desk = Desk::new();
    let live = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &live, "k").unwrap();
    desk.minted(&lease).unwrap();
    let pending = desk.submit("reporter", "customers.export").unwrap();
    let agent = desk.world.agents[&"reporter".parse().unwrap()].0.clone();
    desk.tell(&Command::DisableAgent {
        agent: agent.name.clone(),
    })
    .unwrap();
    assert_eq!(desk.outcome(&pending), Some(Outcome::Revoked));
    assert!(matches!(
        desk.open(&live).unwrap().state,
        RequestState::Ending { .. }
    ));
    assert_eq!(
        desk.submit("reporter", "orders.report"),
        Err(RefusalCode::AgentDisabled)
    );
    let again = desk.tell(&Command::EnrollAgent {
        agent: Box::new(agent),
    });
    assert_eq!(again, Err(RefusalCode::AgentExists));
    desk.check();
}

#[test]
fn case_138_a_zombies_proof_is_refused_after_its_claim_ran_out() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.minted(&lease).unwrap();
    let agent = "reporter".parse().unwrap();
    desk.tell(&Command::Finish {
        agent,
        request,
        report: Map::new(),
    })
    .unwrap();
    let claim = |broker: &str| Command::ClaimEnd {
        lease: lease.clone(),
        broker: broker.into(),
    };
    let proof = |broker: &str| Command::RecordEnd {
        lease: lease.clone(),
        broker: broker.into(),
        result: Ok(vec!["no_role".into()]),
    };
    desk.tell(&claim("zombie")).unwrap();
    assert_eq!(desk.tell(&claim("b2")), Err(RefusalCode::StaleClaim));
    desk.now = desk.now.plus(Seconds(30));
    desk.tell(&claim("b2")).unwrap();
    assert_eq!(desk.tell(&proof("zombie")), Err(RefusalCode::StaleClaim));
    desk.tell(&proof("b2")).unwrap();
    desk.check();
}

#[test]
fn a_lease_ended_while_its_mint_may_be_under_way_is_left_alone_until_the_mint_is_over() {
    let mut desk = Desk::new();
    let request = desk.submit("reporter", "orders.report").unwrap();
    let lease = desk.collect("reporter", &request, "k").unwrap();
    desk.tell(&Command::Revoke {
        by: Revoker::Operator,
        request,
    })
    .unwrap();
    assert_eq!(desk.end(&lease), Err(RefusalCode::StaleClaim));
    assert_eq!(desk.minted(&lease), Err(RefusalCode::StaleClaim));
    desk.now = desk.now.plus(Limits::default().mint_window);
    desk.end(&lease).unwrap();
    desk.check();
}

#[test]
fn illegal_transitions_carry_both_sides() {
    let desk = Desk::new();
    let mut world = desk.world.clone();
    let request = RequestId::draw(desk.now, 1);
    let event = Event::RequestClosed {
        request,
        outcome: Outcome::Denied,
    };
    let entry = Entry {
        v: 1,
        seq: world.size,
        time: desk.now,
        actor: Actor::Broker,
        event,
    };
    let error = world.apply(&entry).unwrap_err();
    assert_eq!(
        (error.event, error.state.as_str()),
        ("request.closed", "no open request")
    );
    assert_eq!(world, desk.world, "a refused entry changes nothing");
}
