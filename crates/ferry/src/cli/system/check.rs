//! `system check`: what this machine's kernel offers, and what that enables. Needs no engine.

use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output::json::Json;
use crate::cli::output::template::Format;
use crate::cli::output::{self, listing, table};
use crate::cli::session::Session;
use crate::kernel::HostKernel;
use ferry_engine::kernel::{HostInfo, Kernel};

/// `system check`
pub(super) fn check(_: &Session, m: &Matches) -> Outcome {
    let kernel = HostKernel::probe()
        .map_err(|e| Failure::text(format!("cannot look at this machine's kernel: {e}")))?;
    let host = kernel.host();
    match m.get("format") {
        "" => output::print(&pretty(host)),
        source => {
            let json = serde_json::to_vec(host).map_err(|e| Failure::text(e.to_string()))?;
            let format = Format::parse(&listing::source(source).1).map_err(|e| Failure::new(64, e))?;
            output::line(&format.render(&Json::parse(&json)?)?);
        }
    }
    Ok(())
}

fn pretty(host: &HostInfo) -> String {
    let list = |items: &[String]| {
        if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(" ")
        }
    };
    let mut facts = String::new();
    for (name, value) in [
        ("Kernel", format!("{} ({})", host.kernel, host.machine)),
        (
            "Cgroups",
            format!(
                "version {}, controllers: {}",
                host.cgroup_version,
                list(&host.controllers)
            ),
        ),
        ("Security modules", list(&host.lsms)),
        (
            "Seccomp",
            if host.seccomp {
                "available"
            } else {
                "missing: containers run without a system call filter"
            }
            .into(),
        ),
        ("Capabilities", format!("{} to give", host.capabilities.len())),
    ] {
        facts.push_str(&format!("{name}:\t{value}\n"));
    }
    let mut facilities = String::from("\nFACILITY\tAVAILABLE\tWHAT IT ENABLES\n");
    for (name, (available, enables)) in &host.facilities {
        facilities.push_str(&format!(
            "{name}\t{}\t{enables}\n",
            if *available { "yes" } else { "no" }
        ));
    }
    let warnings: String = host.warnings.iter().map(|w| format!("\nWARNING: {w}")).collect();
    let end = if warnings.is_empty() { "" } else { "\n" };
    format!(
        "{}{}{warnings}{end}",
        table::align_with(&facts, 10, 3),
        table::align(&facilities)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_facilities_and_warnings() {
        let mut host = HostInfo {
            kernel: "6.18".into(),
            machine: "x86_64".into(),
            cgroup_version: 2,
            ..HostInfo::default()
        };
        host.facilities.insert("overlay".into(), (true, "images".into()));
        host.warnings.push("no CAP_SYS_RESOURCE".into());
        let text = pretty(&host);
        assert!(text.contains("overlay    yes         images\n"), "{text}");
        assert!(text.ends_with("\nWARNING: no CAP_SYS_RESOURCE\n"), "{text}");
    }
}
