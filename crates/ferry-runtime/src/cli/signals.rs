//! Signals by name or number.

use super::Failure;

const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// `15`, `TERM`, `SIGTERM` or `RTMIN+3`.
pub(super) fn parse(text: &str) -> Result<i32, Failure> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES
        .iter()
        .find(|(name, _)| *name == bare)
        .map(|(_, number)| *number);
    let real_time = || {
        let (base, offset) = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
            (Some(rest), _) => (34, rest),
            (_, Some(rest)) => (64, rest),
            _ => return None,
        };
        let offset = if offset.is_empty() {
            0
        } else {
            offset.parse::<i32>().ok()?
        };
        Some(base + offset).filter(|n| (34..=64).contains(n))
    };
    bare.parse()
        .ok()
        .filter(|n| (1..=64).contains(n))
        .or(named)
        .or_else(real_time)
        .ok_or_else(|| Failure::new(format!("unknown signal {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("KILL", 9),
            ("sigterm", 15),
            ("15", 15),
            ("RTMIN+2", 36),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(parse(text).ok(), Some(number), "{text}");
        }
        for wrong in ["", "0", "65", "SIGFOO", "RTMIN+99"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
