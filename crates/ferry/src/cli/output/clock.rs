//! Local times without a C library's zone code: the rules come from the system's compiled zone files (RFC 8536).

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 with a fraction.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// An offset from UTC in force at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    offset: i32,
    name: String,
}

/// The civil parts of a time.
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
    /// 0 is Sunday.
    pub(crate) weekday: u32,
}

/// Days and seconds to a date in the proleptic Gregorian calendar.
pub(crate) fn civil(seconds: i64) -> Civil {
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400) as u32;
    // Years start in March here, so that the leap day is the last of a year; 719_468 days lie before 1970-01-01.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = (if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    }) as u32;
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (days + 4).rem_euclid(7) as u32,
    }
}

/// Seconds since 1970 of a UTC date.
pub(crate) fn seconds_of(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) * 86_400
}

/// Seconds since 1970 of a local wall-clock time given as if it were UTC.
pub(crate) fn to_utc(wall: i64) -> i64 {
    wall - i64::from(local(wall).offset)
}

/// `2006-01-02 15:04:05 -0700 MST`, local.
pub(crate) fn go_string(seconds: i64) -> String {
    let zone = local(seconds);
    let c = civil(seconds + i64::from(zone.offset));
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} {} {}",
        c.year,
        c.month,
        c.day,
        c.hour,
        c.minute,
        c.second,
        offset_text(zone.offset, ""),
        zone.name
    )
}

/// `2006-01-02T15:04:05Z`.
pub(crate) fn rfc3339_utc(seconds: i64) -> String {
    let c = civil(seconds);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// `2006-01-02T15:04:05Z07:00`, local, with nine digits of the second when asked for.
pub(crate) fn rfc3339(seconds: i64, nanoseconds: Option<u32>) -> String {
    let zone = local(seconds);
    let c = civil(seconds + i64::from(zone.offset));
    let fraction = nanoseconds.map(|n| format!(".{n:09}")).unwrap_or_default();
    let offset = if zone.offset == 0 {
        "Z".to_owned()
    } else {
        offset_text(zone.offset, ":")
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{offset}",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

fn offset_text(offset: i32, separator: &str) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    let minutes = offset.abs() / 60;
    format!("{sign}{:02}{separator}{:02}", minutes / 60, minutes % 60)
}

/// Seconds since 1970 of an RFC 3339 time with an offset or `Z`.
pub(crate) fn parse_rfc3339(text: &str) -> Option<(i64, u32)> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let seconds = seconds_of(number(0, 4)?, number(5, 7)? as u32, number(8, 10)? as u32)
        + number(11, 13)? * 3600
        + number(14, 16)? * 60
        + number(17, 19)?;
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("", rest),
    };
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let minutes = zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if zone.starts_with('-') {
                -minutes * 60
            } else {
                minutes * 60
            }
        }
    };
    Some((seconds - offset, nanoseconds))
}

/// The zone in force at this time, as `TZ` or the system says; UTC when neither can be read.
pub(crate) fn local(seconds: i64) -> Zone {
    let utc = || Zone {
        offset: 0,
        name: "UTC".into(),
    };
    let path = match std::env::var("TZ") {
        Ok(tz) if tz.is_empty() || tz == "UTC" => return utc(),
        Ok(tz) => match tz.trim_start_matches(':') {
            absolute if absolute.starts_with('/') => absolute.to_owned(),
            name => format!("/usr/share/zoneinfo/{name}"),
        },
        Err(_) => "/etc/localtime".to_owned(),
    };
    std::fs::read(path)
        .ok()
        .and_then(|bytes| zone_at(&bytes, seconds))
        .unwrap_or_else(utc)
}

/// Looks a time up in a compiled zone file. Times after the last transition take its zone.
fn zone_at(file: &[u8], seconds: i64) -> Option<Zone> {
    let first = ZoneCounts::read(file)?;
    let (body, width) = match file.get(4)? {
        0 => (file.get(44..)?, 4),
        _ => (file.get(44 + first.size(4)..)?.get(44..)?, 8),
    };
    let counts = if width == 4 {
        first
    } else {
        ZoneCounts::read(file.get(44 + first.size(4)..)?)?
    };
    let times = body.get(..counts.times * width)?;
    let types = body.get(counts.times * width..)?;
    let infos = types.get(counts.times..)?;
    let names = infos.get(counts.types * 6..)?.get(..counts.chars)?;
    let time = |i: usize| -> Option<i64> {
        let at = times.get(i * width..(i + 1) * width)?;
        Some(if width == 8 {
            i64::from_be_bytes(at.try_into().ok()?)
        } else {
            i32::from_be_bytes(at.try_into().ok()?).into()
        })
    };
    let passed = (0..counts.times)
        .take_while(|&i| time(i).is_some_and(|t| t <= seconds))
        .count();
    let index = match passed {
        0 => 0,
        n => usize::from(*types.get(n - 1)?),
    };
    let info = infos.get(index * 6..index * 6 + 6)?;
    let offset = i32::from_be_bytes(info.get(..4)?.try_into().ok()?);
    let name = names.get(usize::from(info[5])..)?.split(|&b| b == 0).next()?;
    Some(Zone {
        offset,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

/// The six counts of a zone file's header that matter for the layout.
struct ZoneCounts {
    utc_flags: usize,
    standard_flags: usize,
    leaps: usize,
    times: usize,
    types: usize,
    chars: usize,
}

impl ZoneCounts {
    fn read(file: &[u8]) -> Option<Self> {
        if !file.starts_with(b"TZif") {
            return None;
        }
        let count =
            |i: usize| Some(u32::from_be_bytes(file.get(20 + i * 4..24 + i * 4)?.try_into().ok()?) as usize);
        Some(ZoneCounts {
            utc_flags: count(0)?,
            standard_flags: count(1)?,
            leaps: count(2)?,
            times: count(3)?,
            types: count(4)?,
            chars: count(5)?,
        })
    }

    /// Bytes of the data block with times of this width.
    fn size(&self, width: usize) -> usize {
        self.times * (width + 1)
            + self.types * 6
            + self.chars
            + self.leaps * (width + 4)
            + self.standard_flags
            + self.utc_flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        for seconds in [0, 951_782_400, 1_700_000_000, -1, 4_102_444_800, 1_709_164_800] {
            let c = civil(seconds);
            let back =
                seconds_of(c.year, c.month, c.day) + i64::from(c.hour * 3600 + c.minute * 60 + c.second);
            assert_eq!(back, seconds);
        }
        let c = civil(1_709_164_800);
        assert_eq!((c.year, c.month, c.day, c.weekday), (2024, 2, 29, 4));
    }

    #[test]
    fn rfc3339_times_are_read() {
        assert_eq!(parse_rfc3339("2024-02-29T00:00:00Z"), Some((1_709_164_800, 0)));
        assert_eq!(
            parse_rfc3339("2024-02-29T02:00:00.5+02:00"),
            Some((1_709_164_800, 500_000_000))
        );
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn zone_files_are_read() {
        // Version 0, one transition at 1000 from type 0 (UTC+0 "AAA") to type 1 (UTC-5h "BBB").
        let mut file = b"TZif\0".to_vec();
        file.resize(20, 0);
        for count in [0_u32, 0, 0, 1, 2, 8] {
            file.extend(count.to_be_bytes());
        }
        file.extend(1000_i32.to_be_bytes());
        file.push(1);
        file.extend([0, 0, 0, 0, 0, 0]);
        file.extend((-18_000_i32).to_be_bytes());
        file.extend([0, 4]);
        file.extend(b"AAA\0BBB\0");
        assert_eq!(
            zone_at(&file, 999),
            Some(Zone {
                offset: 0,
                name: "AAA".into()
            })
        );
        assert_eq!(
            zone_at(&file, 1000),
            Some(Zone {
                offset: -18_000,
                name: "BBB".into()
            })
        );
    }
}
