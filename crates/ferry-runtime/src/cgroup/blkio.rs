//! `blkio` (v1) and `io` (v2): weights and throttles of disks.
//!
//! Weights need a scheduler that knows them: the BFQ files where they exist, else v1's `blkio.weight` or v2's `io.weight`
//! (io.cost). A kernel with neither refuses the weight by name.

use super::stats::{BlkioEntry, BlkioStats};
use super::tree::{self, Dir};
use super::{CgroupError, Controller, ControllerRow, Knob, Stats, Version, bad_value};
use ferry_oci::runtime::{BlockIo, Resources, ThrottleDevice};

pub(super) const ROW: ControllerRow = ControllerRow {
    controller: Controller::Blkio,
    knobs,
    write,
    stats,
};

fn knobs(resources: &Resources, version: Version) -> Result<Vec<Knob>, CgroupError> {
    let Some(io) = &resources.block_io else {
        return Ok(Vec::new());
    };
    let mut knobs = weights(io, version)?;
    for (field, list, v1, v2) in [
        (
            "blockIO.throttleReadBpsDevice",
            &io.throttle_read_bps_device,
            "blkio.throttle.read_bps_device",
            "rbps",
        ),
        (
            "blockIO.throttleWriteBpsDevice",
            &io.throttle_write_bps_device,
            "blkio.throttle.write_bps_device",
            "wbps",
        ),
        (
            "blockIO.throttleReadIOPSDevice",
            &io.throttle_read_iops_device,
            "blkio.throttle.read_iops_device",
            "riops",
        ),
        (
            "blockIO.throttleWriteIOPSDevice",
            &io.throttle_write_iops_device,
            "blkio.throttle.write_iops_device",
            "wiops",
        ),
    ] {
        for device in list {
            let (file, value) = match version {
                Version::V1 => (v1, format!("{}:{} {}", device.major, device.minor, device.rate)),
                Version::V2 => ("io.max", v2_rate(device, v2)),
            };
            knobs.push(Knob::new(field, file, value));
        }
    }
    Ok(knobs)
}

/// Zero lifts the throttle: v1 writes it so, v2 says `max`.
fn v2_rate(device: &ThrottleDevice, key: &str) -> String {
    let rate = if device.rate == 0 {
        "max".to_owned()
    } else {
        device.rate.to_string()
    };
    format!("{}:{} {key}={rate}", device.major, device.minor)
}

fn weights(io: &BlockIo, version: Version) -> Result<Vec<Knob>, CgroupError> {
    let mut knobs = Vec::new();
    // v2's values stay v1's here; `write` converts them once it knows which file there is.
    let (all, each) = match version {
        Version::V1 => ("blkio.weight", "blkio.weight_device"),
        Version::V2 => ("io.weight", "io.weight"),
    };
    if let Some(weight) = checked("blockIO.weight", io.weight)? {
        knobs.push(Knob::new("blockIO.weight", all, weight.to_string()));
    }
    if let Some(weight) = checked("blockIO.leafWeight", io.leaf_weight)? {
        knobs.push(Knob::new(
            "blockIO.leafWeight",
            "blkio.leaf_weight",
            weight.to_string(),
        ));
    }
    for device in &io.weight_device {
        let place = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = checked("blockIO.weightDevice", device.weight)? {
            knobs.push(Knob::new(
                "blockIO.weightDevice",
                each,
                format!("{place} {weight}"),
            ));
        }
        if let Some(weight) = checked("blockIO.weightDevice.leafWeight", device.leaf_weight)? {
            let (field, file) = ("blockIO.weightDevice.leafWeight", "blkio.leaf_weight_device");
            knobs.push(Knob::new(field, file, format!("{place} {weight}")));
        }
    }
    Ok(knobs)
}

fn checked(field: &str, weight: Option<u16>) -> Result<Option<u16>, CgroupError> {
    match weight {
        None | Some(0) => Ok(None),
        Some(10..=1000) => Ok(weight),
        Some(weight) => Err(bad_value(field, weight, "10 to 1000 is needed")),
    }
}

/// Each line is a write of its own; weights go to the file that this kernel has.
fn write(dir: &Dir, _version: Version, knobs: &[Knob], _resources: &Resources) -> Result<(), CgroupError> {
    for knob in knobs {
        tree::write_knob(dir, &fitted(knob, &|file| dir.has(file)))?;
    }
    Ok(())
}

fn fitted(knob: &Knob, has: &dyn Fn(&str) -> bool) -> Knob {
    let bfq = match knob.file.as_str() {
        "blkio.weight" => "blkio.bfq.weight",
        "blkio.weight_device" => "blkio.bfq.weight_device",
        "io.weight" => "io.bfq.weight",
        _ => return knob.clone(),
    };
    let mut knob = knob.clone();
    let prefer_bfq = knob.file == "io.weight" || !has(&knob.file);
    if prefer_bfq && has(bfq) {
        knob.file = bfq.to_owned();
    } else if knob.file == "io.weight" {
        let (place, weight) = knob.value.rsplit_once(' ').unwrap_or(("default", &knob.value));
        knob.value = format!("{place} {}", io_weight(weight.parse().unwrap_or(500)));
    }
    knob
}

/// v1's 10 to 1000 on v2's scale of 1 to 10000, linearly, as container runtimes agreed.
fn io_weight(weight: u64) -> u64 {
    1 + (weight.saturating_sub(10)) * 9999 / 990
}

fn stats(dir: &Dir, version: Version, stats: &mut Stats) -> Result<(), CgroupError> {
    stats.blkio = match version {
        Version::V1 => BlkioStats {
            bytes: entries_v1(dir, "io_service_bytes")?,
            operations: entries_v1(dir, "io_serviced")?,
        },
        Version::V2 => parse_v2(&dir.read("io.stat")?.unwrap_or_default()),
    };
    Ok(())
}

/// The first family of files that has counted anything: which one does depends on the disk's scheduler.
fn entries_v1(dir: &Dir, meter: &str) -> Result<Vec<BlkioEntry>, CgroupError> {
    for file in [
        format!("blkio.bfq.{meter}_recursive"),
        format!("blkio.{meter}_recursive"),
        format!("blkio.throttle.{meter}_recursive"),
        format!("blkio.throttle.{meter}"),
    ] {
        let entries = parse_v1(&dir.read(&file)?.unwrap_or_default());
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    Ok(Vec::new())
}

/// `8:0 Read 4096` lines, ended by a `Total` over all devices.
fn parse_v1(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn parse_v2(text: &str) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for (device, pairs) in tree::nested_keyed(text) {
        let Some((major, minor)) = device.split_once(':') else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for (key, value) in pairs {
            let (list, op) = match key {
                "rbytes" => (&mut stats.bytes, "read"),
                "wbytes" => (&mut stats.bytes, "write"),
                "dbytes" => (&mut stats.bytes, "discard"),
                "rios" => (&mut stats.operations, "read"),
                "wios" => (&mut stats.operations, "write"),
                "dios" => (&mut stats.operations, "discard"),
                _ => continue,
            };
            list.push(BlkioEntry {
                major,
                minor,
                op: op.to_owned(),
                value,
            });
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_oci::runtime::WeightDevice;

    fn lines(io: BlockIo, version: Version) -> Vec<String> {
        let resources = Resources {
            block_io: Some(io),
            ..Resources::default()
        };
        let knobs = knobs(&resources, version).unwrap();
        knobs.iter().map(|k| format!("{} {}", k.file, k.value)).collect()
    }

    #[test]
    fn throttles() {
        let io = BlockIo {
            throttle_read_bps_device: vec![ThrottleDevice {
                major: 8,
                minor: 0,
                rate: 1_048_576,
            }],
            throttle_write_iops_device: vec![ThrottleDevice {
                major: 8,
                minor: 16,
                rate: 0,
            }],
            ..BlockIo::default()
        };
        assert_eq!(
            lines(io.clone(), Version::V1),
            [
                "blkio.throttle.read_bps_device 8:0 1048576",
                "blkio.throttle.write_iops_device 8:16 0"
            ]
        );
        assert_eq!(
            lines(io, Version::V2),
            ["io.max 8:0 rbps=1048576", "io.max 8:16 wiops=max"]
        );
    }

    #[test]
    fn weights_go_where_the_kernel_has_them() {
        let knob = |file: &str, value: &str| Knob::new("blockIO.weight", file, value);
        let at = |knob: &Knob, files: &[&str]| {
            let fitted = fitted(knob, &|file| files.contains(&file));
            format!("{} {}", fitted.file, fitted.value)
        };
        let v1 = knob("blkio.weight", "300");
        assert_eq!(at(&v1, &["blkio.weight"]), "blkio.weight 300");
        assert_eq!(at(&v1, &["blkio.bfq.weight"]), "blkio.bfq.weight 300");
        assert_eq!(at(&v1, &[]), "blkio.weight 300", "so that the error names it");
        let v2 = knob("io.weight", "1000");
        assert_eq!(at(&v2, &["io.weight", "io.bfq.weight"]), "io.bfq.weight 1000");
        assert_eq!(at(&v2, &["io.weight"]), "io.weight default 10000");
        assert_eq!(
            at(&knob("io.weight", "8:0 10"), &["io.weight"]),
            "io.weight 8:0 1"
        );
    }

    #[test]
    fn weights_have_bounds() {
        let device = WeightDevice {
            major: 8,
            minor: 0,
            weight: Some(9),
            leaf_weight: None,
        };
        let io = BlockIo {
            weight_device: vec![device],
            ..BlockIo::default()
        };
        let resources = Resources {
            block_io: Some(io),
            ..Resources::default()
        };
        let error = knobs(&resources, Version::V1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "blockIO.weightDevice = 9: 10 to 1000 is needed"
        );
    }

    #[test]
    fn meters() {
        let v1 = parse_v1("8:0 Read 4096\n8:0 Write 1\nTotal 4097\n");
        assert_eq!(v1.len(), 2);
        assert_eq!((v1[0].op.as_str(), v1[0].value), ("Read", 4096));
        let v2 = parse_v2("8:16 rbytes=5 wbytes=6 rios=1 wios=2 dbytes=0 dios=0\nbad\n");
        assert_eq!((v2.bytes.len(), v2.operations.len()), (3, 3));
        assert_eq!((v2.bytes[1].minor, v2.bytes[1].value), (16, 6));
    }
}
