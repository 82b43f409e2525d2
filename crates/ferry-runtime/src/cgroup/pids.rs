//! `pids`: how many tasks.

use super::stats::PidsStats;
use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version};
use ferry_oci::runtime::Resources;

pub(super) const ROW: ControllerRow = ControllerRow {
    controller: Controller::Pids,
    knobs,
    write: tree::write_all,
    stats,
};

fn knobs(resources: &Resources, _version: Version) -> Result<Vec<Knob>, CgroupError> {
    let knob = match resources.pids.as_ref().and_then(|pids| pids.limit) {
        None => return Ok(Vec::new()),
        Some(limit @ 1..) => Knob::new("pids.limit", "pids.max", limit.to_string()),
        Some(_) => Knob::new("pids.limit", "pids.max", "max").initial_if(true),
    };
    Ok(vec![knob])
}

fn stats(dir: &Dir, _version: Version, stats: &mut Stats) -> Result<(), CgroupError> {
    stats.pids = PidsStats {
        current: dir.number("pids.current")?.unwrap_or(0),
        limit: dir.number("pids.max")?.unwrap_or(u64::MAX),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_oci::runtime::Pids;

    #[test]
    fn none_and_some() {
        let with = |limit| {
            let resources = Resources {
                pids: Some(Pids { limit }),
                ..Resources::default()
            };
            knobs(&resources, Version::V2)
                .unwrap()
                .into_iter()
                .map(|k| (k.value, k.initial))
                .collect::<Vec<_>>()
        };
        assert_eq!(with(Some(20)), [("20".to_owned(), false)]);
        assert_eq!(with(Some(-1)), [("max".to_owned(), true)]);
        assert_eq!(with(None), []);
    }
}
