//! An example of everything the ledger can say.

use std::collections::BTreeMap;

use countersign::domain::agent::AgentOrigin;
use countersign::domain::event::{BlobRef, Freeze};
use countersign::domain::person::Evidence;
use countersign::domain::request::{Review, ReviewDecision, Sealed, Verdict, VerdictAnswer};
use countersign::domain::{
    Actor, Agent, AgentProof, Digest, EndCause, Entry, Event, LeaseId, Outcome, Party, Person,
    RequestId, Reviewer, Seconds, ServerId, Submission, Time,
};
use countersign::ledger::entry::VERSION;
use serde_json::json;

use super::ORIGIN;

pub(crate) fn at(millis: i64) -> Time {
    Time::from_millis(1_795_343_400_000 + millis)
}

fn request() -> RequestId {
    RequestId::draw(at(0), 7)
}

fn lease() -> LeaseId {
    LeaseId::draw(at(1000), 8)
}

fn person(subject: &str) -> Person {
    Person {
        issuer: "https://id.example.com".into(),
        subject: subject.into(),
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn agent(name: &str, owner: Party, proof: AgentProof, origin: AgentOrigin) -> Event {
    Event::AgentEnrolled {
        agent: Agent {
            name: name.parse().unwrap(),
            owner,
            proof,
            origin,
        },
    }
}

fn server() -> ServerId {
    "postgresql 7423116822334455667 timeline 1".parse().unwrap()
}

fn submission(full: bool, answer: VerdictAnswer) -> Event {
    let sealed = Sealed {
        agent: "reporter".parse().unwrap(),
        action: "orders.report".parse().unwrap(),
        definition: digest("definition"),
        parameters: json!({"region": "Zürich \"north\"\n", "limit": 9_007_199_254_740_991_u64, "dry": false})
            .as_object()
            .unwrap()
            .clone(),
        scope: json!({"grants": [{"on": ["public.orders"], "privileges": ["SELECT"]}], "ratio": 0.25}),
        target: "orders-db".parse().unwrap(),
        server: server(),
        ttl_seconds: Seconds(900),
    };
    Event::RequestSubmitted {
        submission: Box::new(Submission {
            request: request(),
            digest: sealed.digest(),
            sealed,
            owner: Party::Group("data-team".parse().unwrap()),
            on_behalf_of: full.then(|| person("ada")),
            context: full.then(|| BlobRef {
                sha256: digest("context"),
            }),
            idempotency_key: full.then(|| digest("key")),
            fingerprint: digest("body"),
            asked_ttl_seconds: full.then_some(Seconds(7200)),
            reviewers: match answer {
                VerdictAnswer::Allow => BTreeMap::new(),
                _ => [("dba".parse().unwrap(), 1), ("oncall".parse().unwrap(), 2)].into(),
            },
            pending_until: at(3_600_000),
            collect_window: Seconds(900),
        }),
        verdict: Verdict {
            answer,
            bundle: digest("bundle"),
            policies: match answer {
                VerdictAnswer::Deny => vec![],
                _ => vec!["may-ask".into()],
            },
            errors: match answer {
                VerdictAnswer::Deny => vec!["attribute `region` not found".into()],
                _ => vec![],
            },
        },
    }
}

fn review(decision: ReviewDecision, full: bool) -> Event {
    Event::ReviewGiven {
        request: request(),
        review: Box::new(Review {
            reviewer: Reviewer {
                person: person("grace"),
                groups: ["dba", "oncall"].map(|g| g.parse().unwrap()).into(),
                evidence: Evidence {
                    auth_time: at(-60_000),
                    acr: full.then(|| "urn:mace:incommon:iap:silver".into()),
                    channel: "web".into(),
                },
            },
            decision,
            digest: digest("sealed"),
            comment: full.then(|| BlobRef {
                sha256: digest("comment"),
            }),
            policies: vec!["reviewers".into()],
            at: at(5000),
        }),
    }
}

fn ending(cause: EndCause, report: serde_json::Value) -> Event {
    Event::LeaseEnding {
        request: request(),
        lease: lease(),
        cause,
        report: report.as_object().unwrap().clone(),
    }
}

fn enrolments() -> Vec<Event> {
    vec![
        agent(
            "reporter",
            Party::Group("data-team".parse().unwrap()),
            AgentProof::ApiKey {
                hash: digest("api key"),
            },
            AgentOrigin::Operator,
        ),
        agent(
            "deployer",
            Party::Person(person("ada")),
            AgentProof::PublicKey {
                ed25519: "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg".into(),
            },
            AgentOrigin::Bundle,
        ),
        agent(
            "builder",
            Party::Person(person("ada")),
            AgentProof::Workload {
                issuer: "github".into(),
                claims: BTreeMap::from([("repository_id".into(), "42".into())]),
            },
            AgentOrigin::Bundle,
        ),
    ]
}

fn decisions() -> Vec<Event> {
    vec![
        submission(true, VerdictAnswer::Review),
        submission(false, VerdictAnswer::Allow),
        submission(false, VerdictAnswer::Deny),
        review(ReviewDecision::Approve, true),
        review(ReviewDecision::Deny, false),
        Event::ReviewRefused {
            request: request(),
            person: person("ada"),
            code: "self_approval".into(),
        },
        Event::GrantMade {
            request: request(),
            digest: digest("sealed"),
            people: vec![person("grace"), person("linus")],
            collect_until: at(905_000),
        },
        Event::RequestClosed {
            request: request(),
            outcome: Outcome::Withdrawn,
        },
    ]
}

fn end_failed(code: &str, detail: &str) -> Event {
    Event::LeaseEndFailed {
        request: request(),
        lease: lease(),
        broker: "broker-1".into(),
        code: code.into(),
        detail: detail.into(),
        attempts: 2,
        retry_at: at(45_000),
    }
}

fn leases() -> Vec<Event> {
    let (request, lease) = (request(), lease());
    vec![
        Event::LeaseIntended {
            request: request.clone(),
            lease: lease.clone(),
            digest: digest("sealed"),
            agent: "reporter".parse().unwrap(),
            target: "orders-db".parse().unwrap(),
            server: server(),
            scope: json!({"grants": []}),
            ttl_seconds: Seconds(900),
            mint_until: at(20_000),
            expires: at(905_000),
            collect_key: digest("collect"),
            bundle: digest("bundle"),
        },
        Event::LeaseLive {
            request: request.clone(),
            lease: lease.clone(),
            expires: at(906_000),
            acknowledge_by: at(66_000),
        },
        Event::LeaseFailed {
            request: request.clone(),
            lease: lease.clone(),
            code: "target_unreachable".into(),
            outcome: None,
        },
        Event::LeaseFailed {
            request: request.clone(),
            lease: lease.clone(),
            code: "scope_refused".into(),
            outcome: Some(Outcome::Failed),
        },
        ending(EndCause::Finished, json!({"exit_code": 0})),
        ending(EndCause::MintUnknown, json!({})),
        Event::LeaseEndClaimed {
            request: request.clone(),
            lease: lease.clone(),
            broker: "broker-1".into(),
            until: at(40_000),
        },
        end_failed("target_unreachable", ""),
        end_failed(
            "cleanup_blocked",
            "view sales.best needs what the lease made: DROP VIEW sales.best",
        ),
        Event::LeaseEnded {
            request: request.clone(),
            lease: lease.clone(),
            proof: vec![
                "login_refused".into(),
                "no_session".into(),
                "no_role".into(),
            ],
            residue: Vec::new(),
            outcome: Some(Outcome::Completed),
        },
        Event::LeaseEnded {
            request,
            lease,
            proof: vec!["no_role".into()],
            residue: vec!["dropped function sales.best()".into()],
            outcome: None,
        },
    ]
}

/// What a guard adds to the life of a lease.
fn guards() -> Vec<Event> {
    let cut_off = |handed_back| Event::LeaseCutOff {
        request: request(),
        lease: lease(),
        broker: "broker-1".into(),
        proof: vec!["denied_by_guard".into()],
        until: at(9_000),
        handed_back,
    };
    vec![
        cut_off(false),
        cut_off(true),
        Event::GuardShut {
            guard: "orders".parse().unwrap(),
            issued_before: at(9_000),
            targets: ["orders-aws".parse().unwrap()].into(),
        },
    ]
}

fn orphans() -> Vec<Event> {
    let target = || "orders-db".parse().unwrap();
    let handle = || "jit_orphan".to_owned();
    let ended = |residue: &[&str]| Event::OrphanEnded {
        target: target(),
        handle: handle(),
        proof: vec!["no_role".into()],
        residue: residue.iter().map(ToString::to_string).collect(),
    };
    let failed = |detail: &str| Event::OrphanEndFailed {
        target: target(),
        handle: handle(),
        broker: "broker-1".into(),
        code: "cleanup_blocked".into(),
        detail: detail.into(),
        attempts: 4,
        retry_at: at(45_000),
    };
    vec![
        Event::OrphanFound {
            target: target(),
            handle: handle(),
        },
        Event::OrphanEndClaimed {
            target: target(),
            handle: handle(),
            broker: "broker-1".into(),
            until: at(40_000),
        },
        failed(""),
        failed("view sales.best needs what it made"),
        ended(&[]),
        ended(&["dropped function sales.best()"]),
    ]
}

fn targets() -> Vec<Event> {
    let moved = |reason| Event::TargetMoved {
        target: "orders-db".parse().unwrap(),
        from: server(),
        to: "postgresql 7423116822334455667 timeline 2".parse().unwrap(),
        reason,
    };
    vec![
        Event::TargetIdentified {
            target: "orders-db".parse().unwrap(),
            server: server(),
        },
        moved(None),
        moved(Some(BlobRef {
            sha256: digest("reason"),
        })),
    ]
}

fn clocks() -> Vec<Event> {
    let accepted = |reason| Event::ClockAccepted {
        wall: at(-3_600_000),
        ledger: at(9_000),
        reason,
    };
    let reason = BlobRef {
        sha256: digest("reason"),
    };
    let ledger = Event::LedgerAccepted {
        size: 41,
        root: digest("root"),
        reason,
    };
    vec![accepted(None), accepted(Some(reason)), ledger]
}

/// At least one event of each kind, beginning with the one that opens a log.
pub(crate) fn every_event() -> Vec<Event> {
    let mut events = vec![
        Event::LedgerOpened {
            origin: ORIGIN.into(),
        },
        Event::BundleApplied {
            bundle: digest("bundle"),
            content: BlobRef {
                sha256: digest("content"),
            },
        },
    ];
    events.extend(enrolments());
    events.push(Event::AgentDisabled {
        agent: "deployer".parse().unwrap(),
    });
    events.extend(decisions());
    events.extend(leases());
    events.extend(orphans());
    events.extend(targets());
    let freezes = [
        Freeze::Everything,
        Freeze::Agent("reporter".parse().unwrap()),
        Freeze::Action("orders.report".parse().unwrap()),
        Freeze::Target("orders-db".parse().unwrap()),
    ];
    for freeze in freezes {
        events.push(Event::FreezeSet {
            freeze: freeze.clone(),
        });
        events.push(Event::FreezeLifted { freeze });
    }
    for groups in [vec![], vec!["dba", "oncall"]] {
        events.push(Event::PersonSignedIn {
            person: person("grace"),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        });
    }
    events.push(Event::PersonSignedOut {
        person: person("grace"),
    });
    events.extend(guards());
    events.extend(clocks());
    events.push(Event::LeaseAcknowledged {
        request: request(),
        lease: lease(),
    });
    events.extend(outages());
    events
}

/// A target that is away, and what is given up there.
fn outages() -> Vec<Event> {
    let target = || "orders-db".parse().unwrap();
    let away = |detail: &str| Event::TargetAway {
        target: target(),
        broker: "broker-1".into(),
        code: "target_unavailable".into(),
        detail: detail.into(),
    };
    vec![
        away(""),
        Event::TargetBack { target: target() },
        away("connection refused"),
        Event::LeaseAbandoned {
            request: request(),
            lease: lease(),
            reason: BlobRef {
                sha256: digest("the server burned down"),
            },
        },
    ]
}

/// Entry number `seq`, saying `event`.
pub(crate) fn entry(seq: u64, event: Event) -> Entry {
    let actors = [
        Actor::Broker,
        Actor::Operator,
        Actor::Agent {
            name: "reporter".parse().unwrap(),
        },
        Actor::Person {
            person: person("grace"),
        },
    ];
    Entry {
        v: VERSION,
        seq,
        time: at(i64::try_from(seq).unwrap() * 250),
        actor: actors[usize::try_from(seq).unwrap() % actors.len()].clone(),
        event,
    }
}

/// A log of `size` entries of every kind.
pub(crate) fn log(size: usize) -> Vec<Entry> {
    let events = every_event();
    let rest = events[1..].iter().cycle();
    let events = events.iter().take(1).chain(rest).take(size);
    (0..)
        .zip(events)
        .map(|(seq, event)| entry(seq, event.clone()))
        .collect()
}
