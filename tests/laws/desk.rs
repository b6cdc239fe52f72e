//! A ledger without a store: what the broker does, without its I/O.

use countersign::domain::command::{EndFailure, GiveReview, MintResult, RefusalCode, Submit};
use countersign::domain::decide::Decision;
use countersign::domain::due::{ends, lapses};
use countersign::domain::event::BlobRef;
use countersign::domain::request::{Outcome, ReviewDecision, VerdictAnswer};
use countersign::domain::{
    Command, Digest, Entry, Event, LeaseId, LeaseState, OrphanKey, Owed, Policy, Proof, Request,
    RequestId, Rules, Seconds, ServerId, TargetName, Time, World, decide,
};
use countersign::ledger::entry::VERSION;
use serde_json::{Map, json};

use crate::support::oracle::{check_fold, check_laws};
use crate::support::rules::{AnyTargets, ShopPolicy};

/// The server behind the shop's target.
pub fn server() -> ServerId {
    "the shop's first server".parse().unwrap()
}

/// A ledger without a store: what the broker does, without its I/O.
pub struct Desk {
    pub policy: ShopPolicy,
    pub targets: AnyTargets,
    pub world: World,
    pub entries: Vec<Entry>,
    pub now: Time,
    /// As it was some commands ago.
    earlier: (World, ShopPolicy, Time),
    ids: u128,
}

impl Desk {
    pub fn new() -> Self {
        let mut desk = Self {
            policy: ShopPolicy::new(),
            targets: AnyTargets {
                longest: Seconds(43_200),
                room: None,
            },
            world: World::default(),
            entries: Vec::new(),
            now: Time::from_millis(1_795_343_400_000),
            earlier: (World::default(), ShopPolicy::new(), Time::default()),
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
        desk.tell(&Command::IdentifyTarget {
            target: "shop".parse().unwrap(),
            server: server(),
        })
        .unwrap();
        desk
    }

    /// Decides, appends and folds. A refusal's record is folded too.
    pub fn tell(&mut self, command: &Command) -> Result<Vec<Event>, RefusalCode> {
        let rules = Rules {
            policy: &self.policy,
            targets: &self.targets,
        };
        let decision = decide(&self.world, command, &rules, self.now);
        if let Command::Submit(submit) = command {
            self.prepare_at_any_time(submit, &decision);
        }
        if self.world.size.is_multiple_of(5) {
            self.earlier = (self.world.clone(), self.policy.clone(), self.now);
        }
        let (events, refusal) = match decision {
            Ok(events) => (events, None),
            Err(refusal) => (refusal.record.clone(), Some(refusal.code)),
        };
        for event in &events {
            let entry = Entry {
                v: VERSION,
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

    /// What was prepared before a submit's turn, just now or long ago, never changes what it comes to.
    fn prepare_at_any_time(&self, submit: &Submit, plain: &Decision) {
        let (earlier, policy_then, then) = &self.earlier;
        let moments = [
            (&self.world, &self.policy, self.now),
            (earlier, policy_then, *then),
        ];
        for (world, policy, now) in moments {
            let rules = |policy| Rules {
                policy,
                targets: &self.targets,
            };
            let mut submit = submit.clone();
            submit.prepared = decide::standing(world, &submit, &rules(policy))
                .map(|standing| decide::prepare(standing, &submit, &rules(policy), now))
                .map(Box::new);
            let command = Command::Submit(Box::new(submit));
            let prepared = decide(&self.world, &command, &rules(&self.policy), self.now);
            assert_eq!(&prepared, plain, "prepared at {now}");
        }
    }

    pub fn draw(&mut self) -> u128 {
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
            earlier: None,
            fingerprint: Digest::of(action.as_bytes()),
            prepared: None,
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

    /// The target minted, and the agent says that it holds the credential.
    pub fn minted(&mut self, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
        let events = self.answered(lease)?;
        if self.world.leases[lease].state == LeaseState::Live {
            self.acknowledge("reporter", lease)?;
        }
        Ok(events)
    }

    pub fn acknowledge(&mut self, agent: &str, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
        self.tell(&Command::Acknowledge {
            agent: agent.parse().unwrap(),
            lease: lease.clone(),
        })
    }

    /// The target minted, and nothing is heard of the agent.
    pub fn answered(&mut self, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
        self.tell(&Command::RecordMint {
            lease: lease.clone(),
            result: MintResult::Minted,
        })
    }

    /// Claims one end.
    pub fn claim(&mut self, owed: &Owed, broker: &str) -> Result<Vec<Event>, RefusalCode> {
        self.tell(&Command::ClaimEnds {
            broker: broker.into(),
            owed: vec![owed.clone()],
        })
    }

    /// Records how one end went.
    pub fn record(
        &mut self,
        owed: &Owed,
        broker: &str,
        result: Result<Proof, EndFailure>,
    ) -> Result<Vec<Event>, RefusalCode> {
        self.tell(&Command::RecordEnds {
            broker: broker.into(),
            results: vec![(owed.clone(), result)],
        })
    }

    pub fn end(&mut self, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
        self.end_owed(&Owed::Lease(lease.clone()))
    }

    pub fn end_orphan(&mut self, orphan: &OrphanKey) -> Result<Vec<Event>, RefusalCode> {
        self.end_owed(&Owed::Orphan(orphan.clone()))
    }

    fn end_owed(&mut self, owed: &Owed) -> Result<Vec<Event>, RefusalCode> {
        self.claim(owed, "b1")?;
        self.record(owed, "b1", Ok(Proof::gone(["no_role"])))
    }

    /// Cuts a lease off: it is seen to be denied everything, and runs out by itself.
    pub fn cut_off(&mut self, lease: &LeaseId) -> Result<Vec<Event>, RefusalCode> {
        let owed = Owed::Lease(lease.clone());
        self.claim(&owed, "b1")?;
        let until = self.world.leases[lease].expires;
        let seen = vec!["denied".into()];
        self.record(&owed, "b1", Ok(Proof::CutOff { seen, until }))
    }

    /// Lets everything lapse that is due to.
    pub fn lapse(&mut self) -> Vec<Event> {
        let requests = lapses(&self.world, self.now).cloned().collect();
        self.tell(&Command::Lapse { requests }).unwrap()
    }

    /// The ends owed now.
    pub fn owed(&self) -> Vec<Owed> {
        let targets = self.world.leases.values().map(|lease| &lease.target);
        let targets = targets.chain(self.world.orphans.keys().map(|(target, _)| target));
        let targets: std::collections::BTreeSet<&TargetName> = targets.collect();
        let owed = targets.into_iter();
        owed.flat_map(|target| ends(&self.world, target, self.now).cloned())
            .collect()
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
                Event::RequestSubmitted {
                    submission,
                    verdict,
                } if &submission.request == request => {
                    (verdict.answer == VerdictAnswer::Deny).then_some(Outcome::Refused)
                }
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
        check_laws(&self.entries);
        check_fold(&self.entries, &self.world);
    }
}

impl Desk {
    pub fn policy_digest(&self) -> Digest {
        self.policy.bundle()
    }

    pub fn change_policy(&mut self, change: u8) {
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

/// Does what is due until nothing is, with every end proven.
pub fn settle(desk: &mut Desk) {
    for _ in 0..10_000 {
        let (lapsed, owed) = (desk.lapse(), desk.owed());
        if lapsed.is_empty() && owed.is_empty() {
            match desk.world.next_deadline() {
                Some(next) => desk.now = desk.now.max(next),
                None => return,
            }
        }
        for owed in owed {
            drop(desk.end_owed(&owed));
        }
    }
    panic!("duties never end");
}
