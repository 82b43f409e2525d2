//! What was there before and must be all that is there afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A count of what a test may leave behind. Take one inside the world before and after, and compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    processes: BTreeSet<String>,
    rules: BTreeSet<String>,
}

impl Census {
    /// What the calling thread's namespaces hold, the cgroups below `cgroup_prefixes` (first path elements such as `ferry`),
    /// and the processes whose name begins with one of `names`.
    pub fn take(cgroup_prefixes: &[&str], names: &[&str]) -> Self {
        Self {
            mounts: mounts(),
            links: links(),
            cgroups: cgroups(cgroup_prefixes),
            processes: processes(names),
            rules: rules(),
        }
    }

    /// What is in `after` and was not in `self`, a sentence each.
    pub fn leaked(&self, after: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let parts = [
            ("mount", &self.mounts, &after.mounts),
            ("link", &self.links, &after.links),
            ("cgroup", &self.cgroups, &after.cgroups),
            ("process", &self.processes, &after.processes),
            ("nft rule", &self.rules, &after.rules),
        ];
        for (what, before, now) in parts {
            found.extend(
                now.difference(before)
                    .map(|leak| format!("{what} left behind: {leak}")),
            );
        }
        found
    }
}

fn mounts() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(str::to_owned)
        .collect()
}

fn links() -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

fn cgroups(prefixes: &[&str]) -> BTreeSet<String> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = BTreeSet::new();
    let mut hierarchies = vec![root.to_path_buf()];
    hierarchies.extend(directories(root));
    for hierarchy in hierarchies {
        for prefix in prefixes {
            walk(&hierarchy.join(prefix), &mut found);
        }
    }
    found
}

fn walk(dir: &Path, found: &mut BTreeSet<String>) {
    for child in directories(dir) {
        found.insert(child.display().to_string());
        walk(&child, found);
    }
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn processes(names: &[&str]) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            names
                .iter()
                .any(|n| name.starts_with(n))
                .then(|| format!("{pid} {}", name.trim()))
        })
        .collect()
}

/// Lines of the whole ruleset, as the nft tool prints them; none where the tool is not installed.
fn rules() -> BTreeSet<String> {
    let output = std::process::Command::new("nft")
        .args(["list", "ruleset"])
        .stdin(std::process::Stdio::null())
        .output();
    output
        .map(|o| {
            String::from_utf8_lossy(&o.stdout)
                .lines()
                .map(|l| l.trim().to_owned())
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::World;

    #[test]
    fn a_world_is_empty_and_the_machine_does_not_see_it() {
        if !crate::is_root("a_world_is_empty_and_the_machine_does_not_see_it") {
            return;
        }
        let before = super::Census::take(&[], &[]);
        let world = World::new().unwrap();
        let inside = world
            .enter(|| Ok((super::links(), std::fs::read_dir("/run")?.count())))
            .unwrap();
        assert_eq!(inside.0.iter().map(String::as_str).collect::<Vec<_>>(), ["lo"]);
        assert_eq!(inside.1, 0);
        drop(world);
        assert_eq!(
            before.leaked(&super::Census::take(&[], &[])),
            Vec::<String>::new()
        );
    }
}
