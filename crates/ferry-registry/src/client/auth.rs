//! Answers to challenges: Basic, and Bearer by the token server's GET (or OAuth2 POST with an identity token).
//!
//! Credentials are bound to their origin: a realm gets them only on the registry's own host or on one of the same
//! parent domain, and only over TLS unless the registry itself is reached without.

use super::config::{Credentials, host_only};
use super::transport::{Call, Transport, document, protocol};
use crate::RegistryError;
use crate::proto::challenge::{self, Challenge};
use crate::proto::errors;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// `Authorization` values by (realm, service, scope, user).
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<[String; 4], (String, Instant)>>);

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// The `Authorization` value that meets the challenge in `headers`, for `scope` at the registry `base`.
pub(crate) async fn answer(
    transport: &Transport,
    tokens: &Tokens,
    (base, headers): (&Uri, &HeaderMap),
    scope: &str,
    credentials: &Credentials,
) -> Result<String, RegistryError> {
    let registry = base.authority().map(ToString::to_string).unwrap_or_default();
    if !credentials.registry_token.is_empty() {
        return Ok(format!("Bearer {}", credentials.registry_token));
    }
    let challenges: Vec<Challenge> = headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect();
    if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
        return Ok(format!(
            "Bearer {}",
            token(transport, tokens, (base, bearer), scope, credentials).await?
        ));
    }
    if challenges.iter().any(|c| c.scheme == "basic") {
        if credentials.username.is_empty() {
            return Err(RegistryError::Unauthorized {
                registry,
                message: "authentication required".into(),
            });
        }
        return Ok(basic(credentials));
    }
    Err(protocol(
        &base.to_string(),
        "401 without a challenge that can be met (Basic or Bearer)".into(),
    ))
}

fn basic(credentials: &Credentials) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{}:{}", credentials.username, credentials.password))
    )
}

async fn token(
    transport: &Transport,
    tokens: &Tokens,
    (base, bearer): (&Uri, &Challenge),
    scope: &str,
    credentials: &Credentials,
) -> Result<String, RegistryError> {
    let realm_text = bearer.get("realm").unwrap_or_default();
    let realm: Uri = realm_text.parse().map_err(|_| {
        protocol(
            &base.to_string(),
            format!("the token realm {realm_text:?} is no address"),
        )
    })?;
    let service = bearer.get("service").unwrap_or_default().to_owned();
    let key = [
        realm_text.to_owned(),
        service.clone(),
        scope.to_owned(),
        credentials.username.clone(),
    ];
    if let Some((value, until)) = tokens
        .0
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .get(&key)
        && *until > Instant::now()
    {
        return Ok(value.clone());
    }
    if !credentials.is_anonymous() {
        trusted_realm(transport, base, &realm)?;
    }
    let what = format!(
        "token for {scope:?} from {}",
        realm.authority().map(ToString::to_string).unwrap_or_default()
    );
    let authorization = (!credentials.username.is_empty() && credentials.identity_token.is_empty())
        .then(|| basic(credentials));
    let call = request(&realm, &service, scope, credentials)?.authorized(authorization.as_deref());
    let (status, _, body) = document(transport.send(&call).await?, &what).await?;
    if !status.is_success() {
        let registry = base.authority().map(ToString::to_string).unwrap_or_default();
        let message = errors::sentence(&body);
        return Err(match status.as_u16() {
            401 | 403 => RegistryError::Unauthorized { registry, message },
            _ => protocol(&what, format!("{status}: {message}")),
        });
    }
    let parsed: TokenAnswer = serde_json::from_slice(&body).map_err(|e| protocol(&what, e.to_string()))?;
    let value = if parsed.token.is_empty() {
        parsed.access_token
    } else {
        parsed.token
    };
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(protocol(&what, "no token in the answer".into()));
    }
    let life = Duration::from_secs(parsed.expires_in.unwrap_or(60).clamp(60, 86_400) - 10);
    tokens
        .0
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .insert(key, (value.clone(), Instant::now() + life));
    Ok(value)
}

fn request<'a>(
    realm: &Uri,
    service: &str,
    scope: &str,
    credentials: &Credentials,
) -> Result<Call<'a>, RegistryError> {
    let mut pairs = vec![("service", service)];
    pairs.extend(scope.split(' ').filter(|s| !s.is_empty()).map(|s| ("scope", s)));
    if !credentials.identity_token.is_empty() {
        pairs.extend([
            ("grant_type", "refresh_token"),
            ("client_id", "ferry"),
            ("refresh_token", credentials.identity_token.as_str()),
        ]);
        let mut call = Call::new(Method::POST, realm.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")?;
        call.body = Bytes::from(form(&pairs));
        return Ok(call);
    }
    if !credentials.username.is_empty() {
        pairs.push(("account", &credentials.username));
    }
    let joint = if realm.query().is_some() { '&' } else { '?' };
    Ok(Call::new(Method::GET, format!("{realm}{joint}{}", form(&pairs))))
}

fn form(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect()
    };
    pairs
        .iter()
        .map(|(k, v)| format!("{}={}", escape(k), escape(v)))
        .collect::<Vec<_>>()
        .join("&")
}

fn trusted_realm(transport: &Transport, base: &Uri, realm: &Uri) -> Result<(), RegistryError> {
    let host = |uri: &Uri| {
        uri.authority()
            .map(|a| host_only(a.as_str()).to_ascii_lowercase())
            .unwrap_or_default()
    };
    let (registry, server) = (host(base), host(realm));
    let tls = realm.scheme_str() == Some("https")
        || transport
            .config()
            .is_insecure(realm.authority().map_or("", |a| a.as_str()));
    if tls
        && (registry == server
            || (parent_domain(&registry).is_some() && parent_domain(&registry) == parent_domain(&server)))
    {
        return Ok(());
    }
    Err(RegistryError::Unauthorized {
        registry: registry.clone(),
        message: format!(
            "registry {registry} asks to send its credentials to {server}, which is neither itself nor of its domain over TLS; refused"
        ),
    })
}

/// The last two labels of a name; `None` for addresses and single labels.
fn parent_domain(host: &str) -> Option<&str> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let mut dots = host.rmatch_indices('.').map(|(at, _)| at);
    dots.next()?;
    Some(dots.next().map_or(host, |at| &host[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RegistryConfig;

    #[test]
    fn credentials_stay_in_the_family() {
        let transport = Transport::new(RegistryConfig::default());
        let check = |base: &str, realm: &str| {
            trusted_realm(&transport, &base.parse().unwrap(), &realm.parse().unwrap()).is_ok()
        };
        assert!(check(
            "https://registry-1.docker.io/v2/",
            "https://auth.docker.io/token"
        ));
        assert!(check("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/token"));
        assert!(!check(
            "https://registry.example.com/",
            "http://registry.example.com/token"
        ));
        assert!(!check("https://registry.example.com/", "https://evil.test/token"));
        assert!(!check("https://10.0.0.1/", "https://10.0.0.2/token"));
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(
            form(&[("scope", "repository:a/b:pull,push"), ("x", "a b&c")]),
            "scope=repository%3Aa%2Fb%3Apull%2Cpush&x=a%20b%26c"
        );
    }
}
