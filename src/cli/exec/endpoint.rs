//! A container credentials endpoint for AWS SDKs, on loopback, for one command.
//!
//! * only a request with the random token, path and host is answered, and none a browser made for a page
//! * while the lease lives it answers with the same session; afterwards it says why not, and has forgotten the session
//! * a slow or greedy client holds nobody up: connections, header and time are bounded

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::body::{Body, Bytes};
use futures::stream::{FuturesUnordered, StreamExt};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::cli::aws::AwsSession;
use crate::cli::connect::{now_ms, random};
use crate::cli::ending::Ending;
use crate::cli::exit::{Exit, Failure};

const CONNECTIONS: usize = 64;
const HEADER_WITHIN: Duration = Duration::from_secs(2);
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
const LARGEST_HEADER: usize = 16 * 1024;

/// The endpoint. Dropping it closes it and wipes the session.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: TcpListener,
    host: String,
    path: String,
    token: SecretString,
    lease: String,
    held: RefCell<Held>,
}

/// What there is to hand out.
#[derive(Debug)]
enum Held {
    Session(AwsSession),
    Nothing(Ending),
}

/// Why a request is not answered.
#[derive(Clone, Copy)]
struct Refusal(StatusCode, &'static str, &'static str);

impl Endpoint {
    /// Listens on a free port.
    pub(super) async fn open(session: AwsSession, lease: &str) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let opened = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = opened.map_err(|error| {
            Failure::new(
                Exit::NotStarted,
                "delivery",
                format!("open an endpoint on 127.0.0.1: {error}"),
                "allow this user to listen on loopback, or use --env",
            )
        })?;
        Ok(Self {
            listener,
            host: address.to_string(),
            path: format!("/{}", drawn()),
            token: format!("{}{}", drawn(), drawn()).into(),
            lease: lease.to_owned(),
            held: RefCell::new(Held::Session(session)),
        })
    }

    /// Where SDKs ask.
    pub(super) fn url(&self) -> String {
        format!("http://{}{}", self.host, self.path)
    }

    /// What they must show.
    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }

    /// Forgets the session; from now on says why. What was said first stays said.
    pub(crate) fn forget(&self, ending: Ending) {
        let mut held = self.held.borrow_mut();
        if matches!(*held, Held::Session(_)) {
            *held = Held::Nothing(ending);
        }
    }

    /// Answers, until it is no longer awaited.
    pub(crate) async fn serve(&self) -> Infallible {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => connections.push(self.converse(stream)),
                    // Out of descriptors, or a client that went away again.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
                Some(()) = connections.next(), if !connections.is_empty() => {}
            }
        }
    }

    /// One connection: one request, one answer.
    async fn converse(&self, stream: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.answer(&request))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WITHIN)
            .max_buf_size(LARGEST_HEADER)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // How a connection breaks is the client's affair.
        let _ = tokio::time::timeout(ANSWERED_WITHIN, connection).await;
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if let Err(Refusal(status, code, message)) = self.admit(request) {
            return reply(status, problem(code, message));
        }
        let now = now_ms();
        let ran_out = match &*self.held.borrow() {
            Held::Session(session) if now >= session.expires => Some(session.expires),
            _ => None,
        };
        if let Some(end) = ran_out {
            self.forget(Ending::expired(end));
        }
        match &*self.held.borrow() {
            Held::Session(session) => match session.for_container(now) {
                Ok(bytes) => reply(StatusCode::OK, Bytes::from_owner(bytes)),
                Err(_) => reply(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    problem("Internal", "the credential could not be written"),
                ),
            },
            Held::Nothing(ending) => {
                let message = format!(
                    "lease {} {}; ask again with countersign exec",
                    self.lease, ending.what
                );
                reply(StatusCode::FORBIDDEN, problem(ending.code, &message))
            }
        }
    }

    /// Whether the request is one of the command's.
    fn admit<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let headers = request.headers();
        if headers.contains_key(ORIGIN) || headers.contains_key(REFERER) {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                "FromAPage",
                "requests made for web pages are refused",
            ));
        }
        if only(headers, &HOST) != Some(self.host.as_bytes()) {
            return Err(Refusal(
                StatusCode::MISDIRECTED_REQUEST,
                "WrongHost",
                "ask under the address in AWS_CONTAINER_CREDENTIALS_FULL_URI",
            ));
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Err(Refusal(
                StatusCode::UNAUTHORIZED,
                "NoToken",
                "no token was sent; an SDK that reads neither AWS_CONTAINER_AUTHORIZATION_TOKEN nor the file in \
                 AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE needs `countersign aws-credentials` in a profile, or \
                 `countersign exec --env`",
            ));
        }
        let shown = only(headers, &AUTHORIZATION).unwrap_or_default();
        if verify_slices_are_equal(shown, self.token.expose_secret().as_bytes()).is_err() {
            return Err(Refusal(
                StatusCode::UNAUTHORIZED,
                "WrongToken",
                "send the token in AWS_CONTAINER_AUTHORIZATION_TOKEN, which is in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, too",
            ));
        }
        if request.uri().to_string() != self.path {
            return Err(Refusal(
                StatusCode::NOT_FOUND,
                "NotFound",
                "there is nothing here",
            ));
        }
        if request.method() != Method::GET {
            return Err(Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "use GET",
            ));
        }
        Ok(())
    }
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

fn problem(code: &str, message: &str) -> Bytes {
    Bytes::from(json!({"code": code, "message": message}).to_string())
}

fn reply(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 128 random bits as text.
fn drawn() -> String {
    let mut bytes = [0; 16];
    random(&mut bytes);
    hex::encode(bytes)
}
