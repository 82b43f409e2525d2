//! `cpuset`: on which processors and memory nodes.

use super::layout::Hierarchy;
use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version, bad_value};
use ferry_oci::runtime::Resources;

pub(super) const ROW: ControllerRow = ControllerRow {
    controller: Controller::Cpuset,
    knobs,
    write: tree::write_all,
    stats,
};

fn knobs(resources: &Resources, _version: Version) -> Result<Vec<Knob>, CgroupError> {
    let Some(cpu) = &resources.cpu else {
        return Ok(Vec::new());
    };
    let mut knobs = Vec::new();
    for (field, file, list) in [
        ("cpu.cpus", "cpuset.cpus", &cpu.cpus),
        ("cpu.mems", "cpuset.mems", &cpu.mems),
    ] {
        if list.is_empty() {
            continue;
        }
        if !list.bytes().all(|b| b.is_ascii_digit() || b",-:/".contains(&b)) {
            return Err(bad_value(field, list, "a list such as 0-3,8 is needed"));
        }
        knobs.push(Knob::new(field, file, list.clone()));
    }
    Ok(knobs)
}

/// Gives a new v1 cpuset its parent's processors and nodes, and does so for parents that have none either.
pub(super) fn inherit(hierarchy: &Hierarchy, relative: &str) -> Result<(), CgroupError> {
    let open = |path: &str| Dir::open(hierarchy.root(), path, hierarchy.shown(path));
    let parent_path = relative.rsplit_once('/').map_or("", |(parent, _)| parent);
    let (parent, dir) = (open(parent_path)?, open(relative)?);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut list = parent.read(file)?.unwrap_or_default();
        if list.trim().is_empty() && !parent_path.is_empty() {
            inherit(hierarchy, parent_path)?;
            list = parent.read(file)?.unwrap_or_default();
        }
        dir.write(file, list.trim())
            .map_err(|errno| dir.io("write", file, errno))?;
    }
    Ok(())
}

fn stats(_dir: &Dir, _version: Version, _stats: &mut Stats) -> Result<(), CgroupError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_oci::runtime::Cpu;

    #[test]
    fn lists_are_checked() {
        let with = |cpus: &str| Resources {
            cpu: Some(Cpu {
                cpus: cpus.into(),
                mems: "0".into(),
                ..Cpu::default()
            }),
            ..Resources::default()
        };
        let files: Vec<_> = knobs(&with("0-1"), Version::V1)
            .unwrap()
            .into_iter()
            .map(|k| k.file)
            .collect();
        assert_eq!(files, ["cpuset.cpus", "cpuset.mems"]);
        let error = knobs(&with("all"), Version::V2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cpu.cpus = all: a list such as 0-3,8 is needed"
        );
    }
}
