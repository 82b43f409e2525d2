//! `net_cls` and `net_prio`: marks on packets, v1 only.

use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version, unsupported};
use ferry_oci::runtime::Resources;

pub(super) const CLASS: ControllerRow = ControllerRow {
    controller: Controller::NetCls,
    knobs: class,
    write: tree::write_all,
    stats,
};
pub(super) const PRIORITY: ControllerRow = ControllerRow {
    controller: Controller::NetPrio,
    knobs: priority,
    write: write_lines,
    stats,
};

fn class(resources: &Resources, _version: Version) -> Result<Vec<Knob>, CgroupError> {
    let id = resources.network.as_ref().and_then(|network| network.class_id);
    let knob = |id: u32| Knob::new("network.classID", "net_cls.classid", id.to_string()).initial_if(id == 0);
    Ok(id.map(knob).into_iter().collect())
}

fn priority(resources: &Resources, _version: Version) -> Result<Vec<Knob>, CgroupError> {
    let Some(network) = &resources.network else {
        return Ok(Vec::new());
    };
    let knob = |interface: &ferry_oci::runtime::InterfacePriority| {
        let value = format!("{} {}", interface.name, interface.priority);
        Knob::new("network.priorities", "net_prio.ifpriomap", value)
    };
    if network
        .priorities
        .iter()
        .any(|i| i.name.is_empty() || i.name.contains(char::is_whitespace))
    {
        return Err(unsupported(
            "network.priorities",
            "an interface's name is missing or has a space",
        ));
    }
    Ok(network.priorities.iter().map(knob).collect())
}

/// Each line is a write of its own.
fn write_lines(
    dir: &Dir,
    _version: Version,
    knobs: &[Knob],
    _resources: &Resources,
) -> Result<(), CgroupError> {
    knobs.iter().try_for_each(|knob| tree::write_knob(dir, knob))
}

fn stats(_dir: &Dir, _version: Version, _stats: &mut Stats) -> Result<(), CgroupError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_oci::runtime::{InterfacePriority, Network};

    #[test]
    fn values() {
        let network = Network {
            class_id: Some(0x0010_0001),
            priorities: vec![InterfacePriority {
                name: "eth0".into(),
                priority: 5,
            }],
        };
        let resources = Resources {
            network: Some(network),
            ..Resources::default()
        };
        assert_eq!(class(&resources, Version::V1).unwrap()[0].value, "1048577");
        assert_eq!(priority(&resources, Version::V1).unwrap()[0].value, "eth0 5");
    }
}
