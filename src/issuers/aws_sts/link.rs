//! Calls to IAM and to the canary's service: few, so they are signed by hand.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::sessions::causes;
use super::trouble::Trouble;
use crate::domain::Time;

/// Longest a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest one call may take.
const CALL: Duration = Duration::from_secs(10);
/// Largest answer read.
const LARGEST_ANSWER: usize = 1024 * 1024;
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// A service that takes forms and answers in XML.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// As in signatures.
    pub(super) name: &'static str,
    pub(super) region: String,
    pub(super) endpoint: Url,
    /// Version of its interface.
    pub(super) version: &'static str,
}

/// The way to AWS's services: no proxies, no redirects, with time limits.
#[derive(Clone, Debug)]
pub(super) struct Link {
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "Error")]
    error: Fault,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fault {
    code: String,
    #[serde(default)]
    message: String,
}

impl Link {
    pub(super) fn new() -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(CALL)
            .build()
            .map_err(|why| format!("aws: the HTTP client cannot be built: {why}"))?;
        Ok(Self { client })
    }

    /// Calls `action` of `service` as `keys`, once.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        service: &Service,
        keys: &Credentials,
        now: Time,
        action: &str,
        fields: &[(&str, &str)],
    ) -> Result<T, Trouble> {
        let body = form(service, action, fields);
        let mut request = self
            .client
            .post(service.endpoint.clone())
            .header("content-type", FORM);
        for (name, value) in signature(service, keys, now, &body)? {
            request = request.header(name, value);
        }
        let answer = request
            .body(body)
            .send()
            .await
            .map_err(|why| failed(&why))?;
        let status = answer.status().as_u16();
        let text = text_of(answer).await?;
        if status == 200 {
            return quick_xml::de::from_str(&text).map_err(|why| {
                Trouble::Lost(format!("{action}: the answer cannot be read: {why}"))
            });
        }
        let fault = quick_xml::de::from_str::<Refusal>(&text).map(|refusal| refusal.error);
        let fault = fault.unwrap_or(Fault {
            code: format!("Status{status}"),
            message: "no words".into(),
        });
        Err(Trouble::Said {
            status,
            code: fault.code,
            detail: format!("{action}: {}", fault.message),
        })
    }
}

fn form(service: &Service, action: &str, fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action);
    form.append_pair("Version", service.version);
    form.extend_pairs(fields);
    form.finish()
}

async fn text_of(mut answer: reqwest::Response) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|why| failed(&why))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_ANSWER {
            return Err(Trouble::Lost("the answer is larger than 1 MiB".into()));
        }
    }
    String::from_utf8(bytes).map_err(|_| Trouble::Lost("the answer is not UTF-8".into()))
}

fn failed(why: &reqwest::Error) -> Trouble {
    let detail = causes(why);
    if why.is_connect() || why.is_builder() {
        Trouble::Unsent(format!("AWS cannot be reached: {detail}"))
    } else {
        Trouble::Lost(format!("the connection to AWS was lost: {detail}"))
    }
}

/// The headers that sign a form.
fn signature(
    service: &Service,
    keys: &Credentials,
    now: Time,
    body: &str,
) -> Result<Vec<(&'static str, String)>, Trouble> {
    let unsigned = |why: String| Trouble::Unsent(format!("sign a call: {why}"));
    let identity = keys.clone().into();
    let since = Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&service.region)
        .name(service.name)
        .time(UNIX_EPOCH + since)
        .settings(SigningSettings::default())
        .build()
        .map_err(|why| unsigned(why.to_string()))?
        .into();
    let headers = [("content-type", FORM)];
    let request = SignableRequest::new(
        "POST",
        service.endpoint.as_str(),
        headers.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    )
    .map_err(|why| unsigned(why.to_string()))?;
    let signed = sign(request, &parameters).map_err(|why| unsigned(why.to_string()))?;
    let (instructions, _) = signed.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers
        .into_iter()
        .map(|header| (header.name(), header.value().to_owned()))
        .collect())
}
