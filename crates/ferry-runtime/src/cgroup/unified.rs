//! What only the unified tree has: handing controllers down, files named by the caller, pressure.

use super::group::Made;
use super::layout::Hierarchy;
use super::stats::{Pressure, PressureLine};
use super::tree::{self, Dir};
use super::{CgroupError, Controller, Knob, Stats, Version, bad_value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes the directories above `relative` and turns `controllers` on in each, from the root down.
///
/// A controller that cannot be turned on is left off: the limits that need it are refused by name when they are written.
pub(super) fn delegate(
    hierarchy: &Arc<Hierarchy>,
    relative: &str,
    controllers: &[Controller],
    made: &mut Made,
) -> Result<(), CgroupError> {
    if controllers.is_empty() {
        return Ok(());
    }
    let parent = relative.rsplit_once('/').map_or("", |(parent, _)| parent);
    if missing(hierarchy, parent, controllers).is_ok_and(|missing| missing.is_empty()) {
        return Ok(());
    }
    made.parents(hierarchy, relative)?;
    let ends = relative.match_indices('/').map(|(end, _)| end);
    for end in std::iter::once(0).chain(ends) {
        let path = &relative[..end];
        let missing = missing(hierarchy, path, controllers)?;
        let dir = Dir::open(hierarchy.root(), path, hierarchy.shown(path))?;
        let all = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>();
        if !all.is_empty() && dir.write(SUBTREE, &all.join(" ")).is_err() {
            // One that is refused must not keep the others off.
            for one in &all {
                let _ = dir.write(SUBTREE, one);
            }
        }
    }
    Ok(())
}

const SUBTREE: &str = "cgroup.subtree_control";

/// Which of `controllers` the cgroup `path` does not hand down yet.
fn missing(
    hierarchy: &Hierarchy,
    path: &str,
    controllers: &[Controller],
) -> Result<Vec<&'static str>, CgroupError> {
    let dir = Dir::open(hierarchy.root(), path, hierarchy.shown(path))?;
    let enabled = dir.read(SUBTREE)?.unwrap_or_default();
    let enabled: Vec<&str> = enabled.split_ascii_whitespace().collect();
    let names = controllers.iter().map(|c| c.name(Version::V2));
    Ok(names.filter(|name| !enabled.contains(name)).collect())
}

/// The specification's `unified`: files and values, verbatim.
pub(super) fn knobs(unified: &BTreeMap<String, String>) -> Result<Vec<Knob>, CgroupError> {
    let mut knobs = Vec::new();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") && !harmless(file) {
            return Err(bad_value(
                "unified",
                file,
                "a controller's file such as memory.high is needed",
            ));
        }
        knobs.push(Knob::new("unified", file.clone(), value.clone()));
    }
    Ok(knobs)
}

/// Of the core's files those that only limit; the others would move processes, kill them or hand down controllers.
fn harmless(file: &str) -> bool {
    ["cgroup.max.depth", "cgroup.max.descendants"].contains(&file)
}

/// A file with several lines takes them one a write (`io.max` of two devices).
pub(super) fn write(dir: &Dir, knobs: &[Knob]) -> Result<(), CgroupError> {
    for knob in knobs {
        for line in knob.value.lines().filter(|line| !line.is_empty()) {
            tree::write_knob(dir, &Knob::new("unified", knob.file.clone(), line))?;
        }
    }
    Ok(())
}

pub(super) fn pressure(dir: &Dir, stats: &mut Stats) -> Result<(), CgroupError> {
    // Reading fails, rather than opening, where PSI is off.
    let read = |file: &str| dir.read(file).ok().flatten().map(|text| parse_pressure(&text));
    stats.cpu_pressure = read("cpu.pressure");
    stats.memory_pressure = read("memory.pressure");
    stats.io_pressure = read("io.pressure");
    Ok(())
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same for `full`.
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let target = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        *target = words
            .filter_map(|word| word.split_once('='))
            .fold(PressureLine::default(), set);
    }
    pressure
}

fn set(mut line: PressureLine, (key, value): (&str, &str)) -> PressureLine {
    let share = || value.parse().unwrap_or(0.0);
    match key {
        "avg10" => line.avg10 = share(),
        "avg60" => line.avg60 = share(),
        "avg300" => line.avg300 = share(),
        "total" => line.total = value.parse().unwrap_or(0),
        _ => {}
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits() {
        let with = |file: &str| knobs(&BTreeMap::from([(file.to_owned(), "1".to_owned())]));
        assert_eq!(with("memory.high").unwrap()[0].file, "memory.high");
        assert!(with("cgroup.max.depth").is_ok());
        for bad in [
            "cgroup.procs",
            "cgroup.kill",
            "../memory.max",
            "memory",
            "a/memory.max",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pressure_lines() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let pressure = parse_pressure(text);
        assert_eq!(
            (pressure.some.avg10, pressure.some.total, pressure.full.total),
            (1.5, 77, 5)
        );
    }
}
