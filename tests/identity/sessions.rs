//! What a browser holds, and how it ends.

use std::collections::BTreeMap;

use countersign::domain::Seconds;
use countersign::identity::{CallbackParams, Grant, Reviewers};
use secrecy::ExposeSecret as _;
use serde_json::json;
use url::Url;

use super::rogue::{Rogue, Scene, id, sign_ins};
use super::world::{World, b64};

#[tokio::test]
async fn case_036_a_sign_in_always_begins_a_new_session() {
    let scene = Scene::new().await;
    let planted = b64([7; 32]);
    let first = scene.sign_in_over(Some(&planted)).await.unwrap();
    assert_ne!(id(&first), planted);
    let sessions = scene.reviewers.sessions();
    assert_eq!(sessions.session(&planted).await.unwrap(), None);
    let second = scene.sign_in_over(Some(id(&first))).await.unwrap();
    assert_ne!(id(&first), id(&second));
    assert_eq!(
        sessions.session(id(&first)).await.unwrap(),
        None,
        "the old id is dead"
    );
    assert!(sessions.session(id(&second)).await.unwrap().is_some());
    let cookie = &second.session_cookie;
    assert_eq!(
        (cookie.name, cookie.path, cookie.same_site),
        ("__Host-countersign", "/", "Lax")
    );
    assert!(cookie.secure && cookie.http_only);
    assert!(
        !format!("{second:?}").contains(id(&second)),
        "it cannot be printed"
    );
    assert!(
        !scene.world.remembered.dump().contains(id(&second)),
        "it is not at rest"
    );
}

#[tokio::test]
async fn case_037_signing_in_as_somebody_else_ends_the_old_session() {
    let scene = Scene::new().await;
    let ana = scene.sign_in().await.unwrap();
    *scene.idp.claims.lock().unwrap() = json!({"sub": "ben"});
    let ben = scene.sign_in_over(Some(id(&ana))).await.unwrap();
    assert_eq!(ben.session.reviewer.person.subject, "ben");
    assert_eq!(
        scene.reviewers.sessions().session(id(&ana)).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn case_041_signing_out_ends_the_session_for_every_broker() {
    let scene = Scene::new().await;
    let signed_in = scene.sign_in().await.unwrap();
    let replica = sign_ins(&scene.world, &[("corp", &scene.idp.url)]);
    assert!(
        replica
            .sessions()
            .session(id(&signed_in))
            .await
            .unwrap()
            .is_some()
    );
    let ended = scene
        .reviewers
        .sessions()
        .end(id(&signed_in))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.reviewer.person.subject, "ana");
    assert_eq!(
        replica.sessions().session(id(&signed_in)).await.unwrap(),
        None
    );
    assert_eq!(replica.sessions().end(id(&signed_in)).await.unwrap(), None);
    assert_eq!(scene.reviewers.sessions().removal().max_age, Seconds(0));
}

#[tokio::test]
async fn a_session_ends_with_the_provider_it_came_from() {
    let scene = Scene::new().await;
    let signed_in = scene.sign_in().await.unwrap();
    let other = Rogue::start(scene.world.now()).await;
    for providers in [
        vec![],
        vec![("corp", other.url.as_str())],
        vec![("new", scene.idp.url.as_str())],
    ] {
        let restarted = sign_ins(&scene.world, &providers);
        let session = restarted.sessions().session(id(&signed_in)).await.unwrap();
        assert_eq!(session, None, "{providers:?}");
    }
}

#[tokio::test]
async fn case_043_forms_carry_a_token_of_their_session() {
    let scene = Scene::new().await;
    let (ana, ben) = (
        scene.sign_in().await.unwrap(),
        scene.sign_in().await.unwrap(),
    );
    let sessions = scene.reviewers.sessions();
    let token = sessions.csrf_token(id(&ana));
    assert!(sessions.csrf_token_holds(id(&ana), token.expose_secret()));
    assert!(!sessions.csrf_token_holds(id(&ben), token.expose_secret()));
    for wrong in [
        "",
        " ",
        &token.expose_secret()[..42],
        &token.expose_secret().to_uppercase(),
    ] {
        assert!(!sessions.csrf_token_holds(id(&ana), wrong));
    }
    assert!(
        !scene
            .world
            .remembered
            .dump()
            .contains(token.expose_secret())
    );
}

#[test]
fn on_loopback_the_cookie_is_not_for_https_only() {
    let world = World::new();
    let url: Url = "http://127.0.0.1:7480".parse().unwrap();
    let reviewers = Reviewers::new(world.ports.clone(), BTreeMap::new(), &url).unwrap();
    assert_eq!(reviewers.sessions().cookie_name(), "countersign");
    assert!(!reviewers.sessions().removal().secure);
}

#[test]
fn everything_can_be_awaited_by_a_server_with_many_threads() {
    fn sendable<T: Send>(_: T) {}
    let world = World::new();
    let agents = world.agents(&[]);
    let url: Url = "http://127.0.0.1:7480".parse().unwrap();
    let reviewers = Reviewers::new(world.ports.clone(), BTreeMap::new(), &url).unwrap();
    sendable(agents.authenticate(""));
    sendable(agents.exchange(Grant::WorkloadToken(String::new().into())));
    sendable(reviewers.begin("", "", None));
    sendable(reviewers.finish(CallbackParams::default(), None, None));
    sendable(reviewers.sessions().session(""));
    sendable(reviewers.sessions().end(""));
}
