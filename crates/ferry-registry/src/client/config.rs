//! How registries are reached: plain HTTP, mirrors, certificates, proxies.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// The settings of a client; the caller has read them from wherever they stand.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfig {
    /// `host:port` or networks for which plain HTTP and unverified TLS are allowed; loopback always is.
    pub insecure: Vec<String>,
    /// Base addresses asked before the default registry.
    pub mirrors: Vec<String>,
    /// Folders with one folder a `host[:port]`, holding `*.crt` (authorities), `*.cert` and `*.key` (a client's pair).
    pub certs_dirs: Vec<PathBuf>,
    /// A proxy.
    pub proxy: Proxy,
    /// Sent as `User-Agent`.
    pub user_agent: String,
}

/// Proxies by scheme, as HTTP_PROXY and its kin say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// For `http`.
    pub http: Option<String>,
    /// For `https`.
    pub https: Option<String>,
    /// Hosts, domains (with their subdomains), addresses and networks reached directly; `*` is all.
    pub no_proxy: Vec<String>,
}

/// Who asks. Nothing of it is ever logged.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// User name; empty is anonymous.
    pub username: String,
    /// Password or access token.
    pub password: String,
    /// An OAuth2 refresh token, used instead of a password.
    pub identity_token: String,
    /// A bearer token to be sent as it is.
    pub registry_token: String,
}

impl Credentials {
    /// Whether there are none.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The host of `host:port`, `[v6]:port` or a bare host.
pub(crate) fn host_only(authority: &str) -> &str {
    if let Some(v6) = authority.strip_prefix('[') {
        return v6.split(']').next().unwrap_or(v6);
    }
    authority.split(':').next().unwrap_or(authority)
}

impl RegistryConfig {
    /// Whether plain HTTP and unverified TLS are allowed towards `authority`.
    pub fn is_insecure(&self, authority: &str) -> bool {
        let host = host_only(authority);
        let address: Option<IpAddr> = if host == "localhost" {
            Some(IpAddr::from([127, 0, 0, 1]))
        } else {
            host.parse().ok()
        };
        address.is_some_and(|ip| ip.is_loopback())
            || self.insecure.iter().any(|entry| {
                entry == authority
                    || entry == host
                    || address.is_some_and(|ip| entry.parse::<IpNet>().is_ok_and(|net| net.contains(&ip)))
            })
    }
}

impl Proxy {
    /// The proxy for a request, if one applies.
    pub fn for_host(&self, https: bool, authority: &str) -> Option<&str> {
        let host = host_only(authority);
        let address: Option<IpAddr> = host.parse().ok();
        let direct = host == "localhost"
            || address.is_some_and(|ip| ip.is_loopback())
            || self
                .no_proxy
                .iter()
                .map(|e| e.trim())
                .filter(|e| !e.is_empty())
                .any(|entry| {
                    let name = entry.trim_start_matches("*.").trim_start_matches('.');
                    entry == "*"
                        || entry == authority
                        || host == name
                        || host.ends_with(&format!(".{name}"))
                        || address.is_some_and(|ip| entry.parse::<IpNet>().is_ok_and(|net| net.contains(&ip)))
                });
        let chosen = if https { &self.https } else { &self.http };
        chosen.as_deref().filter(|p| !direct && !p.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_listed_hosts_are_insecure() {
        let config = RegistryConfig {
            insecure: vec!["reg.example:5000".into(), "10.0.0.0/8".into()],
            ..Default::default()
        };
        for yes in [
            "127.0.0.1:5000",
            "localhost:1",
            "[::1]:5000",
            "reg.example:5000",
            "10.1.2.3",
        ] {
            assert!(config.is_insecure(yes), "{yes}");
        }
        for no in ["reg.example", "192.168.0.1:5000", "docker.io"] {
            assert!(!config.is_insecure(no), "{no}");
        }
    }

    #[test]
    fn no_proxy_covers_domains_and_networks() {
        let proxy = Proxy {
            https: Some("p:1".into()),
            http: None,
            no_proxy: vec![".corp".into(), "10.0.0.0/8".into()],
        };
        assert_eq!(proxy.for_host(true, "a.corp:443"), None);
        assert_eq!(proxy.for_host(true, "10.2.3.4"), None);
        assert_eq!(proxy.for_host(true, "example"), Some("p:1"));
        assert_eq!(proxy.for_host(false, "example"), None);
    }
}
