//! Who stands on the requester's side is judged again whenever something rests on their approval.

use countersign::domain::command::RefusalCode;
use countersign::domain::event::BlobRef;
use countersign::domain::request::{Outcome, ReviewDecision};
use countersign::domain::{
    Command, Digest, Event, Party, Person, RequestId, RequestState, approval,
};

use super::desk::Desk;
use crate::support::rules::{person, reviewer};

/// The bundle in force says that the agent belongs to `owner` from now on.
fn give_to(desk: &mut Desk, agent: &str, owner: Party) {
    let agents = &mut desk.policy.agents;
    let agent = agents.iter_mut().find(|it| it.name.as_str() == agent);
    agent.unwrap().owner = owner;
    desk.policy.edition += 1;
    let content = BlobRef {
        sha256: Digest::of(b"another bundle"),
    };
    desk.tell(&Command::ApplyBundle { content }).unwrap();
}

fn sign_in(desk: &mut Desk, who: &str, groups: &[&str]) {
    desk.tell(&Command::NoteSignIn {
        person: person(who),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
    })
    .unwrap();
}

fn approve(desk: &mut Desk, request: &RequestId, who: &str, group: &str) -> Vec<Event> {
    let who = reviewer(who, &[group]);
    desk.review(request, &who, ReviewDecision::Approve).unwrap()
}

/// How somebody who approved comes to stand on the side of the agent `fixer`, which belongs to a group.
type Change = fn(&mut Desk, &str);

const CHANGES: [Change; 3] = [
    |desk, who| give_to(desk, "fixer", Party::Person(person(who))),
    |desk, who| sign_in(desk, who, &["data-platform"]),
    |desk, who| {
        give_to(desk, "fixer", Party::Group("new-owners".parse().unwrap()));
        sign_in(desk, who, &["new-owners"]);
    },
];

#[test]
fn finding_b10_an_approver_who_became_an_owner_does_not_complete_a_quorum() {
    for change in CHANGES {
        let mut desk = Desk::new();
        let request = desk.submit("fixer", "schema.migrate").unwrap();
        approve(&mut desk, &request, "ben", "dba");
        change(&mut desk, "ben");
        let events = approve(&mut desk, &request, "chloe", "security");
        assert_eq!(events.len(), 1, "no grant: {events:?}");
        let open = desk.open(&request).unwrap();
        assert_eq!(open.state, RequestState::Pending);
        let missing = approval::missing(&desk.world, open);
        assert_eq!(missing, [("dba".parse().unwrap(), 1)].into());
        let events = approve(&mut desk, &request, "dora", "dba");
        let [_, Event::GrantMade { people, .. }] = &events[..] else {
            panic!("{events:?}");
        };
        let mut people: Vec<&Person> = people.iter().collect();
        people.sort();
        assert_eq!(people, [&person("chloe"), &person("dora")]);
        desk.check();
    }
}

#[test]
fn finding_b10_an_approver_who_became_an_owner_takes_the_grant_with_them() {
    for change in CHANGES {
        for (who, collected) in [("nobody", true), ("ben", false), ("chloe", false)] {
            let mut desk = Desk::new();
            let request = desk.submit("fixer", "schema.migrate").unwrap();
            approve(&mut desk, &request, "ben", "dba");
            approve(&mut desk, &request, "chloe", "security");
            change(&mut desk, who);
            let result = desk.collect("fixer", &request, "k");
            if collected {
                result.unwrap();
            } else {
                assert_eq!(result, Err(RefusalCode::SelfApproval), "{who}");
                assert_eq!(desk.outcome(&request), Some(Outcome::Stale));
            }
            desk.check();
        }
    }
}

/// One more approval than needed: the grant stands without the one that fell away.
#[test]
fn finding_b10_a_grant_stands_while_enough_approvals_count() {
    let mut desk = Desk::new();
    let request = desk.submit("fixer", "schema.migrate").unwrap();
    for (who, group) in [("ben", "dba"), ("dora", "dba"), ("chloe", "security")] {
        approve(&mut desk, &request, who, group);
    }
    give_to(&mut desk, "fixer", Party::Person(person("ben")));
    desk.collect("fixer", &request, "k").unwrap();
    desk.check();
}

/// Groups that a later sign-in named count against somebody in an older session, too.
#[test]
fn finding_b10_a_reviewer_is_judged_by_their_newest_groups_as_well() {
    let mut desk = Desk::new();
    let request = desk.submit("fixer", "customers.export").unwrap();
    sign_in(&mut desk, "ben", &["support-leads", "data-platform"]);
    let older = reviewer("ben", &["support-leads"]);
    let refused = desk.review(&request, &older, ReviewDecision::Approve);
    assert_eq!(refused, Err(RefusalCode::SelfApproval));
    desk.check();
}
