//! People of a certified OpenID provider, on the pages of a broker that was not started for trying out.

use reqwest::StatusCode;
use serde_json::json;

use super::REPORTER;
use super::broker::Broker;
use super::person::Person;
use super::place::{Place, private_file};
use crate::support::oidc_provider::OidcProvider;

#[tokio::test]
async fn people_of_a_certified_provider_sign_in_and_approve() {
    let place = Place::open().await;
    let base = place.base();
    let provider = OidcProvider::start(&format!("{base}/sign-in/callback")).await;
    let secret = place.dir.join("client-secret");
    private_file(&secret, "a secret only for tests, with : and % in it");
    place.edit("countersign.toml", |text| {
        format!(
            "{text}\n[people.dev]\nissuer = \"{}\"\nclient_id = \"countersign-rs256\"\n\
             client_secret_file = \"client-secret\"\nscopes = [\"groups\"]\n",
            provider.issuer
        )
    });
    let log = place.dir.join("../broker.log");
    let broker = Broker::serve(&place.dir, base, &log).await;
    let body = json!({"action": "customers.export", "parameters": {"country": "fr"}});
    let export = broker.ask(REPORTER, &body).await;

    let mut ana = Person::sign_in(&broker.base, "dev", "ana").await;
    let refused = ana.decide_by_api(&export, "approve").await;
    assert_eq!(refused.body["code"], "self_approval", "{refused:?}");
    let mut nobody = Person::sign_in(&broker.base, "dev", "nobody").await;
    let page = nobody.decide(&export, "approve", "").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{page:?}");
    let mut ben = Person::sign_in(&broker.base, "dev", "ben").await;
    ben.approve(&export).await;
    let approved = broker.request(REPORTER, &export).await;
    assert_eq!(approved["state"], "approved");
    let reviewer = &approved["reviews"][0]["reviewer"];
    assert_eq!(
        reviewer,
        &json!({"issuer": provider.issuer, "subject": "ben"})
    );
    let collected = broker.collect(REPORTER, &export).await;
    assert_eq!(collected.status, StatusCode::OK, "{collected:?}");
    broker.finish(REPORTER, &export).await;
    provider.stop().await;
}
