//! A thousand leases through one guard.

use futures::future::join_all;

use super::aws_account::{Account, Session, now};
use countersign::issuers::Guard as _;

/// Leases in all.
const LEASES: usize = 1000;
/// How many are minted between one publish and the next.
const A_ROUND: usize = 25;
/// Every so many are cut off.
const CUT: usize = 4;
/// How long each lives, in seconds.
const TTL: u64 = 12;

/// A lease, and whether it was cut off.
struct Held {
    session: Session,
    cut: bool,
}

impl Held {
    fn has_run_out(&self) -> bool {
        self.session.expires <= now()
    }

    /// What is wrong with it now. Whether it has run out is looked at before and after, as the look takes its time.
    async fn finding(&self, account: &Account) -> Option<String> {
        let over = self.cut || self.has_run_out();
        let works = account.works(&self.session).await;
        let handle = &self.session.handle;
        match (works, over) {
            (true, true) => Some(format!("{handle} works although it is over")),
            (false, false) if !self.has_run_out() => Some(format!("{handle} is denied wrongly")),
            _ => None,
        }
    }
}

async fn findings(account: &Account, held: &[Held]) -> Vec<String> {
    let looks = held.iter().map(|held| held.finding(account));
    join_all(looks).await.into_iter().flatten().collect()
}

/// With every publish, entries of sessions that have run out leave the list, as they do in the broker.
async fn publish(account: &Account, held: &[Held]) -> usize {
    let cut = held.iter().filter(|held| held.cut && !held.has_run_out());
    let handles: Vec<&str> = cut.map(|held| held.session.handle.as_str()).collect();
    account.cut(&handles).await.unwrap();
    handles.len()
}

#[tokio::test]
async fn l04_case_092_of_a_thousand_leases_none_is_denied_wrongly_and_none_works_on() {
    let account = Account::open().await;
    let mut held: Vec<Held> = Vec::new();
    let (mut largest, mut publishes) = (0, 0);
    while held.len() < LEASES {
        let minted = join_all((0..A_ROUND).map(|_| account.mint(TTL))).await;
        let first = held.len();
        held.extend(minted.into_iter().map(|session| Held {
            session,
            cut: false,
        }));
        assert_eq!(findings(&account, &held[first..]).await, [""; 0]);
        for number in (first..held.len()).step_by(CUT) {
            held[number].cut = true;
        }
        largest = publish(&account, &held).await.max(largest);
        publishes += 1;
        // Those of this round, and of an earlier one.
        let earlier = (held.len() * 7 / 11).saturating_sub(A_ROUND);
        let looked_at = [&held[first..], &held[earlier..earlier + A_ROUND]];
        for held in looked_at {
            assert_eq!(findings(&account, held).await, [""; 0]);
        }
    }
    assert_eq!(findings(&account, &held).await, [""; 0]);
    assert!(largest <= account.guard.room().room, "{largest} entries");
    assert!(
        publishes > 30,
        "{publishes} publishes of five versions at most"
    );
}
