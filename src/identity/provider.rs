//! One OpenID provider: what it publishes about itself, the code exchange, the ID token.
//!
//! The protocol is crate `openidconnect`'s; here are the transport it runs over, the checks it leaves to its
//! user (`azp`, the token's age, the shape of the groups claim) and the injected clock.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures::future::BoxFuture;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClaimName, CoreClaimType, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGenderClaim, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreResponseMode, CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AdditionalProviderMetadata, AsyncHttpClient, AuthType, AuthorizationCode,
    Client, ClientId, ClientSecret, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, IdToken, IdTokenClaims, IdTokenFields, IssuerUrl,
    Nonce, PkceCodeVerifier, ProviderMetadata, RedirectUrl, RequestTokenError,
    StandardErrorResponse, StandardTokenResponse, TokenResponse as _,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use super::fetch::{FetchError, Fetcher, SetupError};
use super::jwt::LEEWAY;
use crate::config::PeopleConfig;
use crate::domain::{Seconds, Time};
use crate::system::Clock;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long what a provider publishes is used without asking again.
const FRESH: Seconds = Seconds(3600);
/// The provider is not asked again sooner, neither for new keys nor after it failed to answer.
const BETWEEN_FETCHES: Seconds = Seconds(30);
/// An ID token fresh from the token endpoint is not older than this.
const OLDEST_TOKEN: Seconds = Seconds(600);
const PART: &str = "identity provider";

/// Metadata beyond OpenID Connect Discovery that matters here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MoreMetadata {
    /// RFC 9207: the authorization response names its issuer.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for MoreMetadata {}

/// All claims the standard does not name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MoreClaims {
    #[serde(flatten)]
    all: Map<String, Value>,
}

impl AdditionalClaims for MoreClaims {}

pub(crate) type Metadata = ProviderMetadata<
    MoreMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;
type SignedToken = IdToken<
    MoreClaims,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type TokenAnswer = StandardTokenResponse<
    IdTokenFields<
        MoreClaims,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;
pub(crate) type OidcClient = Client<
    MoreClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenAnswer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl<'c> AsyncHttpClient<'c> for Fetcher {
    type Error = FetchError;
    type Future = BoxFuture<'c, Result<HttpResponse, FetchError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.exchange(request))
    }
}

/// Why a step with the provider failed. For the log; holds nothing secret and nothing the browser sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the provider cannot be reached or does not work: {0}")]
    Unavailable(String),
    #[error("the provider does not accept the code")]
    CodeRefused,
    #[error("the ID token is not accepted: {0}")]
    Token(String),
}

/// Who an ID token is about.
pub(crate) struct Identity {
    pub(crate) subject: String,
    pub(crate) auth_time: Option<Time>,
    pub(crate) acr: Option<String>,
    pub(crate) groups: Vec<String>,
}

/// What is sent with the code.
pub(crate) struct Exchange {
    pub(crate) code: String,
    pub(crate) verifier: String,
    pub(crate) nonce: String,
}

#[derive(Default)]
struct Known {
    metadata: Option<(Time, Arc<Metadata>)>,
    asked: Option<Time>,
}

/// A configured provider.
pub(crate) struct OpenIdProvider {
    pub(crate) config: PeopleConfig,
    issuer: IssuerUrl,
    algorithm: CoreJwsSigningAlgorithm,
    secret: Option<SecretString>,
    redirect: RedirectUrl,
    fetcher: Fetcher,
    known: Mutex<Known>,
    clock: Arc<dyn Clock>,
}

fn algorithm(name: &str) -> Option<CoreJwsSigningAlgorithm> {
    match name {
        "RS256" => Some(CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
        "PS256" => Some(CoreJwsSigningAlgorithm::RsaSsaPssSha256),
        "ES256" => Some(CoreJwsSigningAlgorithm::EcdsaP256Sha256),
        "ES384" => Some(CoreJwsSigningAlgorithm::EcdsaP384Sha384),
        "EdDSA" => Some(CoreJwsSigningAlgorithm::EdDsa),
        _ => None,
    }
}

impl OpenIdProvider {
    pub(crate) fn new(
        name: &str,
        config: PeopleConfig,
        secret: Option<SecretString>,
        redirect: String,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let wrong = |problem: String| SetupError::new(PART, name, problem);
        let algorithm = algorithm(&config.algorithm).ok_or_else(|| {
            wrong(format!(
                "algorithm {:?} is not supported; use RS256, PS256, ES256, ES384 or EdDSA",
                config.algorithm
            ))
        })?;
        if config.client_id.is_empty() || config.groups_claim.is_empty() {
            return Err(wrong("client_id and groups_claim must not be empty".into()));
        }
        let issuer = IssuerUrl::new(config.issuer.clone())
            .map_err(|error| wrong(format!("issuer is not a URL: {error}")))?;
        let fetcher = Fetcher::new(issuer.url(), config.private_network, TIMEOUT).map_err(wrong)?;
        let redirect = RedirectUrl::new(redirect)
            .map_err(|error| wrong(format!("public_url cannot be returned to: {error}")))?;
        Ok(Self {
            config,
            issuer,
            algorithm,
            secret,
            redirect,
            fetcher,
            known: Mutex::default(),
            clock,
        })
    }

    /// What the provider publishes, at most an hour old; `renew` asks again, at most every 30 seconds.
    pub(crate) async fn metadata(&self, renew: bool) -> Result<Arc<Metadata>, Trouble> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        let rested = known.asked.is_none_or(|at| now >= at.plus(BETWEEN_FETCHES));
        if let Some((at, metadata)) = &known.metadata
            && now < at.plus(FRESH)
            && !(renew && rested)
        {
            return Ok(Arc::clone(metadata));
        }
        if !rested {
            return Err(Trouble::Unavailable("it failed moments ago".into()));
        }
        // Noted before the call: whoever goes away in the middle has asked too.
        known.asked = Some(now);
        let metadata = Metadata::discover_async(self.issuer.clone(), &self.fetcher)
            .await
            .map_err(|error| Trouble::Unavailable(discovery_problem(&error)))?;
        if metadata.issuer().as_str() != self.config.issuer {
            return Err(Trouble::Unavailable("it is another issuer".into()));
        }
        self.fetcher
            .permit(metadata.authorization_endpoint().url())
            .map_err(|error| Trouble::Unavailable(error.to_string()))?;
        let metadata = Arc::new(metadata);
        known.metadata = Some((now, Arc::clone(&metadata)));
        Ok(metadata)
    }

    /// Whether an authorization response from here may name `iss` (or none).
    pub(crate) fn response_issuer_holds(&self, metadata: &Metadata, iss: Option<&str>) -> bool {
        let more = metadata.additional_metadata();
        match iss {
            Some(iss) => iss == self.config.issuer,
            None => !more.authorization_response_iss_parameter_supported,
        }
    }

    pub(crate) fn client(&self, metadata: &Metadata) -> OidcClient {
        let secret = self.secret.as_ref();
        let secret = secret.map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
        let methods = metadata.token_endpoint_auth_methods_supported();
        let basic =
            methods.is_none_or(|list| list.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let id = ClientId::new(self.config.client_id.clone());
        OidcClient::from_provider_metadata(metadata.clone(), id, secret)
            .set_redirect_uri(self.redirect.clone())
            .set_auth_type(if basic {
                AuthType::BasicAuth
            } else {
                AuthType::RequestBody
            })
    }

    /// Exchanges the code and verifies the ID token that comes back.
    pub(crate) async fn redeem(&self, exchange: Exchange) -> Result<Identity, Trouble> {
        let metadata = self.metadata(false).await?;
        let answer = self
            .client(&metadata)
            .exchange_code(AuthorizationCode::new(exchange.code))
            .map_err(|error| Trouble::Unavailable(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(exchange.verifier))
            .request_async(&self.fetcher)
            .await
            .map_err(|error| match error {
                RequestTokenError::ServerResponse(_) => Trouble::CodeRefused,
                RequestTokenError::Request(error) => Trouble::Unavailable(error.to_string()),
                RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                    Trouble::Token("the answer it should be in cannot be read".into())
                }
            })?;
        let token = answer.id_token();
        let token = token.ok_or_else(|| Trouble::Token("there is none".into()))?;
        let nonce = Nonce::new(exchange.nonce);
        match self.verify(&metadata, token, &nonce) {
            Err(_) => {
                // The keys may have been rotated since they were fetched; judged once more with new ones.
                let renewed = self.metadata(true).await?;
                self.verify(&renewed, token, &nonce)
            }
            verified => verified,
        }
    }

    fn verify(
        &self,
        metadata: &Metadata,
        token: &SignedToken,
        nonce: &Nonce,
    ) -> Result<Identity, Trouble> {
        let now = self.clock.utc();
        let instant = Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
        let client = self.client(metadata);
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs([self.algorithm.clone()])
            .set_time_fn(move || (UNIX_EPOCH + instant).into())
            .set_issue_time_verifier_fn(move |issued| {
                let issued = Time::from_millis(issued.timestamp_millis());
                if issued > now.plus(LEEWAY) || issued.plus(OLDEST_TOKEN) < now {
                    return Err("it was not issued just now".into());
                }
                Ok(())
            });
        let claims = token
            .claims(&verifier, nonce)
            .map_err(|error| Trouble::Token(short(&error)))?;
        if let Some(party) = claims.authorized_party()
            && party.as_str() != self.config.client_id
        {
            return Err(Trouble::Token("its azp is another client".into()));
        }
        self.identity(claims)
    }

    fn identity(
        &self,
        claims: &IdTokenClaims<MoreClaims, CoreGenderClaim>,
    ) -> Result<Identity, Trouble> {
        let subject = claims.subject().as_str();
        if subject.is_empty() || subject.chars().any(char::is_control) {
            return Err(Trouble::Token("its subject is not a plain text".into()));
        }
        let all = &claims.additional_claims().all;
        Ok(Identity {
            subject: subject.to_owned(),
            auth_time: claims
                .auth_time()
                .map(|at| Time::from_millis(at.timestamp_millis())),
            acr: claims.auth_context_ref().map(|acr| acr.to_string()),
            groups: groups(all, &self.config.groups_claim)?,
        })
    }
}

/// The groups claim: absent means none. Any other shape than a list of texts, or a list the provider left
/// out for its length, is refused: a group unknown to us could be one that may not review.
fn groups(all: &Map<String, Value>, claim: &str) -> Result<Vec<String>, Trouble> {
    let elsewhere = all.get("_claim_names").and_then(|names| names.get(claim));
    if elsewhere.is_some() {
        return Err(Trouble::Token("its groups are too many to be in it".into()));
    }
    let Some(value) = all.get(claim) else {
        return Ok(Vec::new());
    };
    let list = value.as_array().and_then(|list| {
        let texts = list.iter().map(|group| group.as_str().map(str::to_owned));
        texts.collect::<Option<Vec<_>>>()
    });
    list.ok_or_else(|| Trouble::Token("its groups claim is not a list of texts".into()))
}

/// An error without what the other side sent: at most its own words.
fn short(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn discovery_problem<E: std::error::Error + 'static>(
    error: &openidconnect::DiscoveryError<E>,
) -> String {
    match error {
        openidconnect::DiscoveryError::Response(status, _, why) => {
            format!("status {}: {}", status.as_u16(), short(why))
        }
        openidconnect::DiscoveryError::Request(error) => short(error),
        other => short(other),
    }
}

/// The endpoint's address, for the browser.
pub(crate) fn without_fragment(mut url: Url) -> Url {
    url.set_fragment(None);
    url
}
