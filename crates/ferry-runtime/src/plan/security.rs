//! Hidden and read-only paths, memory policy, personality.

use super::{PlanError, Step, beneath, invalid};
use ferry_oci::runtime::{MemoryPolicy, Personality, Spec};

pub(super) fn paths(spec: &Spec, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let Some(linux) = &spec.linux else { return Ok(()) };
    for path in &linux.readonly_paths {
        steps.push(Step::ReadOnly(absolute("linux.readonlyPaths", path)?));
    }
    for path in &linux.masked_paths {
        steps.push(Step::Mask(absolute("linux.maskedPaths", path)?));
    }
    Ok(())
}

fn absolute(field: &str, path: &str) -> Result<std::ffi::CString, PlanError> {
    if !path.starts_with('/') {
        return Err(invalid(field, format!("{path:?} is not absolute")));
    }
    beneath(field, path)
}

/// set_mempolicy(2)'s modes, by their numbers in linux/mempolicy.h.
pub(crate) const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

pub(super) fn memory_policy(policy: &MemoryPolicy, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let field = "linux.memoryPolicy";
    let mode = MODES
        .iter()
        .position(|m| *m == policy.mode)
        .ok_or_else(|| invalid(field, format!("mode {:?} is unknown", policy.mode)))?;
    let mut flags = 0u32;
    for flag in &policy.flags {
        flags |= match flag.as_str() {
            "MPOL_F_STATIC_NODES" => 1 << 15,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            other => return Err(invalid(field, format!("flag {other:?} is unknown"))),
        };
    }
    let nodes = bits(field, &policy.nodes)?;
    steps.push(Step::MemoryPolicy(
        u32::try_from(mode).unwrap_or(0) | flags,
        nodes,
    ));
    Ok(())
}

/// A list such as `0-2,5` as a bit mask of at most 1,024 bits.
pub(super) fn bits(field: &str, list: &str) -> Result<Vec<u64>, PlanError> {
    const MOST: usize = 1024;
    let wrong = || {
        invalid(
            field,
            format!("{list:?} is not a list such as 0-2,5 below {MOST}"),
        )
    };
    let mut words: Vec<u64> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| wrong())?;
        let last: usize = last.parse().map_err(|_| wrong())?;
        if last < first || last >= MOST {
            return Err(wrong());
        }
        for bit in first..=last {
            if words.len() <= bit / 64 {
                words.resize(bit / 64 + 1, 0);
            }
            words[bit / 64] |= 1 << (bit % 64);
        }
    }
    Ok(words)
}

pub(super) fn personality(personality: &Personality, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let field = "linux.personality";
    if !personality.flags.is_empty() {
        return Err(invalid(field, "flags are not defined by the specification"));
    }
    let domain = match personality.domain.as_str() {
        "LINUX" => 0,
        "LINUX32" => 8,
        other => {
            return Err(invalid(
                field,
                format!("domain {other:?} is neither LINUX nor LINUX32"),
            ));
        }
    };
    steps.push(Step::Personality(domain));
    Ok(())
}
