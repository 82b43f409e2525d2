//! Users and groups by name, from the image's own `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! The rules are Docker's: a number is an id and never looked up as a name; a user's groups count only when no group was named. The files are
//! the image's, so they are read through the root's fd, only when regular, and only up to [`MAX_FILE`] bytes.
//! [`resolve`] does not allocate: the new process itself calls it between clone and exec.

use ferry_sys::{Errno, path};
use rustix::fs::{FileType, OFlags};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::BorrowedFd;

/// The most that is read of either file.
pub const MAX_FILE: usize = 1 << 20;
/// The most supplementary groups (the kernel takes 65,536; no image needs a tenth of this).
pub const MAX_GROUPS: usize = 1024;
/// The highest id, as Docker has it.
const MAX_ID: u64 = (1 << 31) - 1;

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    user: Vec<u8>,
    group: Vec<u8>,
    extra: Vec<Vec<u8>>,
}

impl Request {
    /// `user[:group]` (empty: user 0) and further groups.
    pub fn new(user: &str, extra: &[String]) -> Request {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        Request {
            user: user.into(),
            group: group.into(),
            extra: extra.iter().map(|g| g.clone().into_bytes()).collect(),
        }
    }

    /// Whether the group file matters for it.
    fn needs_groups(&self) -> bool {
        !self.group.is_empty() || !self.extra.is_empty()
    }
}

/// Who it is. `groups` has the primary group first, as Docker's images expect (CVE-2022-36109).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// `$HOME`, `/` when the files do not say.
    pub home: Vec<u8>,
}

impl Identity {
    /// One that [`resolve`] can fill without allocating.
    pub fn with_room() -> Identity {
        Identity {
            uid: 0,
            gid: 0,
            groups: Vec::with_capacity(MAX_GROUPS),
            home: Vec::with_capacity(4096),
        }
    }
}

/// Why a look-up fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such user, and not a number.
    User,
    /// No such group, and not a number.
    Group,
    /// No such further group; its index.
    Extra(usize),
    /// A number above 2147483647.
    Range,
    /// More groups than [`MAX_GROUPS`].
    TooMany,
}

impl Refusal {
    /// In Docker's words.
    pub fn message(self, request: &Request) -> String {
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Refusal::User => {
                format!(
                    "unable to find user {}: no matching entries in passwd file",
                    show(&request.user)
                )
            }
            Refusal::Group => {
                format!(
                    "unable to find group {}: no matching entries in group file",
                    show(&request.group)
                )
            }
            Refusal::Extra(index) => {
                let name = request.extra.get(index).map_or_else(String::new, |g| show(g));
                format!("unable to find group {name}: no matching entries in group file")
            }
            Refusal::Range => "uids and gids must be in range 0-2147483647".to_owned(),
            Refusal::TooMany => format!("the user is in more than {MAX_GROUPS} groups"),
        }
    }

    pub(crate) fn code(self) -> (u32, i32) {
        match self {
            Refusal::User => (1, 0),
            Refusal::Group => (2, 0),
            Refusal::Extra(index) => (3, i32::try_from(index).unwrap_or(i32::MAX)),
            Refusal::Range => (4, 0),
            Refusal::TooMany => (5, 0),
        }
    }

    pub(crate) fn from_code(code: u32, index: i32) -> Option<Refusal> {
        Some(match code {
            1 => Refusal::User,
            2 => Refusal::Group,
            3 => Refusal::Extra(usize::try_from(index).unwrap_or(0)),
            4 => Refusal::Range,
            5 => Refusal::TooMany,
            _ => return None,
        })
    }
}

/// What a user or group argument is.
enum Argument<'a> {
    Number(u32),
    Name(&'a [u8]),
}

fn argument(text: &[u8]) -> Result<Argument<'_>, Refusal> {
    let digits = match text {
        [b'+', rest @ ..] | [b'-', rest @ ..] => rest,
        all => all,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok(Argument::Name(text));
    }
    match number(digits) {
        Some(value) if text[0] != b'-' || value == 0 => Ok(Argument::Number(value)),
        _ => Err(Refusal::Range),
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
        if value > MAX_ID {
            return None;
        }
    }
    u32::try_from(value).ok()
}

/// The fields of each well-formed line.
fn lines<const N: usize>(file: &[u8]) -> impl Iterator<Item = [&[u8]; N]> {
    file.split(|b| *b == b'\n').filter_map(|line| {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            return None;
        }
        let mut fields = [&b""[..]; N];
        let mut parts = line.splitn(N, |b| *b == b':');
        for field in &mut fields {
            *field = parts.next().unwrap_or_default();
        }
        Some(fields)
    })
}

/// Resolves `request` against the contents of the files; absent files are empty ones. Does not allocate when `found` has room.
pub fn resolve(request: &Request, passwd: &[u8], group: &[u8], found: &mut Identity) -> Result<(), Refusal> {
    found.groups.clear();
    found.home.clear();
    let wanted = if request.user.is_empty() {
        Argument::Number(0)
    } else {
        argument(&request.user)?
    };
    let entry = lines::<7>(passwd).find(|[name, _, uid, gid, ..]| {
        number(gid).is_some()
            && match wanted {
                Argument::Number(value) => number(uid) == Some(value),
                Argument::Name(wanted) => *name == wanted && number(uid).is_some(),
            }
    });
    let mut name = &b""[..];
    (found.uid, found.gid) = match (entry, wanted) {
        (Some([entry_name, _, uid, gid, _, home, _]), _) => {
            name = entry_name;
            set_home(found, home);
            (number(uid).unwrap_or(0), number(gid).unwrap_or(0))
        }
        (None, Argument::Number(value)) => (value, 0),
        (None, Argument::Name(_)) => return Err(Refusal::User),
    };
    if found.home.is_empty() {
        set_home(found, b"/");
    }
    if !request.group.is_empty() {
        found.gid = group_id(&request.group, group)?.ok_or(Refusal::Group)?;
        push(found, found.gid)?;
    } else {
        push(found, found.gid)?;
        for [_, _, gid, members] in lines::<4>(group) {
            let member = !name.is_empty() && members.split(|b| *b == b',').any(|m| m == name);
            if let (true, Some(gid)) = (member, number(gid)) {
                push(found, gid)?;
            }
        }
    }
    for (index, extra) in request.extra.iter().enumerate() {
        let gid = group_id(extra, group)?.ok_or(Refusal::Extra(index))?;
        push(found, gid)?;
    }
    Ok(())
}

fn set_home(found: &mut Identity, home: &[u8]) {
    if home.len() < found.home.capacity() && !home.contains(&0) {
        found.home.clear();
        found.home.extend_from_slice(home);
    }
}

fn push(found: &mut Identity, gid: u32) -> Result<(), Refusal> {
    if found.groups.len() == found.groups.capacity() {
        return Err(Refusal::TooMany);
    }
    found.groups.push(gid);
    Ok(())
}

fn group_id(text: &[u8], group: &[u8]) -> Result<Option<u32>, Refusal> {
    Ok(match argument(text)? {
        Argument::Number(value) => Some(value),
        Argument::Name(wanted) => lines::<4>(group)
            .find(|[name, ..]| *name == wanted)
            .and_then(|[_, _, gid, _]| number(gid)),
    })
}

/// Reads a small regular file beneath `root` into `buffer`, whole or not at all; an absent one is empty.
///
/// # Errors
/// EINVAL when it is not a regular file, EFBIG when it is longer than the buffer.
pub fn read_file<'b>(root: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match path::open(root, name, flags) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(&[]),
        Err(errno) => return Err(errno),
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut length = 0;
    loop {
        match rustix::io::read(&file, &mut buffer[length..]) {
            Ok(0) if length == buffer.len() => return Err(Errno::FBIG),
            Ok(0) => return Ok(&buffer[..length]),
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Why [`lookup`] fails.
#[derive(Debug)]
pub enum LookupError {
    /// The files do not have it, in Docker's words.
    Refused(Refusal, Request),
    /// A file could not be read.
    Io {
        /// Which.
        path: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::Refused(refusal, request) => f.write_str(&refusal.message(request)),
            LookupError::Io { path, source } => write!(f, "cannot read the image's /{path}: {source}"),
        }
    }
}

impl std::error::Error for LookupError {}

/// Resolves `user[:group]` and further groups beneath `root`, the root file system's directory.
pub fn lookup(root: BorrowedFd<'_>, user: &str, extra: &[String]) -> Result<Identity, LookupError> {
    let request = Request::new(user, extra);
    let mut buffers = Buffers::new();
    let mut found = Identity::with_room();
    buffers
        .resolve(root, &request, &mut found)
        .map_err(|failure| match failure {
            Failure::Refused(refusal) => LookupError::Refused(refusal, request.clone()),
            Failure::Io(path, errno) => LookupError::Io {
                path,
                source: errno.into(),
            },
        })?;
    Ok(found)
}

/// Room for both files; its pages cost nothing until they are used.
#[derive(Debug)]
pub(crate) struct Buffers {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

pub(crate) enum Failure {
    Refused(Refusal),
    Io(&'static str, Errno),
}

impl Buffers {
    pub fn new() -> Buffers {
        Buffers {
            passwd: vec![0; MAX_FILE + 1],
            group: vec![0; MAX_FILE + 1],
        }
    }

    /// Reads the files and resolves; allocates nothing.
    pub fn resolve(
        &mut self,
        root: BorrowedFd<'_>,
        request: &Request,
        found: &mut Identity,
    ) -> Result<(), Failure> {
        let passwd = read_file(root, c"etc/passwd", &mut self.passwd)
            .map_err(|errno| Failure::Io("etc/passwd", errno))?;
        // Without a passwd entry there is no name, so no membership either.
        let group = if request.needs_groups() || !passwd.is_empty() {
            read_file(root, c"etc/group", &mut self.group).map_err(|errno| Failure::Io("etc/group", errno))?
        } else {
            &[]
        };
        resolve(request, passwd, group, found).map_err(Failure::Refused)
    }

    /// `$HOME` of a numeric user alone.
    pub fn home(&mut self, root: BorrowedFd<'_>, uid: u32, found: &mut Identity) -> Result<(), Failure> {
        let passwd = read_file(root, c"etc/passwd", &mut self.passwd)
            .map_err(|errno| Failure::Io("etc/passwd", errno))?;
        set_home(found, b"/");
        if let Some([_, _, _, _, _, home, _]) = lines::<7>(passwd).find(|f| number(f[2]) == Some(uid)) {
            set_home(found, home);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\n1000:x:0:0:evil:/:/bin/sh\n\
        bob:x:1000:100:,,,:/home/bob:/bin/sh\nbroken:x:zero:0::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,bob\naudio:x:29:bob\n100:x:5:\n";

    fn find(user: &str, extra: &[&str]) -> Result<Identity, Refusal> {
        let extra: Vec<String> = extra.iter().map(|g| (*g).to_owned()).collect();
        let mut found = Identity::with_room();
        resolve(&Request::new(user, &extra), PASSWD, GROUP, &mut found).map(|()| found)
    }

    #[test]
    fn names_numbers_and_groups() {
        let bob = find("bob", &[]).unwrap();
        assert_eq!(
            (bob.uid, bob.gid, bob.groups.as_slice()),
            (1000, 100, &[100, 10, 29][..])
        );
        assert_eq!(bob.home, b"/home/bob");
        assert_eq!(find("1000", &[]).unwrap().uid, 1000, "a number is never a name");
        assert_eq!(find("bob:wheel", &["audio", "77"]).unwrap().groups, [10, 29, 77]);
        assert_eq!(find("4242", &[]).unwrap().groups, [0]);
        assert_eq!(find("", &[]).unwrap().groups, [0, 10]);
        assert_eq!(find("0:100", &[]).unwrap().gid, 100);
    }

    #[test]
    fn refusals_have_dockers_words() {
        let refusal = find("nobody", &[]).unwrap_err();
        assert_eq!(
            refusal.message(&Request::new("nobody", &[])),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(find("bob:none", &[]), Err(Refusal::Group));
        assert_eq!(find("bob", &["audio", "none"]), Err(Refusal::Extra(1)));
        assert_eq!(find("broken", &[]), Err(Refusal::User));
        for wrong in ["2147483648", "4294967296", "-1", "99999999999999999999"] {
            assert_eq!(find(wrong, &[]), Err(Refusal::Range), "{wrong}");
        }
        assert_eq!(find("0x0", &[]), Err(Refusal::User));
        assert_eq!(find("+1000", &[]).unwrap().uid, 1000);
    }

    proptest! {
        #[test]
        fn every_number_is_itself(uid in 0u32..=2147483647, gid in 0u32..=2147483647) {
            let found = find(&format!("{uid}:{gid}"), &[]).unwrap();
            prop_assert_eq!((found.uid, found.gid), (uid, gid));
        }

        #[test]
        fn no_bytes_panic(user in ".{0,20}", passwd in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut found = Identity::with_room();
            let _ = resolve(&Request::new(&user, &[]), &passwd, &passwd, &mut found);
        }
    }
}
