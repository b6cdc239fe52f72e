//! Fetching what configured issuers publish, without being led elsewhere.
//!
//! No redirects, no proxies, a time limit, a size limit. `https` only, and only to public addresses, unless
//! the configured issuer itself is on loopback or the configuration says that it lives in a private
//! network. Addresses are judged after name resolution, so a name cannot be re-pointed inwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Largest answer read.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// A mistake in the configuration, found before anything is served.
#[derive(Debug, thiserror::Error)]
#[error("set up {part} {name:?}: {problem}")]
pub struct SetupError {
    part: &'static str,
    name: String,
    problem: String,
}

impl SetupError {
    pub(crate) fn new(part: &'static str, name: &str, problem: impl Into<String>) -> Self {
        Self {
            part,
            name: name.to_owned(),
            problem: problem.into(),
        }
    }
}

/// Why nothing usable came back. Never contains what the other side sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0} is not an address this issuer may send us to")]
    Forbidden(String),
    #[error("no answer")]
    Unreachable(#[source] reqwest::Error),
    #[error("the answer is larger than 512 KiB")]
    TooLarge,
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is not the document it should be: {0}")]
    Malformed(&'static str),
}

/// Which addresses may be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// This machine only; the one case in which `http` is fine.
    Loopback,
    /// The public internet.
    Public,
    /// The public internet and private networks, never link-local or metadata addresses.
    Private,
}

/// Calls one issuer's endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    client: reqwest::Client,
    reach: Reach,
}

impl Fetcher {
    /// For an issuer (or key set) at `url`.
    pub(crate) fn new(url: &Url, private: bool, timeout: Duration) -> Result<Self, String> {
        let local = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(format!("{url} has no host")),
        };
        let reach = match (local, url.scheme(), private) {
            (true, _, _) => Reach::Loopback,
            (false, "https", false) => Reach::Public,
            (false, "https", true) => Reach::Private,
            _ => {
                return Err(format!(
                    "{url} must begin with https (http is for loopback)"
                ));
            }
        };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(reach != Reach::Loopback)
            .timeout(timeout)
            .dns_resolver(Arc::new(Guard(reach)))
            .build()
            .map_err(|error| format!("the HTTP client cannot be built: {error}"))?;
        let fetcher = Self { client, reach };
        fetcher.permit(url).map_err(|error| error.to_string())?;
        Ok(fetcher)
    }

    /// Whether `url` may be called (or a browser sent to it) in the name of this issuer.
    pub(crate) fn permit(&self, url: &Url) -> Result<(), FetchError> {
        let scheme = match self.reach {
            Reach::Loopback => matches!(url.scheme(), "http" | "https"),
            Reach::Public | Reach::Private => url.scheme() == "https",
        };
        let host = match url.host() {
            Some(Host::Ipv4(ip)) => self.reach.includes(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => self.reach.includes(IpAddr::V6(ip)),
            // Names are judged by what they resolve to.
            Some(Host::Domain(_)) => true,
            None => false,
        };
        let plain = url.username().is_empty() && url.password().is_none();
        if scheme && host && plain {
            Ok(())
        } else {
            let shown: String = url.as_str().chars().take(200).collect();
            Err(FetchError::Forbidden(shown))
        }
    }

    /// Fetches a JSON document.
    pub(crate) async fn json(&self, url: &Url) -> Result<serde_json::Value, FetchError> {
        self.permit(url)?;
        let answer = self.client.get(url.clone()).send().await;
        let (status, body) = read(answer.map_err(FetchError::Unreachable)?).await?;
        if status != 200 {
            return Err(FetchError::Status(status));
        }
        serde_json::from_slice(&body).map_err(|_| FetchError::Malformed("it is not JSON"))
    }

    /// Sends a prepared request and returns the whole answer, unless its status is a server's failure.
    pub(crate) async fn exchange(
        &self,
        request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Vec<u8>>, FetchError> {
        let request = reqwest::Request::try_from(request).map_err(FetchError::Unreachable)?;
        self.permit(request.url())?;
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(FetchError::Unreachable)?;
        let headers = answer.headers().clone();
        let (status, body) = read(answer).await?;
        if status >= 500 {
            return Err(FetchError::Status(status));
        }
        let mut response = http::Response::new(body);
        *response.status_mut() =
            http::StatusCode::from_u16(status).map_err(|_| FetchError::Status(status))?;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

async fn read(mut answer: reqwest::Response) -> Result<(u16, Vec<u8>), FetchError> {
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(FetchError::Unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

/// Resolves names and drops every address out of reach.
#[derive(Debug)]
struct Guard(Reach);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| reach.includes(address.ip()))
                .collect();
            if found.is_empty() {
                return Err(format!("{} has no address within reach", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Reach {
    fn includes(self, address: IpAddr) -> bool {
        let v4 = match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(v6) => embedded(v6),
        };
        match (self, v4, address) {
            (Reach::Loopback, _, _) => address.is_loopback(),
            (Reach::Public, Some(v4), _) => public_v4(v4),
            (Reach::Private, Some(v4), _) => public_v4(v4) || private_v4(v4),
            (Reach::Public, None, IpAddr::V6(v6)) => public_v6(v6),
            (Reach::Private, None, IpAddr::V6(v6)) => public_v6(v6) || private_v6(v6),
            (_, None, IpAddr::V4(_)) => false,
        }
    }
}

/// The IPv4 address inside a mapped, NAT64 or 6to4 address.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0x2002, high, low, ..) => Some(join(high, low)),
        _ => None,
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

fn shared_v4(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    a == 100 && (64..128).contains(&b)
}

fn private_v4(v4: Ipv4Addr) -> bool {
    v4.is_private() || shared_v4(v4)
}

fn public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = a == 0
        || a >= 240
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && (b == 18 || b == 19))
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation();
    !special && !private_v4(v4)
}

fn private_v6(v6: Ipv6Addr) -> bool {
    // fd00:ec2::254 is a cloud's metadata service inside the private range.
    v6.is_unique_local() && v6 != Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
}

fn public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, ..] = v6.segments();
    // Global unicast, less documentation and Teredo.
    (0x2000..0x4000).contains(&a) && !(a == 0x2001 && (b == 0xdb8 || b == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_067_private_and_metadata_addresses_are_out_of_reach() {
        let reaches = |text: &str| {
            let ip: IpAddr = text.parse().unwrap();
            (Reach::Public.includes(ip), Reach::Private.includes(ip))
        };
        for never in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "224.0.0.1",
            "255.255.255.255",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "198.18.0.1",
            "192.0.0.1",
            "2001:db8::1",
            "ff02::1",
        ] {
            assert_eq!(reaches(never), (false, false), "{never}");
        }
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(reaches(private), (false, true), "{private}");
        }
        for public in ["1.1.1.1", "2606:4700::1111"] {
            assert_eq!(reaches(public), (true, true), "{public}");
        }
    }

    #[test]
    fn case_067_an_issuer_is_https_or_on_loopback_and_cannot_point_elsewhere() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        let limit = Duration::from_secs(1);
        for wrong in [
            "http://issuer.example",
            "https://10.0.0.1/",
            "https://169.254.169.254/",
            "ftp://issuer.example/",
            "https://user@issuer.example/",
        ] {
            assert!(Fetcher::new(&url(wrong), false, limit).is_err(), "{wrong}");
        }
        let public = Fetcher::new(&url("https://issuer.example"), false, limit).unwrap();
        assert!(public.permit(&url("https://keys.example/jwks")).is_ok());
        assert!(public.permit(&url("http://keys.example/jwks")).is_err());
        assert!(public.permit(&url("https://192.168.0.1/jwks")).is_err());
        let local = Fetcher::new(&url("http://127.0.0.1:9"), false, limit).unwrap();
        assert!(local.permit(&url("http://127.0.0.1:8/jwks")).is_ok());
        assert!(local.permit(&url("http://169.254.169.254/jwks")).is_err());
    }
}
