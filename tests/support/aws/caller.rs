//! Signed calls to AWS, and what it answers.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use countersign::system::{Clock as _, SystemClock};
use reqwest::Client;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::REGION;

/// Who calls.
#[derive(Clone)]
pub struct Keys {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Session token, of a session.
    pub token: Option<String>,
}

impl Keys {
    /// The root of the emulator's account.
    pub fn root() -> Self {
        Self {
            id: "AKIAROOTROOTROOT0001".into(),
            secret: "rootsecret".into(),
            token: None,
        }
    }

    /// The root of another account: the emulator takes its number for a key.
    pub fn root_of(account: &str) -> Self {
        Self {
            id: account.into(),
            secret: "test".into(),
            token: None,
        }
    }

    /// Those of a session: what AssumeRole answered.
    pub fn assumed(answer: &Answer) -> Self {
        Self {
            id: answer.element("AccessKeyId"),
            secret: answer.element("SecretAccessKey"),
            token: Some(answer.element("SessionToken")),
        }
    }

    /// Those of a collected credential.
    pub fn delivered(credential: &Value) -> Self {
        assert_eq!(credential["kind"], "aws");
        let text = |name: &str| credential[name].as_str().unwrap().to_owned();
        Self {
            id: text("access_key_id"),
            secret: text("secret_access_key"),
            token: Some(text("session_token")),
        }
    }
}

/// What a call came to.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Body.
    pub text: String,
}

impl Answer {
    /// It was done.
    pub fn allowed(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Policy forbids it; any other failure is none of policy's.
    pub fn denied(&self) -> bool {
        matches!(self.code(), Some("AccessDenied" | "AccessDeniedException"))
    }

    /// The error's code.
    pub fn code(&self) -> Option<&str> {
        if self.allowed() {
            return None;
        }
        let xml = self
            .text
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once('<'));
        let json = || {
            self.text
                .split_once("\"__type\":")
                .map(|(_, rest)| rest.trim_start())
        };
        let of_json = || {
            json()?
                .strip_prefix('"')?
                .split_once('"')
                .map(|(name, _)| name)
        };
        let name = xml.map(|(code, _)| code).or_else(of_json)?;
        Some(name.rsplit('#').next().unwrap_or(name))
    }

    /// Checks that it was done.
    pub fn fine(self) -> Self {
        assert!(self.allowed(), "{self:?}");
        self
    }

    /// The text of the first XML element of that name.
    pub fn element(&self, name: &str) -> String {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let rest = self.text.split_once(&open).map(|(_, rest)| rest);
        let text = rest
            .and_then(|rest| rest.split_once(&close))
            .map(|(text, _)| text);
        text.unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .to_owned()
    }
}

/// A caller at one address.
#[derive(Clone)]
pub struct Caller {
    /// Where AWS is.
    pub url: Url,
    /// Who calls.
    pub keys: Keys,
    http: Client,
}

impl Caller {
    /// Somebody who holds `keys`.
    pub fn new(url: Url, keys: Keys) -> Self {
        let http = Client::builder().no_proxy().build().unwrap();
        Self { url, keys, http }
    }

    /// The same place, other keys.
    pub fn with(&self, keys: Keys) -> Self {
        Self {
            keys,
            ..self.clone()
        }
    }

    /// A call to IAM.
    pub async fn iam(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        self.query("iam", "2010-05-08", action, fields).await
    }

    /// A call to STS.
    pub async fn sts(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        self.query("sts", "2011-06-15", action, fields).await
    }

    /// A call to SQS.
    pub async fn sqs(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        self.query("sqs", "2012-11-05", action, fields).await
    }

    /// A call to DynamoDB.
    pub async fn dynamodb(&self, operation: &str, body: &Value) -> Answer {
        let headers = [
            ("content-type", "application/x-amz-json-1.0".to_owned()),
            ("x-amz-target", format!("DynamoDB_20120810.{operation}")),
        ];
        self.send("dynamodb", "POST", "/", &headers, body.to_string())
            .await
    }

    /// A call to S3, such as `GET` of `/bucket/key`.
    pub async fn s3(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send("s3", method, path, &[], body.to_owned()).await
    }

    /// Writes an object.
    pub async fn put(&self, bucket: &str, key: &str) -> Answer {
        self.s3("PUT", &format!("/{bucket}/{key}"), "content").await
    }

    /// Reads an object.
    pub async fn get(&self, bucket: &str, key: &str) -> Answer {
        self.s3("GET", &format!("/{bucket}/{key}"), "").await
    }

    /// A session of a role; its keys, or why there is none.
    pub async fn assume(&self, fields: &[(&str, &str)]) -> Result<Self, Answer> {
        let answer = self.sts("AssumeRole", fields).await;
        if answer.allowed() {
            Ok(self.with(Keys::assumed(&answer)))
        } else {
            Err(answer)
        }
    }

    async fn query(
        &self,
        service: &str,
        version: &str,
        action: &str,
        fields: &[(&str, &str)],
    ) -> Answer {
        let named = [("Action", action), ("Version", version)];
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(named.iter().chain(fields))
            .finish();
        self.form(service, body).await
    }

    /// A call of the query protocol, as it stands.
    pub async fn form(&self, service: &str, body: String) -> Answer {
        let kind = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
        self.send(service, "POST", "/", &[("content-type", kind)], body)
            .await
    }

    async fn send(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: String,
    ) -> Answer {
        let url = self.url.join(path).unwrap();
        let mut request = http::Request::builder().method(method).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(body).unwrap();
        let settings = settings(service);
        let signable = SignableRequest::new(
            method,
            url.as_str(),
            headers.iter().map(|(name, value)| (*name, value.as_str())),
            SignableBody::Bytes(request.body().as_bytes()),
        );
        let (signed, _) = self.signed(service, signable.unwrap(), settings);
        signed.apply_to_request_http1x(&mut request);
        let request = reqwest::Request::try_from(request).unwrap();
        let answer = self.http.execute(request).await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        Answer { status, text }
    }

    /// A presigned URL to read an object, good for an hour by itself.
    pub fn presigned(&self, bucket: &str, key: &str) -> Url {
        let mut url = self.url.join(&format!("/{bucket}/{key}")).unwrap();
        let mut settings = settings("s3");
        settings.signature_location = SignatureLocation::QueryParams;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.expires_in = Some(Duration::from_secs(3600));
        let text = url.to_string();
        let body = SignableBody::UnsignedPayload;
        let signable = SignableRequest::new("GET", &text, std::iter::empty(), body).unwrap();
        let (signed, _) = self.signed("s3", signable, settings);
        url.query_pairs_mut().extend_pairs(signed.params());
        url
    }

    /// Follows a URL without keys of one's own.
    pub async fn follow(&self, url: Url) -> Answer {
        let answer = self.http.get(url).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        Answer { status, text }
    }

    fn signed(
        &self,
        service: &str,
        request: SignableRequest<'_>,
        settings: SigningSettings,
    ) -> (aws_sigv4::http_request::SigningInstructions, String) {
        let Keys { id, secret, token } = self.keys.clone();
        let identity = Credentials::new(id, secret, token, None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(service)
            .time(now())
            .settings(settings)
            .build();
        let signed = sign(request, &parameters.unwrap().into());
        signed.unwrap().into_parts()
    }
}

fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

fn now() -> SystemTime {
    let millis = SystemClock::start().now().millis();
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.try_into().unwrap())
}
