//! `info`

use super::version;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::json::Json;
use crate::cli::output::template::Format;
use crate::cli::output::{self, listing, units};
use crate::cli::session::Session;
use ferry_api::client::Request;

/// `info`
pub(super) fn info(session: &Session, m: &Matches) -> Outcome {
    let template = m.get("format");
    let format = match template {
        "" => None,
        source => Some(Format::parse(&listing::source(source).1).map_err(|e| Failure::new(64, e))?),
    };
    let answer = session.json(Request::get("/info"));
    if let Some(format) = format {
        let mut all = answer?;
        if let Json::Object(entries) = &mut all {
            let mut client = version::client(session);
            client.push(("Debug".into(), Json::Bool(session.global_on("debug"))));
            client.push(("Plugins".into(), Json::Array(Vec::new())));
            client.push(("Warnings".into(), Json::Null));
            entries.push(("ClientInfo".into(), Json::Object(client)));
        }
        output::line(&format.render(&all)?);
        return Ok(());
    }
    output::print(&format!(
        "Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n\nServer:\n",
        env!("CARGO_PKG_VERSION"),
        session.context_name(),
        session.global_on("debug")
    ));
    let info = answer?;
    let mut text = Text(String::new());
    counts(&mut text, &info);
    plugins(&mut text, &info);
    runtimes(&mut text, &info);
    host(&mut text, &info);
    let user = session
        .config()
        .auth(crate::cli::credentials::DEFAULT_SERVER)
        .map_or("", |a| a.text("username"));
    settings(&mut text, &info, user);
    output::print(&format!("{}\n", text.0));
    for warning in info.list("Warnings") {
        eprintln!("{}", warning.as_str());
    }
    Ok(())
}

/// Lines as they are collected.
struct Text(String);

impl Text {
    fn line(&mut self, name: &str, value: &str) {
        self.0.push_str(&format!("{name} {value}\n"));
    }

    fn some(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.line(name, value);
        }
    }

    fn pairs(&mut self, indent: &str, pairs: &[Json]) {
        for pair in pairs {
            if let Json::Array(pair) = pair {
                let at = |i: usize| pair.get(i).map_or("", Json::as_str);
                self.0.push_str(&format!("{indent}{}: {}\n", at(0), at(1)));
            }
        }
    }

    fn title(&mut self, name: &str) {
        self.0.push_str(&format!("{name}\n"));
    }
}

fn words(items: &[Json]) -> String {
    items.iter().map(Json::as_str).collect::<Vec<_>>().join(" ")
}

fn counts(t: &mut Text, i: &Json) {
    for (name, field) in [
        (" Containers:", "Containers"),
        ("  Running:", "ContainersRunning"),
        ("  Paused:", "ContainersPaused"),
        ("  Stopped:", "ContainersStopped"),
        (" Images:", "Images"),
    ] {
        t.line(name, &i.int(field).to_string());
    }
    t.some(" Server Version:", i.text("ServerVersion"));
    t.some(" Storage Driver:", i.text("Driver"));
    t.pairs("  ", i.list("DriverStatus"));
    t.some(" Logging Driver:", i.text("LoggingDriver"));
    t.some(" Cgroup Driver:", i.text("CgroupDriver"));
    t.some(" Cgroup Version:", i.text("CgroupVersion"));
}

fn plugins(t: &mut Text, i: &Json) {
    t.title(" Plugins:");
    t.line("  Volume:", &words(i.list("Plugins.Volume")));
    t.line("  Network:", &words(i.list("Plugins.Network")));
    if !i.list("Plugins.Authorization").is_empty() {
        t.line("  Authorization:", &words(i.list("Plugins.Authorization")));
    }
    t.line("  Log:", &words(i.list("Plugins.Log")));
    if !i.list("CDISpecDirs").is_empty() {
        t.title(" CDI spec directories:");
        for dir in i.list("CDISpecDirs") {
            t.title(&format!("  {}", dir.as_str()));
        }
    }
    if !i.list("DiscoveredDevices").is_empty() {
        t.title(" Discovered Devices:");
        for device in i.list("DiscoveredDevices") {
            t.title(&format!("  {}: {}", device.text("Source"), device.text("ID")));
        }
    }
    t.line(" Swarm:", i.text("Swarm.LocalNodeState"));
}

fn runtimes(t: &mut Text, i: &Json) {
    let names: Vec<&str> = i.entries("Runtimes").iter().map(|(k, _)| k.as_str()).collect();
    if !names.is_empty() {
        t.line(" Runtimes:", &names.join(" "));
        t.line(" Default Runtime:", i.text("DefaultRuntime"));
    }
    if i.text("OSType") != "linux" {
        return;
    }
    t.line(" Init Binary:", i.text("InitBinary"));
    t.line(" containerd version:", i.text("ContainerdCommit.ID"));
    t.line(" runc version:", i.text("RuncCommit.ID"));
    t.line(" init version:", i.text("InitCommit.ID"));
    if i.list("SecurityOptions").is_empty() {
        return;
    }
    t.title(" Security Options:");
    for option in i.list("SecurityOptions") {
        // `name=seccomp,profile=builtin`
        for pair in option.as_str().split(',') {
            match pair.split_once('=') {
                Some(("name", name)) => t.title(&format!("  {name}")),
                Some(("profile", profile)) => t.line("   Profile:", profile),
                _ => {}
            }
        }
    }
}

fn host(t: &mut Text, i: &Json) {
    t.some(" Kernel Version:", i.text("KernelVersion"));
    t.some(" Operating System:", i.text("OperatingSystem"));
    t.some(" OSType:", i.text("OSType"));
    t.some(" Architecture:", i.text("Architecture"));
    t.line(" CPUs:", &i.int("NCPU").to_string());
    t.line(" Total Memory:", &units::bytes_size(i.float("MemTotal")));
    t.some(" Name:", i.text("Name"));
    t.some(" ID:", i.text("ID"));
    t.line(" Docker Root Dir:", i.text("DockerRootDir"));
    let debug = i.is_true("Debug");
    t.line(" Debug Mode:", &debug.to_string());
    if debug {
        t.line("  File Descriptors:", &i.int("NFd").to_string());
        t.line("  Goroutines:", &i.int("NGoroutines").to_string());
        t.line("  System Time:", i.text("SystemTime"));
        t.line("  EventsListeners:", &i.int("NEventsListener").to_string());
    }
}

fn settings(t: &mut Text, i: &Json, user: &str) {
    t.some(" HTTP Proxy:", i.text("HttpProxy"));
    t.some(" HTTPS Proxy:", i.text("HttpsProxy"));
    t.some(" No Proxy:", i.text("NoProxy"));
    t.some(" Username:", user);
    if !i.list("Labels").is_empty() {
        t.title(" Labels:");
        for label in i.list("Labels") {
            t.title(&format!("  {}", label.as_str()));
        }
    }
    t.line(" Experimental:", &i.is_true("ExperimentalBuild").to_string());
    registries(t, i);
    t.line(
        " Live Restore Enabled:",
        &i.is_true("LiveRestoreEnabled").to_string(),
    );
    t.some(" Product License:", i.text("ProductLicense"));
    if !i.list("DefaultAddressPools").is_empty() {
        t.title(" Default Address Pools:");
        for pool in i.list("DefaultAddressPools") {
            t.title(&format!(
                "   Base: {}, Size: {}",
                pool.text("Base"),
                pool.int("Size")
            ));
        }
    }
    for (title, field) in [(" Firewall Backend:", "FirewallBackend"), (" NRI:", "NRI")] {
        let Some(part) = i.get(field).filter(|p| matches!(p, Json::Object(_))) else {
            continue;
        };
        t.title(format!("{title} {}", part.text("Driver")).trim_end());
        t.pairs("  ", part.list("Info"));
    }
}

fn registries(t: &mut Text, i: &Json) {
    let indexes = i.entries("RegistryConfig.IndexConfigs");
    let ranges = i.list("RegistryConfig.InsecureRegistryCIDRs");
    if !indexes.is_empty() || !ranges.is_empty() {
        t.title(" Insecure Registries:");
        for (_, index) in indexes.iter().filter(|(_, r)| !r.is_true("Secure")) {
            t.title(&format!("  {}", index.text("Name")));
        }
        for range in ranges {
            t.title(&format!("  {}", range.as_str()));
        }
    }
    let mirrors = i.list("RegistryConfig.Mirrors");
    if !mirrors.is_empty() {
        t.title(" Registry Mirrors:");
        for mirror in mirrors {
            t.title(&format!("  {}", mirror.as_str()));
        }
    }
}
