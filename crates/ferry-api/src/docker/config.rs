//! `Config`: the part of a container that an image can carry too, and the body of `POST /containers/create`.

use super::decode::{self, DecodeError, words};
use super::hostconfig::HostConfig;
use super::network::NetworkingConfig;
use super::{Empty, is_false, is_zero};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A health check. Durations in nanoseconds; 0 inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", …]`; empty inherits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Until a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Failures that do not count, after the start.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row until it is unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// What runs, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    /// Host name.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`.
    pub user: String,
    /// Streams that the creating client attaches.
    pub attach_stdin: bool,
    /// Likewise.
    pub attach_stdout: bool,
    /// Likewise.
    pub attach_stderr: bool,
    /// `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// A pseudo-terminal.
    pub tty: bool,
    /// Standard input stays open.
    pub open_stdin: bool,
    /// Standard input ends with the first client.
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Command.
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows only.
    #[serde(skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// The image as it was named.
    pub image: String,
    /// Paths of anonymous volumes.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    pub working_dir: String,
    /// Entrypoint.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// No network but loopback (a synonym of network mode `none` in older versions).
    #[serde(skip_serializing_if = "is_false")]
    pub network_disabled: bool,
    /// The container-wide MAC address of versions before 1.52; never told by newer ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// ONBUILD instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Stop signal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of shell-form commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// The body of `POST /containers/create`: a [`Config`] with two more members.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CreateRequest {
    /// What runs.
    #[serde(flatten)]
    pub config: Config,
    /// How it is confined.
    #[serde(rename = "HostConfig")]
    pub host_config: HostConfig,
    /// Its endpoints.
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: NetworkingConfig,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Wrapper {
    host_config: HostConfig,
    networking_config: NetworkingConfig,
}

impl CreateRequest {
    /// Reads a body, an empty one and an empty object being refused as Docker does.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let value = decode::document(body)?;
        let known = |key: &String| {
            !key.eq_ignore_ascii_case("HostConfig") && !key.eq_ignore_ascii_case("NetworkingConfig")
        };
        let blank = value.as_object().is_some_and(|map| !map.keys().any(known));
        if blank || value.is_null() {
            return Err(DecodeError::new(
                "config cannot be empty in order to create a container",
            ));
        }
        let Wrapper {
            host_config,
            networking_config,
        } = decode::from_value(value.clone(), "CreateRequest")?;
        let config = decode::from_value(value, "CreateRequest.Config")?;
        Ok(Self {
            config,
            host_config,
            networking_config,
        })
    }
}

/// `POST /containers/create`'s answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    /// The new container.
    pub id: String,
    /// What was asked for and is not quite had.
    pub warnings: Vec<String>,
}
