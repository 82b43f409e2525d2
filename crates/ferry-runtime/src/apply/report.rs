//! What the new process tells its maker: sixteen bytes at a time, so that every write is whole.

use ferry_sys::Errno;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// It stands at the gate.
    Ready,
    /// It waits for hooks.
    Hooks,
    /// A step was refused, and it goes on: the step's index, the error.
    Tolerated(u32, i32),
    /// It ends: the step's index (or one of the constants below), where in the step, the error.
    Failed(Fault, u32),
}

/// Why a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where in the step, 0 when it is one thing; a constant of [`detail`].
    pub detail: u32,
    /// The kernel's answer.
    pub errno: i32,
}

/// Instead of a step's index: the descriptors could not be arranged.
pub(crate) const AT_START: u32 = u32::MAX;
/// Instead of a step's index: exec failed.
pub(crate) const AT_EXEC: u32 = u32::MAX - 1;
/// Instead of a step's index: the last clone failed.
pub(crate) const AT_LAST_CLONE: u32 = u32::MAX - 2;

/// Where in a step, for those that are several things.
pub(crate) mod detail {
    pub const SOURCE: u32 = 16;
    pub const DESTINATION: u32 = 17;
    pub const CREATE: u32 = 18;
    pub const MOVE: u32 = 19;
    pub const ATTRIBUTES: u32 = 20;
    pub const NOT_A_DEVICE: u32 = 21;
    pub const INSIDE_PROC: u32 = 22;
    pub const NOT_IN_PATH: u32 = 23;
    pub const PASSWD: u32 = 24;
    pub const GROUP: u32 = 25;
    pub const COPY_UP: u32 = 26;
    pub const MAKE: u32 = 27;
    pub const OUTSIDE: u32 = 28;
    pub const GROUPS: u32 = 29;
    pub const IDS: u32 = 30;
    pub const SETS: u32 = 31;
    pub const AMBIENT: u32 = 32;
    pub const BOUNDING: u32 = 33;
    pub const PARAMETER: u32 = 64;
}

pub(crate) type Done<T = ()> = Result<T, Fault>;

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault {
            detail: 0,
            errno: errno.raw_os_error(),
        }
    }
}

/// Says where in a step an error came from.
pub(crate) trait During<T> {
    fn during(self, detail: u32) -> Done<T>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, detail: u32) -> Done<T> {
        self.map_err(|errno| Fault {
            detail,
            errno: errno.raw_os_error(),
        })
    }
}

impl Report {
    pub const SIZE: usize = 16;

    pub fn to_bytes(self) -> [u8; Report::SIZE] {
        let (tag, step, detail, errno) = match self {
            Report::Ready => (1u32, 0, 0, 0),
            Report::Hooks => (2, 0, 0, 0),
            Report::Tolerated(step, errno) => (3, step, 0, errno),
            Report::Failed(fault, step) => (4, step, fault.detail, fault.errno),
        };
        let mut bytes = [0; Report::SIZE];
        for (at, word) in [tag, step, detail, errno.cast_unsigned()].into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Report::SIZE]) -> Option<Report> {
        let word = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at * 4..at * 4 + 4]);
            u32::from_ne_bytes(word)
        };
        let errno = word(3).cast_signed();
        Some(match word(0) {
            1 => Report::Ready,
            2 => Report::Hooks,
            3 => Report::Tolerated(word(1), errno),
            4 => Report::Failed(
                Fault {
                    detail: word(2),
                    errno,
                },
                word(1),
            ),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        let fault = Fault { detail: 7, errno: -3 };
        for report in [
            Report::Ready,
            Report::Hooks,
            Report::Tolerated(5, 1),
            Report::Failed(fault, AT_EXEC),
        ] {
            assert_eq!(Report::from_bytes(&report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes(&[0; 16]), None);
    }
}
