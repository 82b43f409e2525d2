//! A world with a launcher in it, and containers as the engine would start them.

use ferry_net::EndpointPlan;
use ferry_oci::runtime::{Process, Spec};
use ferry_shim_proto::{
    ExecRequest, ExitRecord, Failure, FromLauncher, FromShim, LaunchRequest, LogTarget, Rootfs,
    SeccompChoice, ShimState, ToLauncher, ToShim, transport,
};
use ferry_testkit::{Census, World};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing takes longer that does not hang.
pub const PATIENCE: Duration = Duration::from_secs(10);
const NAMES: [&str; 4] = ["ferry-shim", "ferry-exec", "ferry-setup", "ferry-launcher"];
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Runs a test in a world of its own and looks for what it left.
pub fn in_a_world(name: &str, test: fn(&mut Rig)) {
    remove_parents();
    let world = World::new().expect("a world");
    let left = world.enter(|| {
        let left = catch_unwind(AssertUnwindSafe(|| leaks_of(test)));
        if left.is_err() {
            end_monitors();
        }
        Ok(left)
    });
    remove_parents();
    let left = left
        .expect("the world")
        .unwrap_or_else(|panic| resume_unwind(panic));
    assert!(left.is_empty(), "{name} left behind: {left:?}");
}

fn leaks_of(test: fn(&mut Rig)) -> Vec<String> {
    let before = Census::take(&[&parent()], &NAMES);
    let mut rig = Rig::new();
    test(&mut rig);
    rig.end();
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        let mut left = before.leaked(&Census::take(&[&parent()], &NAMES));
        left.retain(|l| is_ours(l));
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A monitor waits for an engine for ever; that of a failed test never gets one.
fn end_monitors() {
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if NAMES.contains(&name.trim())
            && is_in_this_world(&format!("{pid}"))
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn is_in_this_world(process: &str) -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    of(process).is_some() && of(process) == of("thread-self")
}

/// The cgroup of this run: another may be going on beside it.
pub fn parent() -> String {
    format!("ferry-test-shim-{}", std::process::id())
}

/// The parents of the containers' cgroups stay, as in production; processes of another world are another run's.
fn is_ours(left: &str) -> bool {
    if let Some(process) = left.strip_prefix("process left behind: ") {
        return is_in_this_world(process.split(' ').next().unwrap_or_default());
    }
    !left.ends_with(&parent())
}

/// Ends what a failed test left, so that the next one finds the place empty.
fn remove_parents() {
    let layout = ferry_runtime::cgroup::Layout::detect().expect("cgroups");
    if let Ok(group) = ferry_runtime::cgroup::Group::open(&layout, &parent()) {
        let _ = group.kill();
        let _ = group.remove();
    }
    let trees = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups");
    for tree in trees.flatten() {
        let _ = std::fs::remove_dir(tree.path().join(parent()));
    }
    let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(parent()));
}

/// The engine's part.
pub struct Rig {
    dir: tempfile::TempDir,
    exec_root: PathBuf,
    launcher: Child,
    pub control: OwnedFd,
    made: u64,
}

/// One container as the engine sees it.
pub struct Container {
    pub id: String,
    pub runtime_dir: PathBuf,
    pub link: OwnedFd,
    pub stream: Option<UnixStream>,
    pub shim_pid: i32,
    pub log: PathBuf,
    pub upper: PathBuf,
    /// Where its exit is written.
    pub record: PathBuf,
    /// Frames seen.
    pub seen: Vec<FromShim>,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::Builder::new()
            .prefix("ferry-shim-test-")
            .tempdir()
            .expect("dir");
        base(&dir.path().join("base"));
        let exec_root = PathBuf::from("/run/ferry-test");
        std::fs::create_dir_all(exec_root.join("containers")).expect("exec root");
        let (launcher, control) = launch_launcher(&exec_root);
        Rig {
            dir,
            exec_root,
            launcher,
            control,
            made: 0,
        }
    }

    /// SIGKILL, and another one.
    pub fn replace_launcher(&mut self) {
        self.launcher.kill().expect("kill");
        self.launcher.wait().expect("wait");
        (self.launcher, self.control) = launch_launcher(&self.exec_root);
    }

    fn end(mut self) {
        drop(self.control);
        let until = Instant::now() + PATIENCE;
        while self.launcher.try_wait().expect("wait").is_none() {
            assert!(
                Instant::now() < until,
                "the launcher does not end when the engine hangs up"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A request for `args`, not attached, without a network.
    pub fn request(&mut self, args: &[&str]) -> LaunchRequest<EndpointPlan> {
        self.made += 1;
        let id = format!("c{}", self.made);
        let runtime_dir = self.exec_root.join("containers").join(&id);
        std::fs::create_dir_all(&runtime_dir).expect("runtime dir");
        // An overlay's upper directory may lie on tmpfs, and its world with it goes away.
        let state = Path::new("/run/ferry-test/state").join(&id);
        let (upper, work) = (state.join("fs"), state.join("work"));
        for made in [&upper, &work] {
            std::fs::create_dir_all(made).expect("upper");
        }
        LaunchRequest {
            spec: spec(&id, args),
            runtime_dir,
            user: String::new(),
            groups: Vec::new(),
            rootfs: Rootfs::Overlay {
                lowers: vec![self.dir.path().join("base")],
                upper,
                work,
                volatile: false,
            },
            binds: Vec::new(),
            seccomp: SeccompChoice::Default,
            log: Some(LogTarget {
                path: state.join(format!("{id}-json.log")),
                max_size: 0,
                max_file: 1,
                attrs: Vec::new(),
                non_blocking: false,
                max_buffer: 0,
            }),
            open_stdin: false,
            stdin_once: false,
            init: false,
            endpoints: Vec::new(),
            loopback: true,
            id,
        }
    }

    /// Sends it, without starting.
    pub fn launch(&mut self, request: &LaunchRequest<EndpointPlan>, attached: bool) -> Container {
        let memfd = transport::memfd("request", request).expect("memfd");
        let (link, theirs) = transport::pair().expect("pair");
        let (stream, other) = UnixStream::pair().expect("stream");
        let mut fds = vec![memfd.as_fd(), theirs.as_fd()];
        if attached {
            fds.push(other.as_fd());
        }
        let shim_pid = self.ask(
            &ToLauncher::Launch {
                token: self.made,
                attached,
            },
            &fds,
        );
        let upper = match &request.rootfs {
            Rootfs::Overlay { upper, .. } => upper.clone(),
            Rootfs::Directory(path) => path.clone(),
        };
        Container {
            id: request.id.clone(),
            runtime_dir: request.runtime_dir.clone(),
            link,
            stream: attached.then_some(stream),
            shim_pid,
            log: request
                .log
                .as_ref()
                .map(|log| log.path.clone())
                .unwrap_or_default(),
            upper,
            record: request.runtime_dir.join("exit.json"),
            seen: Vec::new(),
        }
    }

    /// Sends it and starts it, pipelined.
    pub fn run(&mut self, request: &LaunchRequest<EndpointPlan>, attached: bool) -> Container {
        let container = self.launch(request, attached);
        match transport::send_frame(&container.link, &ToShim::Start, &[]) {
            // A shim that failed at once has hung up; what it said can still be read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other.expect("say"),
        }
        container
    }

    /// An exec in a running container.
    pub fn exec_request(&mut self, container: &Container, args: &[&str], terminal: bool) -> ExecRequest {
        self.made += 1;
        let (pid, start_time) = container.process();
        let mut process: Process = serde_json::from_value(process(args)).expect("process");
        process.terminal = terminal;
        ExecRequest {
            id: format!("e{}", self.made),
            container_id: container.id.clone(),
            runtime_dir: container.runtime_dir.clone(),
            pid,
            start_time,
            process,
            user: String::new(),
            groups: Vec::new(),
            cgroup: format!("/{}/{}", parent(), container.id),
            seccomp: SeccompChoice::Default,
            profile: None,
            stdin: true,
            stdout: true,
            stderr: true,
            user_namespace: false,
        }
    }

    pub fn exec(&mut self, request: &ExecRequest, attached: bool) -> Container {
        let memfd = transport::memfd("exec", request).expect("memfd");
        let (link, theirs) = transport::pair().expect("pair");
        let (stream, other) = UnixStream::pair().expect("stream");
        let mut fds = vec![memfd.as_fd(), theirs.as_fd()];
        if attached {
            fds.push(other.as_fd());
        }
        let shim_pid = self.ask(
            &ToLauncher::Exec {
                token: self.made,
                attached,
            },
            &fds,
        );
        Container {
            id: request.id.clone(),
            runtime_dir: request.runtime_dir.clone(),
            link,
            stream: attached.then_some(stream),
            shim_pid,
            log: PathBuf::new(),
            upper: PathBuf::new(),
            record: request.runtime_dir.join(format!("execs/{}.json", request.id)),
            seen: Vec::new(),
        }
    }

    pub fn ask(&self, frame: &ToLauncher, fds: &[BorrowedFd<'_>]) -> i32 {
        transport::send_frame(&self.control, frame, fds).expect("ask the launcher");
        match recv(&self.control) {
            Some((FromLauncher::Forked { pid, .. }, _)) => pid,
            other => panic!("the launcher answered {other:?}"),
        }
    }
}

fn launch_launcher(exec_root: &Path) -> (Child, OwnedFd) {
    let (control, theirs) = transport::pair().expect("pair");
    // By its path: what `/proc/self/exe` leads to lies in the mount namespace that this world was made from.
    let launcher = Command::new(std::env::current_exe().expect("own path"))
        .arg("launcher")
        .arg(exec_root)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .expect("the launcher");
    match recv(&control) {
        Some((FromLauncher::Ready { pid, .. }, _)) => assert_eq!(pid, launcher.id().cast_signed()),
        other => panic!("the launcher said {other:?}"),
    }
    (launcher, control)
}

impl Container {
    pub fn say(&self, frame: &ToShim) {
        transport::send_frame(&self.link, frame, &[]).expect("say");
    }

    pub fn attach(&self, stdin: bool, stdout: bool, stderr: bool) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        transport::send_frame(
            &self.link,
            &ToShim::Attach {
                stdin,
                stdout,
                stderr,
            },
            &[theirs.as_fd()],
        )
        .expect("attach");
        ours
    }

    /// The next frame; `None` when the shim has hung up.
    pub fn next(&mut self) -> Option<FromShim> {
        let (frame, _) = recv::<FromShim>(&self.link)?;
        self.seen.push(frame.clone());
        Some(frame)
    }

    /// Frames up to the one that `pick` wants.
    pub fn until<T>(&mut self, what: &str, pick: impl Fn(&FromShim) -> Option<T>) -> T {
        loop {
            match self.next() {
                Some(frame) => {
                    if let Some(found) = pick(&frame) {
                        return found;
                    }
                }
                None => panic!("hung up before {what}; seen: {:?}", self.seen),
            }
        }
    }

    pub fn started(&mut self) -> i32 {
        self.until("Started", |frame| match frame {
            FromShim::Started { pid, .. } => Some(*pid),
            FromShim::Failed(failure) => panic!("failed: {failure:?}"),
            _ => None,
        })
    }

    pub fn failure(&mut self) -> Failure {
        self.until("Failed", |frame| match frame {
            FromShim::Failed(failure) => Some(failure.clone()),
            FromShim::Started { .. } => panic!("it started"),
            _ => None,
        })
    }

    pub fn exited(&mut self) -> ExitRecord {
        self.until("Exited", |frame| match frame {
            FromShim::Exited(record) => Some(record.clone()),
            FromShim::Failed(failure) => panic!("failed: {failure:?}"),
            _ => None,
        })
    }

    /// Waits for the exit, compares the record on disk, acknowledges, and waits for the shim's end. Returns the code.
    pub fn finish(&mut self) -> i32 {
        let record = self.exited();
        let written: ExitRecord =
            serde_json::from_slice(&std::fs::read(&self.record).expect("record")).expect("record");
        assert_eq!(written, record);
        self.acknowledge();
        record.code
    }

    pub fn acknowledge(&mut self) {
        self.say(&ToShim::Acknowledge);
        while self.next().is_some() {}
    }

    /// Another link over the socket, as a new engine makes it; also what it is greeted with.
    pub fn adopt(&mut self) -> ShimState {
        self.link = transport::connect(&self.runtime_dir.join("shim.sock")).expect("connect");
        match self.next() {
            Some(FromShim::Hello { state, .. }) => state,
            other => panic!("greeted with {other:?}"),
        }
    }

    /// Pid and start time of the first process, as the shim told.
    pub fn process(&self) -> (i32, u64) {
        let told = self.seen.iter().find_map(|frame| match frame {
            FromShim::Created { pid, start_time } => Some((*pid, *start_time)),
            _ => None,
        });
        told.expect("it was created")
    }

    pub fn kill(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.process().0).expect("pid");
        rustix::process::kill_process(pid, signal).expect("kill");
    }

    /// The log's entries: stream and text.
    pub fn log(&self) -> Vec<(String, String)> {
        entries(&self.log)
    }

    /// Everything that the attached client gets until its end.
    pub fn output(&mut self) -> Vec<u8> {
        read_all(self.stream.as_mut().expect("attached"))
    }
}

pub fn entries(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("one entry a line");
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        (field("stream"), field("log"))
    };
    text.lines().map(entry).collect()
}

pub fn read_all(stream: &mut UnixStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("read");
    all
}

/// Reads until `wanted` has come.
pub fn read_until(stream: &mut UnixStream, wanted: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&all).contains(wanted) {
        let read = stream
            .read(&mut buffer)
            .unwrap_or_else(|e| panic!("{e}; read so far {:?}", String::from_utf8_lossy(&all)));
        assert!(
            read > 0,
            "ended before {wanted:?}: {:?}",
            String::from_utf8_lossy(&all)
        );
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub fn write(stream: &mut UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("write");
}

/// stdcopy frames, joined by stream: standard output, standard error.
pub fn demultiplex(mut bytes: &[u8]) -> (String, String) {
    let mut parts = [Vec::new(), Vec::new()];
    while let [stream, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        parts[usize::from(*stream) - 1].extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:?}");
    let [out, err] = parts.map(|part| String::from_utf8_lossy(&part).into_owned());
    (out, err)
}

fn recv<T: serde::de::DeserializeOwned>(socket: &OwnedFd) -> Option<(T, Vec<OwnedFd>)> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: PATIENCE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    assert!(
        poll(&mut fds, Some(&timeout)).expect("poll") > 0,
        "no frame came in {PATIENCE:?}"
    );
    transport::recv_frame(socket).expect("receive")
}

/// A root file system of busybox alone.
fn base(path: &Path) {
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "root"] {
        std::fs::create_dir_all(path.join(dir)).expect("mkdir");
    }
    std::fs::copy("/bin/busybox", path.join("bin/busybox")).expect("busybox-static is installed");
    for applet in [
        "sh", "cat", "echo", "true", "sleep", "stty", "id", "seq", "head", "kill", "dd", "hostname", "ip",
        "ls", "tail", "nohup", "yes", "awk",
    ] {
        std::os::unix::fs::symlink("busybox", path.join("bin").join(applet)).expect("link");
    }
    std::fs::write(
        path.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
    )
    .expect("passwd");
    std::fs::write(path.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("group");
    std::fs::write(path.join("etc/not-executable"), "").expect("file");
}

fn process(args: &[&str]) -> Value {
    json!({
        "args": args, "cwd": "/", "user": {"uid": 0, "gid": 0},
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        "oomScoreAdj": 0,
    })
}

fn spec(id: &str, args: &[&str]) -> Spec {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    let spec = json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "hostname": id,
        "process": process(args),
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        ],
        "linux": {
            "cgroupsPath": format!("/{}/{id}", parent()),
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"],
        },
    });
    serde_json::from_value(spec).expect("spec")
}
