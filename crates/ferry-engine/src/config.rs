//! What the engine is told at its start. Nothing here is read from files or the environment.

use crate::containers::spec::Ulimit;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// One pool that networks without a subnet of their own are cut from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole pool.
    pub base: IpNet,
    /// Prefix length of each network that is cut from it.
    pub size: u8,
}

/// The engine's configuration; the words are dockerd's.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where images, containers and volumes lie; durable.
    pub data_root: PathBuf,
    /// Where running state lies; tmpfs.
    pub exec_root: PathBuf,
    /// The default bridge's address with its prefix length; chosen so that it overlaps nothing when absent.
    pub bip: Option<IpNet>,
    /// The part of the default bridge's subnet that addresses are taken from.
    pub fixed_cidr: Option<IpNet>,
    /// MTU of the default bridge's links.
    pub mtu: Option<u32>,
    /// Pools for networks without a subnet of their own; empty means Docker's.
    pub default_address_pools: Vec<AddressPool>,
    /// Name servers of containers; empty means the host's.
    pub dns: Vec<String>,
    /// Search domains of containers; empty means the host's.
    pub dns_search: Vec<String>,
    /// resolv.conf options of containers; empty means the host's.
    pub dns_options: Vec<String>,
    /// Registries (host:port or CIDR) that may speak plain HTTP or have an unverifiable certificate.
    pub insecure_registries: Vec<String>,
    /// Mirrors of the default registry.
    pub registry_mirrors: Vec<String>,
    /// Default log driver: `json-file` or `none`.
    pub log_driver: String,
    /// Default log options.
    pub log_opts: BTreeMap<String, String>,
    /// Bytes of `/dev/shm` where a container names none.
    pub default_shm_size: i64,
    /// Resource limits of containers that name none.
    pub default_ulimits: Vec<Ulimit>,
    /// The default runtime's name.
    pub default_runtime: String,
    /// Whether containers get an init where they do not say.
    pub init: bool,
    /// Parent cgroup of containers; empty means `/ferry`.
    pub cgroup_parent: String,
    /// Default ipc mode: `private` or `shareable`.
    pub default_ipc_mode: String,
    /// Default cgroup namespace mode: `private` or `host`; empty means by cgroup version.
    pub default_cgroupns_mode: String,
    /// The engine's labels.
    pub labels: Vec<String>,
    /// Whether debug logs are on; only told again.
    pub debug: bool,
    /// Whether the default bridge has IPv6.
    pub ipv6: bool,
    /// IPv6 subnet of the default bridge.
    pub fixed_cidr_v6: Option<IpNet>,
    /// Whether containers of the default bridge may talk to each other.
    pub icc: bool,
    /// Whether what leaves the host through the default bridge is masqueraded.
    pub ip_masq: bool,
    /// Default address of published ports.
    pub ip: Option<IpAddr>,
    /// Seconds that a stop at the engine's shutdown may take; only told again.
    pub shutdown_timeout: i64,
    /// Where the engine listens; only told again.
    pub hosts: Vec<String>,
    /// The version that `info` and events name.
    pub version: String,
}

impl Config {
    /// Docker's defaults with these two directories.
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Self {
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            bip: None,
            fixed_cidr: None,
            mtu: None,
            default_address_pools: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            log_driver: "json-file".into(),
            log_opts: BTreeMap::new(),
            default_shm_size: 64 << 20,
            default_ulimits: Vec::new(),
            default_runtime: "ferry".into(),
            init: false,
            cgroup_parent: String::new(),
            default_ipc_mode: "private".into(),
            default_cgroupns_mode: String::new(),
            labels: Vec::new(),
            debug: false,
            ipv6: false,
            fixed_cidr_v6: None,
            icc: true,
            ip_masq: true,
            ip: None,
            shutdown_timeout: 15,
            hosts: Vec::new(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}
