//! `hugetlb`: huge pages, by size.

use super::stats::HugetlbStats;
use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version, bad_value};
use ferry_oci::runtime::Resources;

pub(super) const ROW: ControllerRow = ControllerRow {
    controller: Controller::Hugetlb,
    knobs,
    write,
    stats,
};

fn knobs(resources: &Resources, version: Version) -> Result<Vec<Knob>, CgroupError> {
    let ending = match version {
        Version::V1 => "limit_in_bytes",
        Version::V2 => "max",
    };
    let mut knobs = Vec::new();
    for limit in &resources.hugepage_limits {
        let digits = limit
            .page_size
            .trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &limit.page_size[digits.len()..];
        if digits.parse::<u32>().is_err() || !["KB", "MB", "GB"].contains(&unit) {
            return Err(bad_value(
                "hugepageLimits.pageSize",
                &limit.page_size,
                "a size such as 2MB is needed",
            ));
        }
        for kind in ["", "rsvd."] {
            let file = format!("hugetlb.{}.{kind}{ending}", limit.page_size);
            knobs.push(Knob::new("hugepageLimits", file, limit.limit.to_string()));
        }
    }
    Ok(knobs)
}

/// Limits of reservations came with 5.7; before it the other file is all there is.
fn write(dir: &Dir, version: Version, knobs: &[Knob], resources: &Resources) -> Result<(), CgroupError> {
    let offered = |k: &&Knob| !k.file.contains(".rsvd.") || dir.has(&k.file);
    let knobs: Vec<Knob> = knobs.iter().filter(offered).cloned().collect();
    tree::write_all(dir, version, &knobs, resources)
}

fn stats(dir: &Dir, version: Version, stats: &mut Stats) -> Result<(), CgroupError> {
    for size in sizes() {
        let file = |name: &str| format!("hugetlb.{size}.{name}");
        let meters = match version {
            Version::V1 => HugetlbStats {
                usage: dir.number(&file("usage_in_bytes"))?.unwrap_or(0),
                max_usage: dir.number(&file("max_usage_in_bytes"))?.unwrap_or(0),
                failcnt: dir.number(&file("failcnt"))?.unwrap_or(0),
            },
            Version::V2 => {
                let events = dir.read(&file("events"))?.unwrap_or_default();
                let failcnt = tree::flat_keyed(&events)
                    .find(|(key, _)| *key == "max")
                    .map_or(0, |(_, n)| n);
                HugetlbStats {
                    usage: dir.number(&file("current"))?.unwrap_or(0),
                    max_usage: 0,
                    failcnt,
                }
            }
        };
        if dir.has(&file(if version == Version::V1 {
            "usage_in_bytes"
        } else {
            "current"
        })) {
            stats.hugetlb.insert(size, meters);
        }
    }
    Ok(())
}

/// The machine's sizes, as cgroup files spell them.
fn sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let kilobytes = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse::<u64>()
            .ok()
    });
    kilobytes.map(spelled).collect()
}

fn spelled(kilobytes: u64) -> String {
    match kilobytes {
        kb if kb >= 1 << 20 => format!("{}GB", kb >> 20),
        kb if kb >= 1 << 10 => format!("{}MB", kb >> 10),
        kb => format!("{kb}KB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_oci::runtime::HugepageLimit;

    #[test]
    fn files_of_both_versions() {
        let with = |size: &str| Resources {
            hugepage_limits: vec![HugepageLimit {
                page_size: size.into(),
                limit: 4096,
            }],
            ..Resources::default()
        };
        let files = |version| -> Vec<String> {
            knobs(&with("2MB"), version)
                .unwrap()
                .into_iter()
                .map(|k| k.file)
                .collect()
        };
        assert_eq!(
            files(Version::V1),
            ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"]
        );
        assert_eq!(files(Version::V2), ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]);
        for bad in ["", "2M", "../x", "MB", "2mb"] {
            assert!(knobs(&with(bad), Version::V2).is_err(), "{bad}");
        }
    }

    #[test]
    fn spelling() {
        assert_eq!([64, 2048, 1 << 20].map(spelled), ["64KB", "2MB", "1GB"]);
    }
}
