//! `devices`: which device nodes may be opened or made.
//!
//! Rules are applied in order and the last that covers a request decides; what none covers is denied. v2 gets exactly that as a
//! BPF program. v1's lists have one default and a set of exceptions to it, so the rules are first reduced to that form; a
//! rule that would cut a hole into a range of exceptions cannot be had there and is refused by name.

use super::group::Node;
use super::{CgroupError, Controller, Phase, Version, bad_value, device_program, tree, unsupported};
use ferry_oci::runtime::DeviceRule;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::AsFd;

/// What a device rule covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub allow: bool,
    /// `None` is both kinds.
    pub kind: Option<Kind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

/// Bits of linux/bpf.h, `BPF_DEVCG_ACC_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access(pub u8);

impl Access {
    pub const MKNOD: u8 = 1;
    pub const READ: u8 = 2;
    pub const WRITE: u8 = 4;
    pub const ALL: u8 = 7;

    fn parse(text: &str) -> Option<Access> {
        text.chars().try_fold(Access(0), |access, c| match c {
            'm' => Some(Access(access.0 | Access::MKNOD)),
            'r' => Some(Access(access.0 | Access::READ)),
            'w' => Some(Access(access.0 | Access::WRITE)),
            _ => None,
        })
    }
}

impl Rule {
    fn parse(rule: &DeviceRule) -> Result<Rule, CgroupError> {
        let kind = match rule.kind.as_deref() {
            None | Some("" | "a") => None,
            Some("b") => Some(Kind::Block),
            Some("c" | "u") => Some(Kind::Char),
            Some(other) => return Err(bad_value("devices.type", other, "a, b or c is needed")),
        };
        let number = |field, value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(n) => match u32::try_from(n) {
                Ok(n) if n <= i32::MAX as u32 => Ok(Some(n)),
                _ => Err(bad_value(field, n, "a device number, or -1 for any, is needed")),
            },
        };
        let access = match rule.access.as_deref() {
            None | Some("") => Access(Access::ALL),
            Some(text) => Access::parse(text)
                .ok_or_else(|| bad_value("devices.access", text, "a part of rwm is needed"))?,
        };
        let (major, minor) = (
            number("devices.major", rule.major)?,
            number("devices.minor", rule.minor)?,
        );
        Ok(Rule {
            allow: rule.allow,
            kind,
            major,
            minor,
            access,
        })
    }

    /// Whether it decides about every request.
    pub fn covers_all(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access.0 == Access::ALL
    }

    /// Whether it covers every node that `other` covers.
    fn contains(&self, other: &Rule) -> bool {
        fn wider<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || a == b
        }
        wider(self.kind, other.kind) && wider(self.major, other.major) && wider(self.minor, other.minor)
    }

    /// Whether some node is covered by both.
    fn meets(&self, other: &Rule) -> bool {
        fn common<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        common(self.kind, other.kind) && common(self.major, other.major) && common(self.minor, other.minor)
    }
}

/// As v1's files take it: `c 1:3 rwm`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            None => "a ",
            Some(Kind::Block) => "b ",
            Some(Kind::Char) => "c ",
        })?;
        for (number, after) in [(self.major, ":"), (self.minor, " ")] {
            match number {
                Some(number) => write!(f, "{number}{after}")?,
                None => write!(f, "*{after}")?,
            }
        }
        for (bit, letter) in [(Access::READ, "r"), (Access::WRITE, "w"), (Access::MKNOD, "m")] {
            f.write_str(if self.access.0 & bit == 0 { "" } else { letter })?;
        }
        Ok(())
    }
}

/// The devices that every container has, whatever its rules say before: null, zero, full, tty, random, urandom, ptmx and
/// ptys may be used, and any node may be made (making is harmless, opening is what counts).
pub fn defaults() -> Vec<DeviceRule> {
    let rule = |kind: &str, major: i64, minor: i64, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: Some(major),
        minor: Some(minor),
        access: Some(access.to_owned()),
    };
    let mut rules = vec![rule("c", -1, -1, "m"), rule("b", -1, -1, "m")];
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, -1)];
    rules.extend(
        nodes
            .iter()
            .map(|(major, minor)| rule("c", *major, *minor, "rwm")),
    );
    rules
}

/// Puts `rules`, with the defaults after them, into effect.
pub(super) fn restrict(nodes: &[Node], rules: &[DeviceRule], phase: Phase) -> Result<(), CgroupError> {
    let defaults = defaults();
    let rules: Vec<Rule> = rules
        .iter()
        .chain(&defaults)
        .map(Rule::parse)
        .collect::<Result<_, _>>()?;
    let v1 = nodes
        .iter()
        .find(|node| node.version() == Version::V1 && node.has(Controller::Devices));
    if let Some(node) = v1 {
        return restrict_v1(&node.dir, &reduce(&rules)?, phase);
    }
    match nodes.iter().find(|node| node.version() == Version::V2) {
        Some(node) => restrict_v2(&node.dir, &rules, phase),
        None if reduce(&rules)?.allows_all() => Ok(()),
        None => Err(unsupported(
            "devices",
            "neither the devices controller nor cgroup2 is mounted",
        )),
    }
}

/// v1's form: one default, and exceptions to it.
#[derive(Debug, PartialEq, Eq)]
struct List {
    allow: bool,
    exceptions: Vec<Rule>,
}

impl List {
    fn allows_all(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    fn apply(&mut self, rule: Rule) -> Result<(), CgroupError> {
        if rule.allow != self.allow {
            match self
                .exceptions
                .iter_mut()
                .find(|e| e.contains(&rule) && rule.contains(e))
            {
                Some(same) => same.access.0 |= rule.access.0,
                None => self.exceptions.push(rule),
            }
            return Ok(());
        }
        for exception in &mut self.exceptions {
            let shared = exception.access.0 & rule.access.0;
            if shared == 0 || !rule.meets(exception) {
                continue;
            }
            if !rule.contains(exception) {
                let reason = format!("cgroup v1 cannot take this out of the rule \"{exception}\"");
                return Err(unsupported(format!("device rule \"{rule}\""), reason));
            }
            exception.access.0 &= !rule.access.0;
        }
        self.exceptions.retain(|exception| exception.access.0 != 0);
        Ok(())
    }
}

/// Rules as v1's list. A rule about both kinds with a number or with less than full access becomes two, since the kernel
/// reads `a` as everything.
fn reduce(rules: &[Rule]) -> Result<List, CgroupError> {
    let mut list = List {
        allow: false,
        exceptions: Vec::new(),
    };
    for rule in rules {
        if rule.covers_all() {
            list = List {
                allow: rule.allow,
                exceptions: Vec::new(),
            };
            continue;
        }
        let kinds = rule
            .kind
            .map_or_else(|| vec![Kind::Block, Kind::Char], |kind| vec![kind]);
        for kind in kinds {
            list.apply(Rule {
                kind: Some(kind),
                ..*rule
            })?;
        }
    }
    Ok(list)
}

fn restrict_v1(dir: &tree::Dir, list: &List, phase: Phase) -> Result<(), CgroupError> {
    if list.allows_all() && phase == Phase::Create {
        // A new cgroup has what its parent has, and cannot have more.
        return Ok(());
    }
    let (default, exceptions) = match list.allow {
        true => ("devices.allow", "devices.deny"),
        false => ("devices.deny", "devices.allow"),
    };
    dir.write(default, "a")
        .map_err(|errno| dir.io("write", default, errno))?;
    let file = dir
        .open_file(exceptions, OFlags::WRONLY)
        .map_err(|errno| dir.io("open", exceptions, errno))?;
    for rule in &list.exceptions {
        match tree::write_value(file.as_fd(), &rule.to_string()) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                let reason = format!("the cgroup above {} does not allow it", dir.path());
                return Err(unsupported(format!("device rule \"{rule}\""), reason));
            }
            Err(errno) => return Err(dir.io("write", exceptions, errno)),
        }
    }
    Ok(())
}

/// Attaches the new program before it detaches the old ones: at every moment one of them decides.
fn restrict_v2(dir: &tree::Dir, rules: &[Rule], phase: Phase) -> Result<(), CgroupError> {
    use ferry_sys::bpf;
    let program = device_program::assemble(rules);
    let fail = |op| move |errno: Errno| dir.io(op, "", errno);
    let old = match phase {
        Phase::Create => Vec::new(),
        Phase::Update => bpf::device_programs(dir.as_fd()).map_err(fail("query the device program of"))?,
    };
    if let Some(program) = program {
        let loaded = match bpf::load_device_program(&program) {
            Err(Errno::PERM) => {
                return Err(unsupported(
                    "devices",
                    "loading a device program needs CAP_BPF or CAP_SYS_ADMIN",
                ));
            }
            other => other.map_err(fail("load the device program of"))?,
        };
        bpf::attach_device_program(dir.as_fd(), loaded.as_fd())
            .map_err(fail("attach the device program to"))?;
    }
    for id in old {
        let old = bpf::program_by_id(id).map_err(fail("open the device program of"))?;
        bpf::detach_device_program(dir.as_fd(), old.as_fd()).map_err(fail("detach the device program of"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        let mut words = text.split(' ');
        let allow = words.next() == Some("allow");
        let kind = words.next().map(str::to_owned);
        let (major, minor) = words.next().unwrap().split_once(':').unwrap();
        let number = |n: &str| n.parse::<i64>().ok();
        let (major, minor) = (number(major), number(minor));
        let access = words.next().map(str::to_owned);
        Rule::parse(&DeviceRule {
            allow,
            kind,
            major,
            minor,
            access,
        })
        .unwrap()
    }

    fn reduced(rules: &[&str]) -> Result<Vec<String>, String> {
        let rules: Vec<Rule> = rules.iter().map(|r| rule(r)).collect();
        let list = reduce(&rules).map_err(|e| e.to_string())?;
        let first = if list.allow { "allow a" } else { "deny a" };
        Ok(std::iter::once(first.to_owned())
            .chain(list.exceptions.iter().map(Rule::to_string))
            .collect())
    }

    #[test]
    fn rules_reduce_to_a_list() {
        assert_eq!(reduced(&[]).unwrap(), ["deny a"]);
        assert_eq!(
            reduced(&[
                "deny a *:* rwm",
                "allow c 1:3 r",
                "allow c 1:3 w",
                "deny b 8:0 rwm"
            ])
            .unwrap(),
            ["deny a", "c 1:3 rw"]
        );
        assert_eq!(
            reduced(&["allow c 1:3 rwm", "allow c 1:5 rw", "deny c 1:* w"]).unwrap(),
            ["deny a", "c 1:3 rm", "c 1:5 r"]
        );
        assert_eq!(
            reduced(&["allow c 1:3 rwm", "deny a *:* rwm"]).unwrap(),
            ["deny a"]
        );
        assert_eq!(
            reduced(&["allow a *:* rwm", "deny b 8:0 rwm"]).unwrap(),
            ["allow a", "b 8:0 rwm"]
        );
        assert_eq!(
            reduced(&["allow a 10:* m"]).unwrap(),
            ["deny a", "b 10:* m", "c 10:* m"]
        );
    }

    #[test]
    fn holes_are_refused_on_v1() {
        assert_eq!(
            reduced(&["allow c *:* rwm", "deny c 10:229 rw"]).unwrap_err(),
            "device rule \"c 10:229 rw\" is not supported here: \
             cgroup v1 cannot take this out of the rule \"c *:* rwm\""
        );
        assert!(
            reduced(&["allow c *:* m", "deny c 10:229 rw"]).is_ok(),
            "they share no access"
        );
    }

    #[test]
    fn bad_rules_are_named() {
        let parse = |kind: &str, major: i64, access: &str| {
            let rule = DeviceRule {
                allow: true,
                kind: Some(kind.into()),
                major: Some(major),
                minor: None,
                access: Some(access.into()),
            };
            Rule::parse(&rule).map_err(|e| e.to_string())
        };
        assert!(parse("x", 1, "r").unwrap_err().starts_with("devices.type = x"));
        assert!(parse("c", -2, "r").unwrap_err().starts_with("devices.major = -2"));
        assert!(parse("c", 1 << 40, "r").unwrap_err().starts_with("devices.major"));
        assert!(
            parse("c", 1, "rx")
                .unwrap_err()
                .starts_with("devices.access = rx")
        );
    }
}
