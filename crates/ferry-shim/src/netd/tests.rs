//! netd as its engine sees it, in a network namespace of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ferry_shim_proto::netd::{FromNetd, HostPort, NetdFailure, Proto, ToNetd};
use ferry_shim_proto::transport;
use rustix::net::sockopt;
use rustix::thread::UnshareFlags;

/// Runs a test on a thread in a network namespace of its own, with its loopback up.
fn alone(test: impl FnOnce(&Path) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: making network namespaces needs root");
        return;
    }
    let body = move || {
        // What the function is deprecated for, an unshared file table, is not asked for.
        #[allow(deprecated)]
        rustix::thread::unshare(UnshareFlags::NEWNET).expect("unshare");
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .expect("ip");
        assert!(up.success());
        let dir = tempfile::tempdir().expect("dir");
        test(dir.path());
    };
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A running netd and a link to it.
struct Running {
    link: OwnedFd,
    thread: JoinHandle<std::io::Result<()>>,
    path: PathBuf,
}

fn start(dir: &Path, name: &str) -> Running {
    let (link, control) = transport::pair().expect("pair");
    sockopt::set_socket_timeout(&link, sockopt::Timeout::Recv, Some(Duration::from_secs(5)))
        .expect("timeout");
    let path = dir.join(name);
    let socket = path.clone();
    let thread = thread::spawn(move || super::run(control, &socket));
    hello(&link);
    Running { link, thread, path }
}

fn hello(link: &OwnedFd) {
    let (frame, _) = transport::recv_frame::<FromNetd>(link)
        .expect("receive")
        .expect("hello");
    assert!(matches!(frame, FromNetd::Hello { version: 1, .. }), "{frame:?}");
}

fn ask(link: &OwnedFd, frame: &ToNetd) -> FromNetd {
    transport::send_frame(link, frame, &[]).expect("send");
    transport::recv_frame(link).expect("receive").expect("answer").0
}

fn reserve(
    link: &OwnedFd,
    proto: Proto,
    ips: &[&str],
    first: u16,
    last: u16,
) -> Result<u16, (NetdFailure, String)> {
    let ips = ips.iter().map(|ip| ip.parse().expect("address")).collect();
    match ask(
        link,
        &ToNetd::Reserve {
            token: 1,
            proto,
            ips,
            first,
            last,
        },
    ) {
        FromNetd::Reserved { token: 1, port } => Ok(port),
        FromNetd::Failed {
            token: 1,
            kind,
            message,
        } => Err((kind, message)),
        other => panic!("{other:?}"),
    }
}

fn done(link: &OwnedFd, frame: &ToNetd) {
    let answer = ask(link, frame);
    assert!(matches!(answer, FromNetd::Done { .. }), "{answer:?}");
}

fn port(proto: Proto, ip: &str, port: u16) -> HostPort {
    HostPort {
        proto,
        ip: ip.parse().expect("address"),
        port,
    }
}

fn stop(running: Running) {
    done(&running.link, &ToNetd::Stop { token: 9 });
    running.thread.join().expect("join").expect("run");
}

/// Answers each connection with what it was sent, once the client has no more, and a full stop.
fn echo_tcp(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("listen");
    let local = listener.local_addr().expect("address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            thread::spawn(move || {
                let mut bytes = Vec::new();
                if stream.read_to_end(&mut bytes).is_ok() {
                    bytes.push(b'.');
                    // The client may have gone.
                    let _ = stream.write_all(&bytes);
                }
            });
        }
    });
    local
}

fn echo(address: &str, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut writer = stream.try_clone()?;
    let to_send = bytes.to_vec();
    let sender = thread::spawn(move || {
        writer
            .write_all(&to_send)
            .and_then(|()| writer.shutdown(Shutdown::Write))
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    sender.join().expect("join")?;
    Ok(answer)
}

#[test]
fn a_reserved_port_is_nobody_elses() {
    alone(|dir| {
        let running = start(dir, "netd.sock");
        let link = &running.link;
        assert_eq!(
            reserve(link, Proto::Tcp, &["0.0.0.0", "::"], 8080, 8080),
            Ok(8080)
        );
        assert_eq!(
            TcpListener::bind("0.0.0.0:8080").expect_err("taken").kind(),
            std::io::ErrorKind::AddrInUse
        );
        assert_eq!(
            TcpListener::bind("[::1]:8080").expect_err("taken").kind(),
            std::io::ErrorKind::AddrInUse
        );
        let refused = TcpStream::connect("127.0.0.1:8080")
            .expect_err("bound, not listening")
            .kind();
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
        let (kind, message) = reserve(link, Proto::Tcp, &["0.0.0.0"], 8080, 8080).expect_err("allocated");
        assert_eq!(
            (kind, message.as_str()),
            (
                NetdFailure::Allocated,
                "Bind for 0.0.0.0:8080 failed: port is already allocated"
            )
        );
        let (_, message) = reserve(link, Proto::Tcp, &["127.0.0.1"], 8080, 8080).expect_err("covered");
        assert_eq!(message, "Bind for 0.0.0.0:8080 failed: port is already allocated");
        assert_eq!(
            reserve(link, Proto::Udp, &["0.0.0.0"], 8080, 8080),
            Ok(8080),
            "another protocol"
        );
        assert!(UdpSocket::bind("0.0.0.0:8080").is_err());
        let both = vec![
            port(Proto::Tcp, "0.0.0.0", 8080),
            port(Proto::Tcp, "::", 8080),
            port(Proto::Tcp, "::", 1),
        ];
        done(
            link,
            &ToNetd::Release {
                token: 2,
                ports: both,
            },
        );
        drop(TcpListener::bind("0.0.0.0:8080").expect("free again"));
        stop(running);
    });
}

#[test]
fn others_ports_are_told_in_dockers_words() {
    alone(|dir| {
        let running = start(dir, "netd.sock");
        let link = &running.link;
        let _other = TcpListener::bind("0.0.0.0:8080").expect("listen");
        let (kind, message) = reserve(link, Proto::Tcp, &["0.0.0.0"], 8080, 8080).expect_err("in use");
        assert_eq!(kind, NetdFailure::InUse);
        assert_eq!(
            message,
            "failed to bind host port 0.0.0.0:8080/tcp: address already in use"
        );
        let (kind, message) = reserve(link, Proto::Udp, &["203.0.113.9"], 53, 53).expect_err("not ours");
        assert_eq!(kind, NetdFailure::NoSuchAddress);
        assert_eq!(
            message,
            "failed to bind host port 203.0.113.9:53/udp: cannot assign requested address"
        );
        assert_eq!(
            reserve(link, Proto::Tcp, &["0.0.0.0"], 8080, 8082),
            Ok(8081),
            "a range goes on"
        );
        assert_eq!(reserve(link, Proto::Tcp, &["0.0.0.0"], 8080, 8082), Ok(8082));
        let (kind, message) = reserve(link, Proto::Tcp, &["0.0.0.0"], 8080, 8082).expect_err("full");
        assert_eq!(
            (kind, message.as_str()),
            (NetdFailure::Exhausted, "all ports are allocated")
        );
        let first = reserve(link, Proto::Tcp, &["0.0.0.0", "::"], 0, 0).expect("automatic");
        let second = reserve(link, Proto::Tcp, &["0.0.0.0", "::"], 0, 0).expect("automatic");
        assert_eq!(second, first + 1);
        assert!(
            reserve(link, Proto::Tcp, &[], 1, 1).is_err()
                && reserve(link, Proto::Tcp, &["::"], 9, 8).is_err()
        );
        // A failure on the second address lets the first one go.
        let _six = TcpListener::bind("[::1]:7000").expect("listen");
        assert!(reserve(link, Proto::Tcp, &["0.0.0.0", "::"], 7000, 7000).is_err());
        drop(TcpListener::bind("0.0.0.0:7000").expect("free"));
        stop(running);
    });
}

#[test]
fn tcp_is_relayed_both_ways_whole() {
    alone(|dir| {
        let running = start(dir, "netd.sock");
        let link = &running.link;
        let target = echo_tcp("127.0.0.1:0");
        assert_eq!(reserve(link, Proto::Tcp, &["::"], 8080, 8080), Ok(8080));
        let relayed = port(Proto::Tcp, "::", 8080);
        done(
            link,
            &ToNetd::Relay {
                token: 2,
                port: relayed,
                target: Some(target),
            },
        );
        assert_eq!(echo("[::1]:8080", b"hello").expect("echo"), b"hello.");
        let much: Vec<u8> = (0..5_000_000u32).map(|number| (number % 251) as u8).collect();
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let much = much.clone();
                // A thread stays in the namespace of the one that made it.
                thread::spawn(move || {
                    let answer = echo("[::1]:8080", &much).expect("echo");
                    assert!(answer.len() == much.len() + 1 && answer[..much.len()] == much);
                })
            })
            .collect();
        for client in clients {
            client.join().expect("client");
        }
        done(
            link,
            &ToNetd::Relay {
                token: 3,
                port: relayed,
                target: None,
            },
        );
        assert!(TcpStream::connect("[::1]:8080").is_err(), "no longer");
        assert!(TcpListener::bind("[::]:8080").is_err(), "but still reserved");
        done(
            link,
            &ToNetd::Relay {
                token: 4,
                port: relayed,
                target: Some(target),
            },
        );
        assert_eq!(echo("[::1]:8080", b"again").expect("echo"), b"again.");
        done(
            link,
            &ToNetd::Release {
                token: 5,
                ports: vec![relayed],
            },
        );
        assert_eq!(
            reserve(link, Proto::Tcp, &["::"], 8080, 8080),
            Ok(8080),
            "although connections linger"
        );
        let nowhere: SocketAddr = "127.0.0.1:1".parse().expect("address");
        done(
            link,
            &ToNetd::Relay {
                token: 6,
                port: relayed,
                target: Some(nowhere),
            },
        );
        assert!(
            echo("[::1]:8080", b"x").is_err_and(|_| true)
                || echo("[::1]:8080", b"").expect("closed").is_empty()
        );
        stop(running);
    });
}

#[test]
fn udp_is_relayed_to_each_client() {
    alone(|dir| {
        let running = start(dir, "netd.sock");
        let link = &running.link;
        let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let target = server.local_addr().expect("address");
        thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok((length, client)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(&buffer[..length], client);
            }
        });
        assert_eq!(reserve(link, Proto::Udp, &["::"], 5353, 5353), Ok(5353));
        let relayed = port(Proto::Udp, "::", 5353);
        done(
            link,
            &ToNetd::Relay {
                token: 2,
                port: relayed,
                target: Some(target),
            },
        );
        let clients: Vec<UdpSocket> = (0..3)
            .map(|_| {
                let client = UdpSocket::bind("[::1]:0").expect("bind");
                client.connect("[::1]:5353").expect("connect");
                client
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .expect("timeout");
                client
            })
            .collect();
        for (number, client) in clients.iter().enumerate() {
            client.send(&[number as u8; 1200]).expect("send");
        }
        for (number, client) in clients.iter().enumerate() {
            let mut buffer = [0; 2000];
            let length = client.recv(&mut buffer).expect("receive");
            assert_eq!(buffer[..length], [number as u8; 1200]);
        }
        stop(running);
    });
}

#[test]
fn it_outlives_its_engine_and_hands_over() {
    alone(|dir| {
        let Running {
            link,
            thread: old_thread,
            path,
        } = start(dir, "netd.sock");
        let target = echo_tcp("127.0.0.1:0");
        assert_eq!(
            reserve(&link, Proto::Tcp, &["0.0.0.0", "::"], 8080, 8080),
            Ok(8080)
        );
        let (four, six) = (port(Proto::Tcp, "0.0.0.0", 8080), port(Proto::Tcp, "::", 8080));
        done(
            &link,
            &ToNetd::Relay {
                token: 2,
                port: six,
                target: Some(target),
            },
        );
        drop(link);

        let link = transport::connect(&path).expect("a new engine connects");
        hello(&link);
        transport::send_frame(&link, &ToNetd::List { token: 3 }, &[]).expect("send");
        let mut frames = Vec::new();
        for _ in 0..3 {
            frames.push(
                transport::recv_frame::<FromNetd>(&link)
                    .expect("receive")
                    .expect("frame")
                    .0,
            );
        }
        let held = |port, target| FromNetd::Held {
            token: 3,
            port,
            target,
        };
        assert_eq!(
            frames,
            [
                held(four, None),
                held(six, Some(target)),
                FromNetd::Done { token: 3 }
            ]
        );

        // A connection of the predecessor goes on while the successor has the ports.
        let mut lasting = TcpStream::connect("[::1]:8080").expect("connect");
        lasting.write_all(b"lasting").expect("write");
        thread::sleep(Duration::from_millis(50));
        let successor = start(dir, "netd.sock");
        transport::send_frame(&link, &ToNetd::Handover { token: 4 }, &[]).expect("send");
        for _ in 0..2 {
            let (frame, fds) = transport::recv_frame::<FromNetd>(&link)
                .expect("receive")
                .expect("frame");
            let FromNetd::Held { port, target, .. } = frame else {
                panic!("{frame:?}")
            };
            let fds: Vec<_> = fds.iter().map(std::os::fd::AsFd::as_fd).collect();
            transport::send_frame(
                &successor.link,
                &ToNetd::Adopt {
                    token: 5,
                    port,
                    target,
                },
                &fds,
            )
            .expect("send");
            let answer = transport::recv_frame::<FromNetd>(&successor.link)
                .expect("receive")
                .expect("answer")
                .0;
            assert_eq!(answer, FromNetd::Done { token: 5 });
        }
        let last = transport::recv_frame::<FromNetd>(&link)
            .expect("receive")
            .expect("frame")
            .0;
        assert_eq!(last, FromNetd::Done { token: 4 });
        assert_eq!(echo("[::1]:8080", b"new").expect("echo"), b"new.");
        assert!(TcpListener::bind("0.0.0.0:8080").is_err());
        lasting.shutdown(Shutdown::Write).expect("shutdown");
        let mut text = String::new();
        lasting.read_to_string(&mut text).expect("read");
        assert_eq!(text, "lasting.");
        old_thread.join().expect("join").expect("the predecessor ends");
        assert!(successor.path.exists(), "the successor's socket stays");
        stop(successor);
    });
}

#[test]
fn holding_nothing_and_alone_it_ends() {
    alone(|dir| {
        let running = start(dir, "netd.sock");
        let link = &running.link;
        let ips: Vec<IpAddr> = vec!["0.0.0.0".parse().expect("address")];
        ask(
            link,
            &ToNetd::Reserve {
                token: 1,
                proto: Proto::Tcp,
                ips,
                first: 80,
                last: 80,
            },
        );
        done(
            link,
            &ToNetd::Release {
                token: 2,
                ports: vec![port(Proto::Tcp, "0.0.0.0", 80)],
            },
        );
        let answer = ask(
            link,
            &ToNetd::Relay {
                token: 3,
                port: port(Proto::Tcp, "0.0.0.0", 80),
                target: None,
            },
        );
        assert!(
            matches!(
                answer,
                FromNetd::Failed {
                    kind: NetdFailure::Invalid,
                    ..
                }
            ),
            "{answer:?}"
        );
        drop(running.link);
        running.thread.join().expect("join").expect("run");
        assert!(!running.path.exists());
    });
}
