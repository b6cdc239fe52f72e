//! B11: a broker that lies signs correctly, and is refused all the same: what an entry claims is derived again, and
//! where the bundle is at hand every decision of policy is decided again.

use countersign::cli::local::VerifiedLedger;
use countersign::domain::request::{Outcome, Submission, VerdictAnswer};
use countersign::domain::{Actor, Agent, Digest, Event, Party, Reviewer, Seconds, Time};
use countersign::ledger::Failure;

use super::book::Book;
use crate::policy::reviewer;

/// A lie: how the honest ledger is changed, which entry is then bad, and the words that name it.
type Lie = (fn(&mut Book) -> usize, &'static str);

fn submission(book: &mut Book, nth: usize, change: impl FnOnce(&mut Submission)) -> usize {
    let at = book.place("request.submitted", nth);
    if let Event::RequestSubmitted { submission, .. } = &mut book.entries[at].event {
        change(submission);
    }
    at
}

/// The same, sealed and digested as if it had been asked so.
fn resealed(book: &mut Book, nth: usize, change: impl FnOnce(&mut Submission)) -> usize {
    submission(book, nth, |submission| {
        change(submission);
        submission.digest = submission.sealed.digest();
    })
}

fn reviewed_by(book: &mut Book, nth: usize, who: Reviewer) -> usize {
    let at = book.place("review.given", nth);
    book.entries[at].actor = Actor::Person {
        person: who.person.clone(),
    };
    if let Event::ReviewGiven { review, .. } = &mut book.entries[at].event {
        review.reviewer = who;
    }
    at
}

/// Lies that show in the entries alone, also in an export.
fn told_by_entries() -> Vec<Lie> {
    vec![
        (
            |book| submission(book, 0, |it| it.digest = Digest::of(b"x")),
            "digest is not the one",
        ),
        (
            |book| resealed(book, 0, |it| it.sealed.ttl_seconds = Seconds(300)),
            "longer than was asked",
        ),
        (
            |book| submission(book, 1, |it| it.reviewers.clear()),
            "left to people and names none",
        ),
        (
            |book| reviewed_by(book, 0, reviewer("eve", &["interns"])),
            "in no group that was to decide",
        ),
        (
            |book| reviewed_by(book, 0, reviewer("ana", &["support-leads"])),
            "on the requester's side",
        ),
        (
            |book| reviewed_by(book, 2, reviewer("ben", &["security"])),
            "had decided already",
        ),
        (other_actor, "not the reviewer's own"),
        (review_too_late, "had lapsed before the review"),
        (one_for_two, "not the quorum that was reached"),
        (grant_of_nothing, "no approval led to the grant"),
        (longer_window, "another time than its action says"),
        (
            |book| intent(book, |it| *it.0 = it.0.plus(Seconds(3600))),
            "later than its lifetime allows",
        ),
        (collect_too_late, "its grant had lapsed"),
        (
            lease_without_grant,
            "cannot follow request in state pending",
        ),
        (lapse_too_early, "its time was not over"),
        (denied_by_nobody, "nobody denied it"),
        (other_bundle, "a bundle that was not in force"),
        (ended_otherwise, "its request comes out otherwise"),
        (longer_silence, "had another time to say that it holds it"),
        (acknowledged_late, "it was too late to say so"),
        (
            |book| owned_before(book, "grant.made"),
            "not the quorum that was reached",
        ),
        (
            |book| owned_before(book, "lease.intended"),
            "had come to stand on the requester's side",
        ),
    ]
}

/// Lies that only deciding again shows.
fn told_by_policy() -> Vec<Lie> {
    vec![
        (allowed, "comes out otherwise"),
        (
            |book| resealed(book, 0, asked_for_a_day),
            "comes out otherwise",
        ),
        (
            |book| {
                submission(book, 2, |it| {
                    it.reviewers = [("dba".parse().unwrap(), 1)].into()
                })
            },
            "comes out otherwise",
        ),
        (
            |book| {
                submission(book, 1, |it| {
                    it.pending_until = it.pending_until.plus(Seconds(60))
                })
            },
            "comes out otherwise",
        ),
        (
            |book| submission(book, 1, |it| it.collect_window = Seconds(86_400)),
            "comes out otherwise",
        ),
        (
            |book| intent(book, |it| *it.1 = it.1.plus(Seconds(600))),
            "comes out otherwise",
        ),
        (other_policies, "comes out otherwise"),
        (no_end, "leads to request.closed here"),
    ]
}

fn asked_for_a_day(submission: &mut Submission) {
    submission.asked_ttl_seconds = Some(Seconds(86_400));
    submission.sealed.ttl_seconds = Seconds(86_400);
}

fn other_actor(book: &mut Book) -> usize {
    let at = book.place("review.given", 0);
    book.entries[at].actor = Actor::Operator;
    at
}

fn review_too_late(book: &mut Book) -> usize {
    let at = book.place("review.given", 0);
    let time = book.entries[at].time.plus(Seconds(3600));
    book.entries[at].time = time;
    if let Event::ReviewGiven { review, .. } = &mut book.entries[at].event {
        review.at = time;
    }
    at
}

/// After the first of two approvals, a grant that counts one person twice.
fn one_for_two(book: &mut Book) -> usize {
    let (at, second) = (
        book.place("review.given", 1) + 1,
        book.place("grant.made", 1),
    );
    let mut grant = book.entries[second].clone();
    let first = book.entries[at - 1].clone();
    (grant.seq, grant.time, grant.actor) = (first.seq + 1, first.time, first.actor);
    if let Event::GrantMade { people, .. } = &mut grant.event {
        people[1] = people[0].clone();
    }
    book.entries[at] = grant;
    at
}

/// B10: the agent of the second reviewed request comes to belong to its first approver, just before the entries that
/// lead to one of `kind`.
fn owned_before(book: &mut Book, kind: &str) -> usize {
    let approval = book.place("review.given", 1);
    let Event::ReviewGiven { review, .. } = &book.entries[approval].event else {
        panic!("no review");
    };
    let owner = Party::Person(review.reviewer.person.clone());
    let enrolled = book.entries.iter().find_map(|entry| match &entry.event {
        Event::AgentEnrolled { agent } if agent.name.as_str() == "migrator" => Some(agent),
        _ => None,
    });
    let agent = Agent {
        owner,
        ..enrolled.unwrap().clone()
    };
    let at = book.place("grant.made", 1) + 1;
    let (change, bad) = match kind {
        "grant.made" => (at - 2, at),
        _ => (at, at + 1),
    };
    book.insert(change, Event::AgentEnrolled { agent });
    bad
}

fn grant_of_nothing(book: &mut Book) -> usize {
    let at = book.place("review.given", 0);
    book.remove(at);
    at
}

fn longer_window(book: &mut Book) -> usize {
    let at = book.place("grant.made", 0);
    if let Event::GrantMade { collect_until, .. } = &mut book.entries[at].event {
        *collect_until = collect_until.plus(Seconds(3600));
    }
    at
}

/// Changes when the first lease expires, and when its mint is over.
fn intent(book: &mut Book, change: impl FnOnce((&mut Time, &mut Time))) -> usize {
    let at = book.place("lease.intended", 0);
    if let Event::LeaseIntended {
        expires,
        mint_until,
        ..
    } = &mut book.entries[at].event
    {
        change((expires, mint_until));
    }
    at
}

/// B14: an agent that has longer to say that it holds its credential than the others.
fn longer_silence(book: &mut Book) -> usize {
    let at = book.place("lease.live", 0);
    if let Event::LeaseLive { acknowledge_by, .. } = &mut book.entries[at].event {
        *acknowledge_by = acknowledge_by.plus(Seconds(60));
    }
    at
}

fn acknowledged_late(book: &mut Book) -> usize {
    let at = book.place("lease.acknowledged", 0);
    book.entries[at].time = book.entries[at - 1].time.plus(Seconds(60));
    at
}

fn collect_too_late(book: &mut Book) -> usize {
    let at = book.place("lease.intended", 0);
    book.entries[at].time = book.entries[at].time.plus(Seconds(7200));
    at
}

fn lease_without_grant(book: &mut Book) -> usize {
    let at = book.place("review.given", 0);
    book.remove(at);
    book.remove(at);
    at
}

fn lapse_too_early(book: &mut Book) -> usize {
    let at = book.place("request.closed", 1);
    book.entries[at].time = book.entries[at - 1].time;
    at
}

fn denied_by_nobody(book: &mut Book) -> usize {
    let at = book.place("review.given", 3);
    book.remove(at);
    at
}

fn other_bundle(book: &mut Book) -> usize {
    let at = book.place("request.submitted", 0);
    if let Event::RequestSubmitted { verdict, .. } = &mut book.entries[at].event {
        verdict.bundle = Digest::of(b"another");
    }
    at
}

fn ended_otherwise(book: &mut Book) -> usize {
    let at = book.place("lease.ended", 0);
    if let Event::LeaseEnded { outcome, .. } = &mut book.entries[at].event {
        *outcome = Some(Outcome::Revoked);
    }
    at
}

fn allowed(book: &mut Book) -> usize {
    let at = book.place("request.submitted", 1);
    if let Event::RequestSubmitted { verdict, .. } = &mut book.entries[at].event {
        verdict.answer = VerdictAnswer::Allow;
    }
    at
}

fn other_policies(book: &mut Book) -> usize {
    let at = book.place("review.given", 0);
    if let Event::ReviewGiven { review, .. } = &mut book.entries[at].event {
        review.policies = vec!["everybody-reviews".into()];
    }
    at
}

/// A review that denied, and the request goes on waiting.
fn no_end(book: &mut Book) -> usize {
    let at = book.place("request.closed", 0);
    book.remove(at);
    at
}

#[tokio::test]
async fn finding_b11_an_honest_ledger_is_decided_again_alike() {
    let book = Book::honest();
    let verified = book.verify(true).await.unwrap();
    assert_eq!(
        (verified.decisions_replayed, verified.decisions_not_replayed),
        (12, 0)
    );
    assert_eq!(verified.why_not_replayed, None);
    let without = book.verify(false).await.unwrap();
    assert_eq!(
        (without.decisions_replayed, without.decisions_not_replayed),
        (0, 12)
    );
    assert!(without.why_not_replayed.unwrap().contains("is not at hand"));
    let export = book.verify_export().await.unwrap();
    assert_eq!(
        (export.decisions_replayed, export.decisions_not_replayed),
        (0, 12)
    );
    assert!(
        export
            .why_not_replayed
            .unwrap()
            .contains("an export has no bundles")
    );
}

#[tokio::test]
async fn finding_b11_what_an_entry_claims_is_derived_again() {
    for (lie, words) in told_by_entries() {
        let mut book = Book::honest();
        let bad = lie(&mut book);
        refused(book.verify_export().await, bad, words);
        refused(book.verify(true).await, bad, words);
    }
}

#[tokio::test]
async fn finding_b11_every_decision_is_decided_again_under_its_bundle() {
    for (lie, words) in told_by_policy() {
        let mut book = Book::honest();
        let bad = lie(&mut book);
        refused(book.verify(true).await, bad, words);
    }
}

/// A decision is written with all it leads to, or not at all.
#[tokio::test]
async fn finding_b11_a_ledger_does_not_end_in_the_middle_of_a_decision() {
    let mut book = Book::honest();
    let grant = book.place("grant.made", 0);
    book.entries.truncate(grant);
    refused(
        book.verify(true).await,
        grant,
        "grant.made, which is missing",
    );
}

/// A bundle that is named but not the one that is kept would let any verdict pass.
#[tokio::test]
async fn finding_b11_a_bundle_is_the_one_its_entry_names() {
    let mut book = Book::honest();
    let at = book.place("bundle.applied", 0);
    if let Event::BundleApplied { bundle, .. } = &mut book.entries[at].event {
        *bundle = Digest::of(b"another");
    }
    refused(book.verify(true).await, at, "its content is not bundle");
}

fn refused(verified: anyhow::Result<VerifiedLedger>, at: usize, words: &str) {
    let Err(error) = verified else {
        panic!("a lie at entry {at} passed: {words}");
    };
    let failure: Failure = error.downcast().unwrap();
    let told = failure.to_string();
    assert!(told.contains(words), "entry {at}, {words}: {told}");
    assert_eq!(
        (failure.first_bad, failure.last_bad),
        (at as u64, at as u64),
        "{told}"
    );
}
