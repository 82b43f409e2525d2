//! Making networks of the user's.

use super::{Entry, NetworkRequest, Networks, PREDEFINED, SubnetRequest};
use crate::{Error, Kind, Result, blocking, db, ids};
use ferry_net::ipam;
use ferry_net::model::bridge_name;
use ferry_net::{Driver, Ipam, NetworkConfig, apply};
use std::collections::BTreeMap;
use std::time::SystemTime;

impl Networks {
    /// Makes a bridge network; gives its id and a warning, which may be empty.
    ///
    /// # Errors
    /// [`Kind::Conflict`] for a name that is taken; [`Kind::Unsupported`] for what is not there, by name.
    pub async fn create(&self, request: NetworkRequest) -> Result<(String, String)> {
        let this = self.clone();
        blocking::owned(async move { this.create_owned(request).await }).await
    }

    async fn create_owned(&self, request: NetworkRequest) -> Result<(String, String)> {
        let _permit = self.change().await?;
        self.check(&request)?;
        let config = self.config_of(request.clone())?;
        let entry = Entry {
            config: config.clone(),
            created: SystemTime::now(),
            attachable: request.attachable,
        };
        let this = self.clone();
        let make = blocking::run("make a bridge", move || -> Result<()> {
            apply::ensure_forwarding(config.enable_ipv6)?;
            apply::ensure_bridge(&config)?;
            this.shared.write().insert(
                config.id.clone(),
                Entry {
                    config: config.clone(),
                    ..entry
                },
            );
            this.shared.apply_rules()
        });
        let id = self.id_of_next(make, &request.name).await?;
        let entry = self.find(&id)?;
        self.shared.db.put(db::NETWORKS, &id, &entry).await?;
        self.publish(&entry.config, "create", BTreeMap::new());
        Ok((id, String::new()))
    }

    /// Waits for the kernel's side and finds the network by its name.
    async fn id_of_next(&self, make: impl Future<Output = Result<()>>, name: &str) -> Result<String> {
        let made = make.await;
        let found = self.shared.entries().into_iter().find(|e| e.config.name == name);
        match (made, found) {
            (Ok(()), Some(entry)) => Ok(entry.config.id),
            (Ok(()), None) => Err(Error::new(
                Kind::Internal,
                format!("network {name} vanished while it was made"),
            )),
            (Err(error), found) => {
                if let Some(entry) = found {
                    self.shared.write().remove(&entry.config.id);
                    let undo =
                        blocking::run("take a bridge back", move || apply::remove_bridge(&entry.config));
                    if let Err(second) = undo.await {
                        tracing::error!(error = %second, "a bridge that could not be set up could not be removed either");
                    }
                }
                Err(error)
            }
        }
    }

    fn check(&self, request: &NetworkRequest) -> Result<()> {
        let name = &request.name;
        let legal = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !legal {
            let text = format!("invalid name: {name}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
            return Err(Error::invalid(text));
        }
        if PREDEFINED.contains(&name.as_str()) || name == "default" {
            let text = format!("operation is not permitted on predefined {name} network ");
            return Err(Error::new(Kind::Denied, text));
        }
        if self.shared.entries().iter().any(|e| e.config.name == *name) {
            return Err(Error::conflict(format!(
                "network with name {name} already exists"
            )));
        }
        let refused = [
            (request.ingress, "ingress networks"),
            (
                request.config_only || !request.config_from.is_empty(),
                "config-only networks",
            ),
            (
                !["", "local"].contains(&request.scope.as_str()),
                "networks of another scope than local",
            ),
            (
                !["", "default"].contains(&request.ipam_driver.as_str()),
                "other IPAM drivers than default",
            ),
            (!request.ipam_options.is_empty(), "IPAM options"),
        ];
        if let Some((_, what)) = refused.iter().find(|(asked, _)| *asked) {
            return Err(Error::unsupported(format!("{what} are not supported")));
        }
        match request.driver.as_str() {
            "" | "bridge" | "default" => Ok(()),
            "host" | "null" => {
                let text = format!("only one instance of {:?} network is allowed", request.driver);
                Err(Error::new(Kind::Denied, text))
            }
            other => Err(Error::unsupported(format!(
                "network driver {other} is not supported: only bridge is"
            ))),
        }
    }

    fn config_of(&self, request: NetworkRequest) -> Result<NetworkConfig> {
        let enable_ipv6 = request.enable_ipv6.unwrap_or(false);
        let enable_ipv4 = request.enable_ipv4.unwrap_or(true);
        let mut subnets = Vec::new();
        for asked in &request.ipam {
            subnets.push(self.subnet(asked)?);
        }
        if enable_ipv4 && !subnets.iter().any(|s| !s.is_ipv6()) {
            subnets.insert(0, Ipam::new(self.free_subnet(false)?));
        }
        if enable_ipv6 && !subnets.iter().any(Ipam::is_ipv6) {
            subnets.push(Ipam::new(self.free_subnet(true)?));
        }
        let id = ids::random()?;
        let mut config = NetworkConfig::bridge(id.clone(), request.name, bridge_name(&id), subnets);
        config.enable_ipv4 = enable_ipv4;
        config.enable_ipv6 = enable_ipv6;
        config.internal = request.internal;
        config.labels = request.labels;
        config.driver = Driver::Bridge;
        apply_options(&mut config, &request.options)?;
        config.options = request.options;
        Ok(config)
    }

    fn subnet(&self, asked: &SubnetRequest) -> Result<Ipam> {
        let Some(subnet) = asked.subnet else {
            if asked.range.is_some() || asked.gateway.is_some() {
                return Err(Error::invalid(
                    "invalid subnet: a gateway or range needs a subnet",
                ));
            }
            return Ok(Ipam::new(self.free_subnet(false)?));
        };
        if subnet.trunc() != subnet {
            return Err(Error::invalid(format!(
                "invalid network config:\ninvalid subnet {subnet}: it should be {}",
                subnet.trunc()
            )));
        }
        let others: Vec<_> = self
            .shared
            .entries()
            .iter()
            .flat_map(|e| e.config.subnets.iter().map(|i| i.subnet).collect::<Vec<_>>())
            .collect();
        ipam::check_subnet(&subnet, &others)?;
        let mut made = Ipam::new(subnet);
        if let Some(gateway) = asked.gateway {
            made.gateway = gateway;
        }
        made.range = asked.range;
        made.reserved = asked.reserved.clone();
        ipam::check_ipam(&made)?;
        Ok(made)
    }
}

/// Options of Docker's bridge driver; the rest is refused by name.
fn apply_options(config: &mut NetworkConfig, options: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in options {
        let invalid = || Error::invalid(format!("invalid value for driver option {key}: {value:?}"));
        let boolean = || value.parse::<bool>().map_err(|_| invalid());
        match key.as_str() {
            "com.docker.network.bridge.name" => config.bridge.clone_from(value),
            "com.docker.network.bridge.enable_icc" => config.icc = boolean()?,
            "com.docker.network.bridge.enable_ip_masquerade" => config.masquerade = boolean()?,
            "com.docker.network.bridge.host_binding_ipv4" => {
                config.host_binding = Some(value.parse().map_err(|_| invalid())?)
            }
            "com.docker.network.driver.mtu" => config.mtu = Some(value.parse().map_err(|_| invalid())?),
            _ => {
                return Err(Error::unsupported(format!(
                    "network driver option {key} is not supported"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_effect_or_are_refused() {
        let mut config = NetworkConfig::bridge("n", "x", "br-x", Vec::new());
        let option = |k: &str, v: &str| BTreeMap::from([(k.to_owned(), v.to_owned())]);
        apply_options(
            &mut config,
            &option("com.docker.network.bridge.enable_icc", "false"),
        )
        .unwrap();
        apply_options(&mut config, &option("com.docker.network.driver.mtu", "1400")).unwrap();
        assert!(!config.icc && config.mtu == Some(1400));
        assert!(apply_options(&mut config, &option("com.docker.network.driver.mtu", "x")).is_err());
        let error = apply_options(&mut config, &option("what.ever", "1"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "network driver option what.ever is not supported");
    }
}
