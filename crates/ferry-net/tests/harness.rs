//! Private namespaces: a "host", sandboxes, and networks beside the host.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// How long anything in a test may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Runs a test on a thread that stands in a new network namespace, the "host", and a private mount namespace. Skipped, with
/// a word, without root.
pub fn on_private_host(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: making network namespaces needs root");
        return;
    }
    let body = move || {
        enter_new(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
        )
        .expect("make mounts private");
        ip("link set lo up");
        test();
    };
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

fn enter_new(flags: UnshareFlags) {
    // Threads of a test share no work with each other, so a thread that goes elsewhere confuses none. What the function is
    // deprecated for, an unshared file table, is not asked for.
    #[allow(deprecated)]
    rustix::thread::unshare(flags).expect("unshare");
    // Cables and bridges of a test do not wait a second to find out whether somebody has their link-local address.
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")
        .expect("set a knob of the new namespace");
}

/// A network namespace beside the calling thread's.
pub struct Netns(File);

impl Netns {
    /// A new one, its loopback down.
    pub fn new() -> Self {
        let file = thread::spawn(|| {
            enter_new(UnshareFlags::NEWNET);
            File::open("/proc/thread-self/ns/net").expect("open the new namespace")
        });
        Netns(file.join().expect("make a namespace"))
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Runs something inside, on a thread of its own.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(self.fd(), Some(LinkNameSpaceType::Network)).expect("enter");
                    act()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Connects it with the calling thread's namespace by a cable: here `link` with `here`, there `eth0` with `there`.
    pub fn cable(&self, link: &str, here: &str, there: &str) {
        ip(&format!("link add {link} type veth peer name {link}p"));
        // `ip` names namespaces by pid or path; the descriptor of this process will do.
        let pid = std::process::id();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&self.0);
        ip(&format!("link set {link}p netns /proc/{pid}/fd/{fd}"));
        ip(&format!("addr add {here} dev {link} nodad"));
        ip(&format!("link set {link} up"));
        self.run(|| {
            ip(&format!("link set {link}p name eth0"));
            ip(&format!("addr add {there} dev eth0 nodad"));
            ip("link set eth0 up");
            ip("link set lo up");
        });
    }
}

/// Runs `ip` in the calling thread's namespace.
pub fn ip(arguments: &str) {
    let output = run("ip", arguments);
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a program in the calling thread's namespace, its arguments split at spaces.
pub fn run(program: &str, arguments: &str) -> Output {
    Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .expect(program)
}

/// Whether an address answers to ping from the calling thread's namespace.
pub fn pings(address: &str) -> bool {
    run("busybox", &format!("ping -c 1 -W 1 {address}"))
        .status
        .success()
}

/// A server that sends the client's address to each client, in the namespace of the calling thread.
pub fn serve_tcp(address: &str) {
    let listener = TcpListener::bind(address).expect("listen");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().expect("peer");
            // A client that went away is its own business.
            let _ = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
}

/// The same over UDP.
pub fn serve_udp(address: &str) {
    let socket = UdpSocket::bind(address).expect("bind");
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

/// What the server at an address says, or why it says nothing.
pub fn ask_tcp(address: &str) -> Result<String, std::io::Error> {
    let address: SocketAddr = address.parse().expect("address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(700))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The same over UDP.
pub fn ask_udp(address: &str) -> Result<String, std::io::Error> {
    let target: SocketAddr = address.parse().expect("address");
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(700)))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
