//! Host names to addresses without the C library, whose static form would load the host's own modules.
//!
//! `/etc/hosts` first, then the name servers of `/etc/resolv.conf` over UDP (2 s each), and TCP where an answer is cut.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, TYPE};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const PATIENCE: Duration = Duration::from_secs(2);

/// The connector's resolver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver;

impl tower_service::Service<hyper_util::client::legacy::connect::dns::Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: hyper_util::client::legacy::connect::dns::Name) -> Self::Future {
        Box::pin(async move {
            let found = lookup(name.as_str()).await?;
            Ok(found
                .into_iter()
                .map(|ip| SocketAddr::new(ip, 0))
                .collect::<Vec<_>>()
                .into_iter())
        })
    }
}

/// Every address of `host`.
async fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![ip]);
    }
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let mut found = in_hosts(&hosts, host);
    if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let resolv = tokio::fs::read_to_string("/etc/resolv.conf")
        .await
        .unwrap_or_default();
    let servers = name_servers(&resolv);
    if servers.is_empty() {
        return Err(io::Error::other(format!(
            "no address for {host} in /etc/hosts and no name server in /etc/resolv.conf"
        )));
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("no such host: {host}"));
    for server in servers {
        let (v4, v6) = tokio::join!(ask(server, host, TYPE::A), ask(server, host, TYPE::AAAA));
        match (v4, v6) {
            (Ok(mut v4), v6) => {
                v4.extend(v6.unwrap_or_default());
                if !v4.is_empty() {
                    return Ok(v4);
                }
            }
            (Err(_), Ok(v6)) if !v6.is_empty() => return Ok(v6),
            (Err(error), _) => {
                last = io::Error::new(error.kind(), format!("looking up {host} at {server}: {error}"))
            }
        }
    }
    Err(last)
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let ip = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(ip)
        })
        .collect()
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .take(3)
        .collect()
}

async fn ask(server: SocketAddr, host: &str, kind: TYPE) -> io::Result<Vec<IpAddr>> {
    let invalid = |e: simple_dns::SimpleDnsError| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
    let id = u16::try_from(rand_id() & 0xffff).unwrap_or_default();
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(host).map_err(invalid)?.into_owned(),
        QTYPE::TYPE(kind),
        CLASS::IN.into(),
        false,
    ));
    let query = packet.build_bytes_vec().map_err(invalid)?;
    let answer = tokio::time::timeout(PATIENCE, exchange(server, &query, id))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let parsed = Packet::parse(&answer).map_err(invalid)?;
    Ok(parsed
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(a) => Some(IpAddr::V4(Ipv4Addr::from(a.address))),
            RData::AAAA(a) => Some(IpAddr::V6(Ipv6Addr::from(a.address))),
            _ => None,
        })
        .collect())
}

fn rand_id() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

async fn exchange(server: SocketAddr, query: &[u8], id: u16) -> io::Result<Vec<u8>> {
    let local: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let n = socket.recv(&mut buffer).await?;
        if n >= 12 && buffer[..2] == id.to_be_bytes() {
            let truncated = buffer[2] & 2 != 0;
            buffer.truncate(n);
            return if truncated {
                over_tcp(server, query).await
            } else {
                Ok(buffer)
            };
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream
        .write_all(&[&length.to_be_bytes()[..], query].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_servers_are_read() {
        assert_eq!(in_hosts("# x\n10.0.0.1 a b # c\n::1 b\n", "B").len(), 2);
        assert_eq!(in_hosts("10.0.0.1 a # b\n", "b").len(), 0);
        assert_eq!(
            name_servers("search x\nnameserver 127.0.0.53\nnameserver bad\n").len(),
            1
        );
    }

    #[tokio::test]
    async fn addresses_need_no_lookup() {
        assert_eq!(lookup("127.0.0.1").await.unwrap(), [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(lookup("[::1]").await.unwrap().len(), 1);
    }
}
