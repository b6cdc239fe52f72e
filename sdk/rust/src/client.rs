//! The calls.

mod operator;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::auth::{Authenticator, Credentials, bearer};
use crate::credential::CollectedView;
use crate::error::Error;
use crate::model::{ActionView, LeaseView, LedgerEntryView, NewRequest, Page, RequestView, State};
use crate::transport::{IdempotencyKey, check_address, exchange, http_client, pause_before_repeat};

/// How long a call may take beyond the wait it asks for.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The longest wait the broker honours in one call.
const LONGEST_WAIT: Duration = Duration::from_secs(50);
/// One long poll; short enough for proxies that cut idle connections.
const ONE_POLL: Duration = Duration::from_secs(25);
/// The least time between two polls that the broker answered at once.
const BETWEEN_POLLS: Duration = Duration::from_millis(500);

/// A client of one broker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    base: Url,
    http: reqwest::Client,
    authenticator: Authenticator,
}

/// One call to be made.
struct Call<'a> {
    operation: &'static str,
    method: Method,
    path: &'a [&'a str],
    query: &'a [(&'a str, String)],
    body: Option<Value>,
    key: Option<&'a IdempotencyKey>,
    wait: Option<Duration>,
    /// Whether twice is the same as once.
    idempotent: bool,
}

impl<'a> Call<'a> {
    fn get(operation: &'static str, path: &'a [&'a str]) -> Self {
        Self {
            operation,
            method: Method::GET,
            path,
            query: &[],
            body: None,
            key: None,
            wait: None,
            idempotent: true,
        }
    }

    fn post(operation: &'static str, path: &'a [&'a str], body: Value) -> Self {
        Self {
            method: Method::POST,
            body: Some(body),
            idempotent: false,
            ..Self::get(operation, path)
        }
    }

    fn is_repeatable(&self) -> bool {
        self.idempotent || self.key.is_some()
    }
}

impl Client {
    /// A client that sends `token` with every call.
    ///
    /// # Errors
    /// When the address is neither `https` nor `http` to this machine.
    pub fn new(base_url: &str, token: SecretString) -> Result<Self, Error> {
        Self::with_credentials(base_url, Credentials::Token(token))
    }

    /// A client that proves itself with `credentials`.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn with_credentials(base_url: &str, credentials: Credentials) -> Result<Self, Error> {
        let (base, loopback) = check_address(base_url)?;
        let http = http_client(loopback)?;
        Ok(Self {
            inner: Arc::new(Inner {
                base,
                http,
                authenticator: Authenticator::new(credentials),
            }),
        })
    }

    /// Actions of the catalog, all pages.
    ///
    /// # Errors
    /// See [`Error`]; so for every call below.
    pub async fn actions(&self) -> Result<Vec<ActionView>, Error> {
        self.all_pages("list actions", &["v1", "actions"]).await
    }

    /// Asks for an action. `key` names this intent: repeating it with the same key asks once.
    pub async fn submit(
        &self,
        ask: &NewRequest,
        key: &IdempotencyKey,
        wait: Option<Duration>,
    ) -> Result<RequestView, Error> {
        let path = ["v1", "requests"];
        let call = Call::post("ask for the action", &path, to_json(ask));
        self.call(Call {
            key: Some(key),
            wait,
            ..call
        })
        .await
    }

    /// One page of requests, newest first. `state` is `open` or `closed`.
    pub async fn requests(
        &self,
        state: Option<&str>,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<RequestView>, Error> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(state.map(|state| ("state", state.to_owned())));
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        let path = ["v1", "requests"];
        self.call(Call {
            query: &query,
            ..Call::get("list requests", &path)
        })
        .await
    }

    /// A request as it is now, or, with `wait`, as soon as it is no longer pending.
    pub async fn request(&self, id: &str, wait: Option<Duration>) -> Result<RequestView, Error> {
        let path = ["v1", "requests", id];
        self.call(Call {
            wait,
            ..Call::get("read the request", &path)
        })
        .await
    }

    /// Waits until the request is no longer pending, at most `at_most`, and returns it as it then is.
    /// Once the broker has answered, an outage within that time is waited out.
    pub async fn wait(&self, id: &str, at_most: Duration) -> Result<RequestView, Error> {
        let deadline = Instant::now() + at_most;
        let mut answered = false;
        loop {
            let started = Instant::now();
            let left = deadline.saturating_duration_since(started);
            match self.request(id, Some(left.min(ONE_POLL))).await {
                Ok(request) if request.state != State::Pending || Instant::now() >= deadline => {
                    return Ok(request);
                }
                Ok(_) => answered = true,
                Err(error) if answered && error.is_outage() && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep_until((started + BETWEEN_POLLS).min(deadline)).await;
        }
    }

    /// Takes a request back.
    pub async fn withdraw(&self, id: &str) -> Result<RequestView, Error> {
        let path = ["v1", "requests", id, "withdraw"];
        self.call(Call::post("withdraw the request", &path, json!({})))
            .await
    }

    /// Collects the credential, once, and acknowledges it: the broker would end it a minute later otherwise. When an
    /// answer was lost, the same `key` collects a new one and the lost one is ended. After an error no credential is
    /// held, and none lives on for more than that minute.
    pub async fn collect(&self, id: &str, key: &IdempotencyKey) -> Result<CollectedView, Error> {
        let path = ["v1", "requests", id, "credential"];
        let call = Call::post("collect the credential", &path, json!({}));
        let collected: CollectedView = self
            .call(Call {
                key: Some(key),
                ..call
            })
            .await?;
        self.acknowledge(&collected.lease.id).await?;
        Ok(collected)
    }

    /// Says that the credential of a lease has arrived.
    async fn acknowledge(&self, lease: &str) -> Result<(), Error> {
        let path = ["v1", "leases", lease, "acknowledge"];
        let call = Call::post("acknowledge the credential", &path, json!({}));
        let idempotent = true;
        let answer = self.answer(&Call { idempotent, ..call }).await;
        answer.map(drop)
    }

    /// Reports the outcome and ends the lease; with `wait`, answers once it is proven ended.
    pub async fn finish(
        &self,
        id: &str,
        report: &Value,
        wait: Option<Duration>,
    ) -> Result<RequestView, Error> {
        let path = ["v1", "requests", id, "finish"];
        self.call(Call {
            wait,
            ..Call::post("report the outcome", &path, report.clone())
        })
        .await
    }

    /// Ends a lease early; with `wait`, answers once it is proven ended.
    pub async fn revoke_lease(
        &self,
        id: &str,
        wait: Option<Duration>,
    ) -> Result<RequestView, Error> {
        let path = ["v1", "leases", id, "revoke"];
        self.call(Call {
            wait,
            ..Call::post("revoke the lease", &path, json!({}))
        })
        .await
    }

    /// Live leases, all pages.
    pub async fn leases(&self) -> Result<Vec<LeaseView>, Error> {
        self.all_pages("list leases", &["v1", "leases"]).await
    }

    /// A lease as it is now, or, with `wait`, as soon as it no longer lives.
    pub async fn lease(&self, id: &str, wait: Option<Duration>) -> Result<LeaseView, Error> {
        let path = ["v1", "leases", id];
        self.call(Call {
            wait,
            ..Call::get("read the lease", &path)
        })
        .await
    }

    /// The newest signed checkpoint, as text.
    pub async fn checkpoint(&self) -> Result<String, Error> {
        self.plain(Call::get(
            "read the checkpoint",
            &["v1", "ledger", "checkpoint"],
        ))
        .await
    }

    /// The ledger's verifier key (C2SP vkey). It proves something only when it is known from elsewhere, too.
    pub async fn ledger_key(&self) -> Result<String, Error> {
        let path = ["v1", "ledger", "key"];
        let text = self
            .plain(Call::get("read the ledger's key", &path))
            .await?;
        Ok(text.trim_end().to_owned())
    }

    async fn plain(&self, call: Call<'_>) -> Result<String, Error> {
        let body = self.answer(&call).await?;
        String::from_utf8(body.to_vec()).map_err(|_| Error::Unexpected {
            operation: call.operation,
            what: "the answer is not text".into(),
        })
    }

    /// Entries of the ledger from index `from`, and where the next page begins. For the operator.
    pub async fn ledger_entries(
        &self,
        from: u64,
        limit: u32,
    ) -> Result<(Vec<LedgerEntryView>, Option<u64>), Error> {
        #[derive(serde::Deserialize)]
        struct Entries {
            data: Vec<LedgerEntryView>,
            next: Option<u64>,
        }
        let query = [("from", from.to_string()), ("limit", limit.to_string())];
        let path = ["v1", "ledger", "entries"];
        let page: Entries = self
            .call(Call {
                query: &query,
                ..Call::get("read the ledger", &path)
            })
            .await?;
        Ok((page.data, page.next))
    }

    async fn all_pages<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &[&str],
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut query = Vec::new();
        loop {
            let page: Page<T> = self
                .call(Call {
                    query: &query,
                    ..Call::get(operation, path)
                })
                .await?;
            let empty = page.data.is_empty();
            all.extend(page.data);
            match page.next_cursor {
                Some(cursor) if !empty => query = vec![("cursor", cursor)],
                _ => return Ok(all),
            }
        }
    }

    async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, Error> {
        let body = self.answer(&call).await?;
        // The parser's message can quote the answer, which may hold a secret: only its place is told.
        serde_json::from_slice(&body).map_err(|error| Error::Unexpected {
            operation: call.operation,
            what: format!(
                "the answer is not what this version understands (line {}, column {}); check that the address is a broker's",
                error.line(),
                error.column()
            ),
        })
    }

    /// Makes the call, again where that is safe.
    async fn answer(&self, call: &Call<'_>) -> Result<secrecy::zeroize::Zeroizing<Vec<u8>>, Error> {
        let mut attempt = 0;
        let mut renewed = false;
        loop {
            let error = match self.once(call).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            let refused = error.problem().is_some_and(|problem| problem.status == 401);
            if refused && !renewed && self.inner.authenticator.renews() {
                // An access token may end early (the agent's key changed, the broker lost its memory).
                renewed = true;
                self.inner.authenticator.forget().await;
                continue;
            }
            match pause_before_repeat(&error, call.is_repeatable(), attempt) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn once(&self, call: &Call<'_>) -> Result<secrecy::zeroize::Zeroizing<Vec<u8>>, Error> {
        let inner = &self.inner;
        let token = inner
            .authenticator
            .token(&inner.http, self.url(&["v1", "token"], &[])?)
            .await?;
        let wait = call
            .wait
            .map(|wait| wait.min(LONGEST_WAIT).as_secs())
            .filter(|seconds| *seconds > 0);
        let mut request = inner
            .http
            .request(call.method.clone(), self.url(call.path, call.query)?)
            .header("authorization", bearer(&token)?)
            .timeout(ANSWER_WITHIN + Duration::from_secs(wait.unwrap_or(0)));
        if let Some(seconds) = wait {
            request = request.header("prefer", format!("wait={seconds}"));
        }
        if let Some(key) = call.key {
            request = request.header("idempotency-key", key.header());
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        exchange(call.operation, request).await
    }

    /// The address of `path` under the base. Each segment is escaped, so an id can never become another path.
    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, Error> {
        let mut url = self.inner.base.clone();
        if path
            .iter()
            .any(|segment| matches!(*segment, "" | "." | ".."))
        {
            return Err(Error::Address(
                "an id or name is empty or consists of dots".into(),
            ));
        }
        url.path_segments_mut()
            .map_err(|()| Error::Address("it cannot have a path".into()))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

fn to_json<T: Serialize>(value: &T) -> Value {
    // Our own request types always serialize.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_place_in_the_path() {
        let client = Client::new("https://broker.example/base/", "t".into()).unwrap();
        let url = client
            .url(&["v1", "requests", "../agents?x=1"], &[])
            .unwrap();
        assert_eq!(
            url.as_str(),
            "https://broker.example/base/v1/requests/..%2Fagents%3Fx=1"
        );
        assert!(client.url(&["v1", ".."], &[]).is_err());
        assert!(!format!("{client:?}").contains("\"t\""));
    }
}
