//! `rdma`: handles and objects, by device.

use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version, bad_value};
use ferry_oci::runtime::Resources;

pub(super) const ROW: ControllerRow = ControllerRow {
    controller: Controller::Rdma,
    knobs,
    write,
    stats,
};

fn knobs(resources: &Resources, _version: Version) -> Result<Vec<Knob>, CgroupError> {
    let mut knobs = Vec::new();
    for (device, limit) in &resources.rdma {
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(bad_value("rdma", device, "a device's name is needed"));
        }
        let handles = limit.hca_handles.map(|n| format!(" hca_handle={n}"));
        let objects = limit.hca_objects.map(|n| format!(" hca_object={n}"));
        if handles.is_some() || objects.is_some() {
            let value = format!(
                "{device}{}{}",
                handles.unwrap_or_default(),
                objects.unwrap_or_default()
            );
            knobs.push(Knob::new("rdma", "rdma.max", value));
        }
    }
    Ok(knobs)
}

/// Each device is a write of its own.
fn write(dir: &Dir, _version: Version, knobs: &[Knob], _resources: &Resources) -> Result<(), CgroupError> {
    knobs.iter().try_for_each(|knob| tree::write_knob(dir, knob))
}

fn stats(dir: &Dir, _version: Version, stats: &mut Stats) -> Result<(), CgroupError> {
    let (current, limits) = (
        dir.read("rdma.current")?.unwrap_or_default(),
        dir.read("rdma.max")?.unwrap_or_default(),
    );
    for (device, pairs) in tree::nested_keyed(&current) {
        let meters = stats.rdma.entry(device.to_owned()).or_default();
        for (key, value) in pairs {
            match key {
                "hca_handle" => meters.handles = value,
                "hca_object" => meters.objects = value,
                _ => {}
            }
        }
    }
    for (device, pairs) in tree::nested_keyed(&limits) {
        let meters = stats.rdma.entry(device.to_owned()).or_default();
        for (key, value) in pairs {
            match key {
                "hca_handle" => meters.handle_limit = value,
                "hca_object" => meters.object_limit = value,
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_oci::runtime::Rdma;

    #[test]
    fn a_line_a_device() {
        let mut resources = Resources::default();
        resources.rdma.insert(
            "mlx5_0".into(),
            Rdma {
                hca_handles: Some(3),
                hca_objects: Some(10_000),
            },
        );
        resources.rdma.insert(
            "mlx5_1".into(),
            Rdma {
                hca_handles: None,
                hca_objects: None,
            },
        );
        let knobs = knobs(&resources, Version::V2).unwrap();
        assert_eq!(knobs.len(), 1);
        assert_eq!(knobs[0].value, "mlx5_0 hca_handle=3 hca_object=10000");
    }
}
