//! What every issuer promises, on every server: one suite, and a bench for each kind of target.

use std::time::Duration;

use countersign::domain::{Seconds, ServerId, Time, lease};
use countersign::issuers::{Credential, Found, GuardContent, Issuer, MintError, Proof, Whose};
use countersign::system::{Clock, SystemClock};
use serde_json::Value;
use tokio::net::TcpListener;

pub use super::orders::{draw_lease, ending, ending_at, order_for, until};
use crate::support::wire::Relay;

/// A prepared target and its issuer, as the suite sees them.
pub trait Bench: Sized {
    /// What only the message that mints has in it.
    const MINT_MESSAGE: &'static str;
    /// Whether the target can say what exists there.
    const LISTS: bool = true;
    /// Whether a mint is a single message: while it goes unanswered, nobody knows whether it arrived, nor when it will.
    const ONE_MESSAGE: bool = false;

    /// A use of a credential that goes on: an open connection, or all a client needs.
    type Session;

    /// One on each server there is.
    async fn open_all() -> Vec<Self>;
    /// Removes what it made.
    async fn close(self);
    /// The issuer, which talks to the target through `port` when that is given, and directly otherwise.
    fn issuer(&self, port: Option<u16>) -> Box<dyn Issuer>;
    /// Where the target listens.
    fn port(&self) -> u16;
    /// What is minted.
    fn scope(&self) -> Value;
    /// Begins to use a credential, and does all that its scope allows.
    async fn begin(&self, credential: &Credential) -> Result<Self::Session, String>;
    /// Whether a use still works.
    async fn works(&self, session: &mut Self::Session) -> bool;
    /// Tries what the scope does not allow; gives what was let through.
    async fn try_beyond(&self, credential: &Credential) -> Vec<String>;
    /// What is left of an ended credential, as the target's administrator sees it.
    async fn leftovers(&self, handle: &str) -> Vec<String>;
    /// Does the first `steps` steps of an end, as a broker that crashed after them; false when there are no more. `content` is
    /// what its ledger has the guard deny, if there is one.
    async fn end_halfway(&self, handle: &str, content: &GuardContent, steps: usize) -> bool;
}

/// A credential, and the lease it serves.
struct Minted {
    handle: String,
    expires: Time,
    credential: Credential,
}

/// A bench at work.
struct Suite<B: Bench> {
    bench: B,
    issuer: Box<dyn Issuer>,
    scope: Value,
    /// The server behind the bench.
    server: ServerId,
    /// What the broker's ledger has the guard deny.
    content: GuardContent,
}

impl<B: Bench> Suite<B> {
    async fn on_all() -> Vec<Self> {
        let benches = B::open_all().await;
        assert!(!benches.is_empty());
        let mut suites = Vec::new();
        for bench in benches {
            let issuer = bench.issuer(None);
            suites.push(Self {
                server: issuer.identify().await.unwrap(),
                issuer,
                scope: bench.scope(),
                content: GuardContent::default(),
                bench,
            });
        }
        suites
    }

    async fn mint(&self) -> Minted {
        self.mint_for(Seconds(600)).await
    }

    async fn mint_for(&self, ttl: Seconds) -> Minted {
        let mut order = order_for(&draw_lease(), &self.scope, &self.server);
        order.ttl = Duration::from_secs(ttl.0);
        let credential = self.issuer.mint(&order).await.unwrap();
        Minted {
            handle: lease::handle_of(&order.lease),
            expires: order.ordered.after(order.ttl),
            credential,
        }
    }

    /// Ends it the way the broker does.
    async fn end(&mut self, handle: &str) {
        self.issuer.end(&ending(handle, &self.scope)).await.unwrap();
        if let Some(guard) = self.issuer.guard() {
            self.content.cut.insert(handle.into());
            guard.publish(&self.content).await.unwrap();
            assert!(guard.holds(&self.content).await.unwrap());
        }
    }

    /// Ends it and checks everything a target can show of it.
    async fn end_for_good(&mut self, minted: &Minted) {
        self.end(&minted.handle).await;
        let proof = self
            .issuer
            .prove(&ending_at(&minted.handle, Some(minted.expires)))
            .await;
        match (proof.unwrap(), self.issuer.guard()) {
            (Proof::Gone { seen, .. }, None) => assert!(!seen.is_empty()),
            (Proof::CutOff { seen, until }, Some(_)) => {
                assert!(!seen.is_empty());
                assert_eq!(until, minted.expires);
            }
            (proof, _) => panic!("not how this kind of credential ends: {proof:?}"),
        }
        assert!(self.bench.begin(&minted.credential).await.is_err());
        let left = self.bench.leftovers(&minted.handle).await;
        assert_eq!(left, Vec::<String>::new());
        assert!(!self.lists(&minted.handle).await);
    }

    async fn begin(&self, minted: &Minted) -> B::Session {
        let mut session = self.bench.begin(&minted.credential).await.unwrap();
        assert!(self.bench.works(&mut session).await);
        session
    }

    async fn lists(&self, handle: &str) -> bool {
        let listed = self.issuer.list().await.unwrap();
        let ours = |found: &Found| found.handle == handle && found.whose == Whose::Ours;
        listed.iter().any(ours)
    }

    /// Asserts that nothing can be done through `issuer` and that it says so; what it says of a mint.
    async fn assert_unavailable(&self, issuer: &dyn Issuer) -> MintError {
        let order = order_for(&draw_lease(), &self.scope, &self.server);
        let handle = lease::handle_of(&draw_lease());
        let look = ending_at(&handle, None);
        let (minted, ended, proven, listed, rehearsed) = tokio::join!(
            issuer.mint(&order),
            async {
                match issuer.guard() {
                    None => issuer.end(&ending(&handle, &self.scope)).await,
                    Some(guard) => guard.publish(&GuardContent::default()).await,
                }
            },
            issuer.prove(&look),
            issuer.list(),
            issuer.rehearse(&[]),
        );
        for error in [ended.unwrap_err(), proven.unwrap_err()] {
            assert_eq!(error.code, "target_unavailable", "{error}");
        }
        if B::LISTS {
            assert_eq!(listed.unwrap_err().code, "target_unavailable");
        }
        assert!(rehearsed.is_err());
        minted.unwrap_err()
    }
}

pub async fn mint_use_end_prove<B: Bench>() {
    for mut suite in Suite::<B>::on_all().await {
        let minted = suite.mint().await;
        let mut session = suite.begin(&minted).await;
        assert_eq!(suite.lists(&minted.handle).await, B::LISTS);
        let look = ending_at(&minted.handle, Some(minted.expires));
        assert!(suite.issuer.prove(&look).await.is_err());
        suite.end_for_good(&minted).await;
        assert!(!suite.bench.works(&mut session).await);
        suite.end_for_good(&minted).await;
        suite.bench.close().await;
    }
}

pub async fn the_scope_is_all_there_is<B: Bench>() {
    for mut suite in Suite::<B>::on_all().await {
        let minted = suite.mint().await;
        suite.begin(&minted).await;
        let let_through = suite.bench.try_beyond(&minted.credential).await;
        assert_eq!(let_through, Vec::<String>::new());
        suite.end_for_good(&minted).await;
        suite.bench.close().await;
    }
}

pub async fn ends_come_in_any_order_and_for_what_never_was<B: Bench>() {
    for mut suite in Suite::<B>::on_all().await {
        let minted = [suite.mint().await, suite.mint().await, suite.mint().await];
        let mut last = suite.begin(&minted[1]).await;
        suite.end_for_good(&minted[2]).await;
        suite.begin(&minted[0]).await;
        suite.end_for_good(&minted[0]).await;
        let never = lease::handle_of(&draw_lease());
        suite.end(&never).await;
        suite
            .issuer
            .end(&ending(&never, &Value::Null))
            .await
            .unwrap();
        suite.issuer.prove(&ending_at(&never, None)).await.unwrap();
        assert!(suite.bench.works(&mut last).await);
        suite.end_for_good(&minted[1]).await;
        for foreign in ["root", "jit_short"] {
            assert!(
                suite
                    .issuer
                    .end(&ending(foreign, &suite.scope))
                    .await
                    .is_err()
            );
            assert!(suite.issuer.prove(&ending_at(foreign, None)).await.is_err());
        }
        suite.bench.close().await;
    }
}

pub async fn l04_a_crash_at_any_step_of_the_end_is_made_good<B: Bench>() {
    for mut suite in Suite::<B>::on_all().await {
        for steps in 0.. {
            let minted = suite.mint().await;
            let mut session = suite.begin(&minted).await;
            suite.content.cut.insert(minted.handle.clone());
            let more = suite
                .bench
                .end_halfway(&minted.handle, &suite.content, steps)
                .await;
            suite.end_for_good(&minted).await;
            assert!(!suite.bench.works(&mut session).await);
            if !more {
                assert!(steps > 1, "an end has steps");
                break;
            }
        }
        suite.bench.close().await;
    }
}

pub async fn l04_when_its_time_is_over_it_is_gone<B: Bench>() {
    for mut suite in Suite::<B>::on_all().await {
        let minted = suite.mint_for(Seconds(5)).await;
        suite.begin(&minted).await;
        suite.end(&minted.handle).await;
        until(async || SystemClock::start().now() > minted.expires).await;
        let expires = Some(minted.expires);
        let proof = suite
            .issuer
            .prove(&ending_at(&minted.handle, expires))
            .await
            .unwrap();
        assert!(matches!(proof, Proof::Gone { .. }), "{proof:?}");
        assert!(suite.bench.begin(&minted.credential).await.is_err());
        suite.bench.close().await;
    }
}

pub async fn a_target_that_is_down_is_unavailable<B: Bench>() {
    for suite in Suite::<B>::on_all().await {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let issuer = suite.bench.issuer(Some(port));
        let minted = suite.assert_unavailable(&*issuer).await;
        assert!(
            matches!(minted, MintError::Unavailable { .. }),
            "{minted:?}"
        );
        suite.bench.close().await;
    }
}

pub async fn a_target_that_hangs_is_unavailable_within_seconds<B: Bench>() {
    for suite in Suite::<B>::on_all().await {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = suite
            .bench
            .issuer(Some(listener.local_addr().unwrap().port()));
        let accepting = async {
            let mut kept = Vec::new();
            loop {
                kept.push(listener.accept().await.unwrap());
            }
        };
        let asked =
            tokio::time::timeout(Duration::from_secs(30), suite.assert_unavailable(&*issuer));
        let minted = tokio::select! {
            asked = asked => asked.expect("every question has a deadline"),
            () = accepting => unreachable!("it accepts for ever"),
        };
        match minted {
            MintError::Unavailable { .. } if !B::ONE_MESSAGE => {}
            MintError::Unknown { .. } if B::ONE_MESSAGE => {}
            minted => panic!("{minted:?}"),
        }
        suite.bench.close().await;
    }
}

pub async fn l03_a_lost_answer_is_unknown_and_can_be_ended<B: Bench>() {
    for mut suite in Suite::<B>::on_all().await {
        let relay = Relay::to(suite.bench.port()).await;
        let relayed = suite.bench.issuer(Some(relay.port));
        relay.lose_answers_to(B::MINT_MESSAGE);
        let order = order_for(&draw_lease(), &suite.scope, &suite.server);
        let minted = relayed.mint(&order).await;
        assert!(
            matches!(minted, Err(MintError::Unknown { .. })),
            "{minted:?}"
        );
        let handle = lease::handle_of(&order.lease);
        if B::LISTS {
            until(async || suite.lists(&handle).await).await;
            // A second mint under the same name must not call itself refused: something of that name is there.
            relay.be_faithful();
            let again = relayed.mint(&order).await;
            assert!(matches!(again, Err(MintError::Unknown { .. })), "{again:?}");
        }
        suite.end(&handle).await;
        let proof = suite
            .issuer
            .prove(&ending_at(&handle, Some(order.ordered.after(order.ttl))))
            .await;
        proof.unwrap();
        suite.bench.close().await;
    }
}

pub async fn l03_a_frozen_broker_mints_nothing_when_it_thaws<B: Bench>() {
    for mut suite in Suite::<B>::on_all().await {
        let relay = Relay::to(suite.bench.port()).await;
        let relayed = suite.bench.issuer(Some(relay.port));
        relay.hold_back(B::MINT_MESSAGE);
        let mut order = order_for(&draw_lease(), &suite.scope, &suite.server);
        order.mint_within = Duration::from_secs(6);
        let deadline = order.ordered.after(order.mint_within);
        let thaw = async {
            until(async || {
                relay.is_holding() && SystemClock::start().now() > deadline.plus(Seconds(1))
            })
            .await;
            relay.be_faithful();
        };
        let (minted, ()) = tokio::join!(relayed.mint(&order), thaw);
        let handle = lease::handle_of(&order.lease);
        match minted {
            Err(MintError::Unavailable { .. }) if !B::ONE_MESSAGE => {}
            // It may still arrive, and what it makes then is ended already.
            Err(MintError::Unknown { .. }) if B::ONE_MESSAGE => suite.end(&handle).await,
            minted => panic!("{minted:?}"),
        }
        suite.issuer.prove(&ending_at(&handle, None)).await.unwrap();
        suite.bench.close().await;
    }
}

pub async fn a_mint_after_its_time_is_not_sent<B: Bench>() {
    for suite in Suite::<B>::on_all().await {
        let relay = Relay::to(suite.bench.port()).await;
        let relayed = suite.bench.issuer(Some(relay.port));
        let mut order = order_for(&draw_lease(), &suite.scope, &suite.server);
        order.mint_within = Duration::from_millis(1);
        until(async || order.left(SystemClock::start().now()).is_err()).await;
        let minted = relayed.mint(&order).await;
        assert!(
            matches!(minted, Err(MintError::Unavailable { .. })),
            "{minted:?}"
        );
        assert!(!relay.saw(B::MINT_MESSAGE));
        suite.bench.close().await;
    }
}

pub async fn a_prepared_target_has_no_problems_and_keeps_no_probe<B: Bench>() {
    for suite in Suite::<B>::on_all().await {
        let relay = Relay::to(suite.bench.port()).await;
        let relayed = suite.bench.issuer(Some(relay.port));
        let found = relayed
            .rehearse(std::slice::from_ref(&suite.scope))
            .await
            .unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
        assert!(!found.target.is_empty());
        assert!(relay.saw(B::MINT_MESSAGE), "a probe was minted");
        suite.bench.close().await;
    }
}

pub async fn explains_what_it_mints<B: Bench>() {
    for suite in Suite::<B>::on_all().await {
        suite.issuer.check_scope(&suite.scope).unwrap();
        let told = suite.issuer.explain(&suite.scope, Seconds(900));
        assert!(!told.words.is_empty() && !told.exact.is_empty());
        assert!(told.ending[0].contains("15m"), "{:?}", told.ending);
        assert!(suite.issuer.check_scope(&Value::Null).is_err());
        suite.bench.close().await;
    }
}

/// The suite for one kind of target: a module of its tests.
macro_rules! conforms {
    ($name:ident, $bench:ty) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn mint_use_end_prove() {
                conformance::mint_use_end_prove::<$bench>().await;
            }

            #[tokio::test]
            async fn the_scope_is_all_there_is() {
                conformance::the_scope_is_all_there_is::<$bench>().await;
            }

            #[tokio::test]
            async fn ends_come_in_any_order_and_for_what_never_was() {
                conformance::ends_come_in_any_order_and_for_what_never_was::<$bench>().await;
            }

            #[tokio::test]
            async fn l04_a_crash_at_any_step_of_the_end_is_made_good() {
                conformance::l04_a_crash_at_any_step_of_the_end_is_made_good::<$bench>().await;
            }

            #[tokio::test]
            async fn l04_when_its_time_is_over_it_is_gone() {
                conformance::l04_when_its_time_is_over_it_is_gone::<$bench>().await;
            }

            #[tokio::test]
            async fn a_target_that_is_down_is_unavailable() {
                conformance::a_target_that_is_down_is_unavailable::<$bench>().await;
            }

            #[tokio::test]
            async fn a_target_that_hangs_is_unavailable_within_seconds() {
                conformance::a_target_that_hangs_is_unavailable_within_seconds::<$bench>().await;
            }

            #[tokio::test]
            async fn l03_a_lost_answer_is_unknown_and_can_be_ended() {
                conformance::l03_a_lost_answer_is_unknown_and_can_be_ended::<$bench>().await;
            }

            #[tokio::test]
            async fn l03_a_frozen_broker_mints_nothing_when_it_thaws() {
                conformance::l03_a_frozen_broker_mints_nothing_when_it_thaws::<$bench>().await;
            }

            #[tokio::test]
            async fn a_mint_after_its_time_is_not_sent() {
                conformance::a_mint_after_its_time_is_not_sent::<$bench>().await;
            }

            #[tokio::test]
            async fn a_prepared_target_has_no_problems_and_keeps_no_probe() {
                conformance::a_prepared_target_has_no_problems_and_keeps_no_probe::<$bench>().await;
            }

            #[tokio::test]
            async fn explains_what_it_mints() {
                conformance::explains_what_it_mints::<$bench>().await;
            }
        }
    };
}

pub(super) use conforms;
