//! A person with a browser that has no screen: cookies, redirects and forms.

use std::collections::BTreeMap;

use reqwest::{Client, Method, StatusCode, header, redirect};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::broker::{Answer, id};

/// A signed-in person.
pub struct Person {
    base: Url,
    http: Client,
    cookies: BTreeMap<String, String>,
}

/// An answer as a browser gets it.
#[derive(Debug)]
pub struct Page {
    pub status: StatusCode,
    pub location: Option<Url>,
    pub text: String,
}

impl Person {
    /// Signs in as `subject` through the provider `people`, on the broker's pages.
    pub async fn sign_in(base: &str, people: &str, subject: &str) -> Self {
        let mut person = Self {
            base: base.parse().unwrap(),
            http: Client::builder()
                .redirect(redirect::Policy::none())
                .build()
                .unwrap(),
            cookies: BTreeMap::new(),
        };
        let sign_in = person.base.join("/sign-in").unwrap();
        let page = person.browse(Method::GET, &sign_in, "").await;
        assert!(
            page.text.contains(&format!("/sign-in/{people}")),
            "{page:?}"
        );
        let begin = person.base.join(&format!("/sign-in/{people}")).unwrap();
        let left = person.browse(Method::POST, &begin, "return_to=%2F").await;
        let mut url = left.location.expect("the broker sends us to the provider");
        while url.origin() != person.base.origin() {
            url = person.at_the_provider(&url, subject).await;
        }
        let back = person.browse(Method::GET, &url, "").await;
        assert_eq!(back.status, StatusCode::SEE_OTHER, "{back:?}");
        person
    }

    /// One page of a provider: follows it, or fills in its form.
    async fn at_the_provider(&mut self, url: &Url, subject: &str) -> Url {
        let page = self.browse(Method::GET, url, "").await;
        if let Some(next) = page.location {
            return next;
        }
        let answer = if page.text.contains("name=\"person\"") {
            let to = url.join("/authorize").unwrap();
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(url.query_pairs());
            let form = form.append_pair("person", subject).finish();
            self.browse(Method::POST, &to, &form).await
        } else if page.text.contains("value=\"login\"") {
            let form = format!("prompt=login&login={subject}&password=x");
            self.browse(Method::POST, url, &form).await
        } else {
            self.browse(Method::POST, url, "prompt=consent").await
        };
        let next = answer.location.clone();
        next.unwrap_or_else(|| panic!("the provider at {url} goes nowhere: {answer:?}"))
    }

    /// One step of a browser, at whatever site.
    async fn browse(&mut self, method: Method, url: &Url, form: &str) -> Page {
        let jar: Vec<_> = self
            .cookies
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        let mut call = self.http.request(method.clone(), url.clone());
        call = call.header(header::COOKIE, jar.join("; "));
        if method == Method::POST {
            call = call
                .header(header::ORIGIN, url.origin().ascii_serialization())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.to_owned());
        }
        let answer = call.send().await.unwrap();
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            self.cookies.insert(name.into(), value.into());
        }
        let location = answer.headers().get(header::LOCATION);
        Page {
            status: answer.status(),
            location: location.map(|to| url.join(to.to_str().unwrap()).unwrap()),
            text: answer.text().await.unwrap(),
        }
    }

    /// The value of the session cookie.
    pub fn session(&self) -> &str {
        &self.cookies["countersign"]
    }

    /// A page of the broker.
    pub async fn page(&mut self, path: &str) -> Page {
        let url = self.base.join(path).unwrap();
        self.browse(Method::GET, &url, "").await
    }

    /// The token the broker's pages give this session's forms.
    async fn csrf(&mut self) -> String {
        let page = self.page("/").await;
        let mut after = page.text.split("name=\"csrf\" value=\"");
        let token = after.nth(1).expect("the inbox has the sign-out form");
        token.split('"').next().unwrap().to_owned()
    }

    /// Decides on a request with the form on its page.
    pub async fn decide(&mut self, request: &Value, decision: &str, comment: &str) -> Page {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("csrf", &self.csrf().await)
            .append_pair("digest", request["digest"].as_str().unwrap())
            .append_pair("decision", decision)
            .append_pair("comment", comment)
            .finish();
        let path = format!("/requests/{}/review", id(request));
        let url = self.base.join(&path).unwrap();
        self.browse(Method::POST, &url, &form).await
    }

    /// Approves, and is heard.
    pub async fn approve(&mut self, request: &Value) {
        let page = self.decide(request, "approve", "").await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{page:?}");
    }

    /// Decides on a request through the API, as a script in the page would.
    pub async fn decide_by_api(&mut self, request: &Value, decision: &str) -> Answer {
        let path = format!("/v1/requests/{}/reviews", id(request));
        let csrf = self.csrf().await;
        let call = self
            .http
            .post(self.base.join(&path).unwrap())
            .header(header::COOKIE, format!("countersign={}", self.session()))
            .header(header::ORIGIN, self.base.origin().ascii_serialization())
            .header("x-csrf-token", csrf)
            .json(&json!({"decision": decision, "digest": request["digest"]}));
        let answer = call.send().await.unwrap();
        Answer {
            status: answer.status(),
            body: answer.json().await.unwrap(),
        }
    }
}
