//! HTTP to registries: one pooled client a trust setting, redirects under our own rule, bounded waits.
//!
//! Rule of redirects: `Authorization` goes to the origin alone; an https origin never leads to plain http.

use super::config::RegistryConfig;
use super::resolve::Resolver;
use super::tls;
use crate::RegistryError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

const CONNECT: Duration = Duration::from_secs(15);
const HEADERS: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;
/// The most bytes of a document (manifest, token, error).
pub(crate) const MAX_DOCUMENT: usize = 8 << 20;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A pool, direct or through a proxy.
#[derive(Clone)]
enum Http {
    Direct(Pool<HttpsConnector<HttpConnector<Resolver>>, Body>),
    Proxied(Pool<HttpsConnector<Tunnel<HttpConnector<Resolver>>>, Body>),
}

pub(crate) struct Transport {
    config: RegistryConfig,
    pools: Mutex<HashMap<(String, bool), Http>>,
}

/// One request that can be sent again.
pub(crate) struct Call<'a> {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    /// Sent to the origin only.
    pub authorization: Option<&'a str>,
    pub body: Bytes,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: HeaderMap::new(),
            authorization: None,
            body: Bytes::new(),
        }
    }

    pub fn authorized(mut self, authorization: Option<&'a str>) -> Self {
        self.authorization = authorization;
        self
    }

    pub fn header(mut self, name: header::HeaderName, value: &str) -> Result<Self, RegistryError> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| RegistryError::Config(format!("{value:?} cannot stand in the header {name}")))?;
        self.headers.append(name, value);
        Ok(self)
    }
}

impl Transport {
    pub fn new(config: RegistryConfig) -> Self {
        Self {
            config,
            pools: Mutex::default(),
        }
    }

    pub fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// Sends `call`, following redirects of GET and HEAD.
    pub async fn send(&self, call: &Call<'_>) -> Result<Response<Incoming>, RegistryError> {
        let mut url: Uri = parse(&call.url)?;
        let origin = (url.scheme().cloned(), url.authority().cloned());
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::builder().method(call.method.clone()).uri(url.clone());
            if let Some(headers) = request.headers_mut() {
                headers.clone_from(&call.headers);
            }
            if (url.scheme().cloned(), url.authority().cloned()) == origin
                && let Some(value) = call.authorization
            {
                request = request.header(header::AUTHORIZATION, value);
            }
            let body = if call.body.is_empty() {
                empty()
            } else {
                full(call.body.clone())
            };
            let response = self
                .once(
                    request
                        .body(body)
                        .map_err(|e| RegistryError::Config(e.to_string()))?,
                )
                .await?;
            let follow =
                matches!(call.method, Method::GET | Method::HEAD) && response.status().is_redirection();
            let Some(location) = response.headers().get(header::LOCATION).filter(|_| follow) else {
                return Ok(response);
            };
            url = self.redirected(&url, location)?;
        }
        Err(protocol(
            &call.url,
            format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }

    fn redirected(&self, from: &Uri, location: &HeaderValue) -> Result<Uri, RegistryError> {
        let text = location
            .to_str()
            .map_err(|_| protocol(&from.to_string(), "a Location that is no text".into()))?;
        let to = parse(&absolute(from, text))?;
        let authority = to.authority().map(ToString::to_string).unwrap_or_default();
        if from.scheme_str() == Some("https")
            && to.scheme_str() == Some("http")
            && !self.config.is_insecure(&authority)
        {
            return Err(protocol(
                &from.to_string(),
                format!("a redirect from https to plain http at {authority} is refused"),
            ));
        }
        Ok(to)
    }

    /// Sends one request, without redirects.
    pub async fn once(&self, mut request: Request<Body>) -> Result<Response<Incoming>, RegistryError> {
        let authority = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let https = request.uri().scheme_str() == Some("https");
        if let Ok(agent) = HeaderValue::from_str(&self.config.user_agent) {
            request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        }
        let network = |message: String| RegistryError::Network {
            registry: authority.clone(),
            message,
        };
        let http = self.pool(&authority, https)?;
        let pending = async {
            match http {
                Http::Direct(pool) => pool.request(request).await,
                Http::Proxied(pool) => pool.request(request).await,
            }
        };
        match tokio::time::timeout(HEADERS, pending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(network(causes(&error))),
            Err(_) => Err(network(format!("no answer within {} s", HEADERS.as_secs()))),
        }
    }

    fn pool(&self, authority: &str, https: bool) -> Result<Http, RegistryError> {
        let key = (authority.to_owned(), https);
        if let Some(pool) = self
            .pools
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&key)
        {
            return Ok(pool.clone());
        }
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let settings = tls::client_config(&self.config, authority)?;
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(settings)
            .https_or_http()
            .enable_http1();
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new());
        let made = match self.config.proxy.for_host(https, authority) {
            None => Http::Direct(pool.build(builder.wrap_connector(tcp))),
            Some(proxy) => {
                let address = if proxy.contains("://") {
                    proxy.to_owned()
                } else {
                    format!("http://{proxy}")
                };
                Http::Proxied(pool.build(builder.wrap_connector(Tunnel::new(parse(&address)?, tcp))))
            }
        };
        self.pools
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(key, made.clone());
        Ok(made)
    }
}

fn parse(url: &str) -> Result<Uri, RegistryError> {
    url.parse()
        .map_err(|_| RegistryError::Config(format!("{url:?} is no address")))
}

/// `location` seen from `from`.
pub(crate) fn absolute(from: &Uri, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let scheme = from.scheme_str().unwrap_or("https");
    let authority = from.authority().map(ToString::to_string).unwrap_or_default();
    match location.strip_prefix("//") {
        Some(rest) => format!("{scheme}://{rest}"),
        None if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        None => {
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    }
}

pub(crate) fn protocol(what: &str, message: String) -> RegistryError {
    RegistryError::Protocol {
        what: what.to_owned(),
        message,
    }
}

/// The error with its causes: connectors say the useful thing last.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// The whole body of a document, at most [`MAX_DOCUMENT`] bytes.
pub(crate) async fn document(
    response: Response<Incoming>,
    what: &str,
) -> Result<(StatusCode, HeaderMap, Bytes), RegistryError> {
    let (parts, body) = response.into_parts();
    let collected = tokio::time::timeout(HEADERS, Limited::new(body, MAX_DOCUMENT).collect()).await;
    let bytes = match collected {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            return Err(protocol(
                what,
                format!("cannot read the answer (at most {MAX_DOCUMENT} bytes are taken): {error}"),
            ));
        }
        Err(_) => return Err(protocol(what, "the answer stopped arriving".into())),
    };
    Ok((parts.status, parts.headers, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_made_absolute() {
        let from: Uri = "https://r.example:5000/v2/a/blobs/uploads/".parse().unwrap();
        assert_eq!(absolute(&from, "/v2/x?y=1"), "https://r.example:5000/v2/x?y=1");
        assert_eq!(absolute(&from, "//cdn.example/x"), "https://cdn.example/x");
        assert_eq!(absolute(&from, "http://other/x"), "http://other/x");
        assert_eq!(
            absolute(&from, "uuid"),
            "https://r.example:5000/v2/a/blobs/uploads/uuid"
        );
    }

    #[test]
    fn https_never_leads_to_http() {
        let transport = Transport::new(RegistryConfig::default());
        let from: Uri = "https://r.example/v2/".parse().unwrap();
        assert!(
            transport
                .redirected(&from, &HeaderValue::from_static("http://evil.example/"))
                .is_err()
        );
        assert!(
            transport
                .redirected(&from, &HeaderValue::from_static("https://cdn.example/"))
                .is_ok()
        );
    }
}
