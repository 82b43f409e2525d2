//! The PORTS column: published and exposed ports, neighbours joined to ranges.

use crate::cli::output::json::Json;
use std::net::IpAddr;

struct Port {
    private: i64,
    public: i64,
    ip: Option<IpAddr>,
    kind: String,
}

/// `0.0.0.0:80->80/tcp, 443/tcp, 0.0.0.0:8080->80/tcp`
pub(crate) fn displayable(ports: &[Json]) -> String {
    let mut all: Vec<Port> = ports
        .iter()
        .map(|p| Port {
            private: p.int("PrivatePort"),
            public: p.int("PublicPort"),
            ip: p.text("IP").parse().ok(),
            kind: p.text("Type").to_owned(),
        })
        .collect();
    all.sort_by(|a, b| (a.private, a.ip, a.public, &a.kind).cmp(&(b.private, b.ip, b.public, &b.kind)));
    let (mut done, mut mapped) = (Vec::new(), Vec::new());
    // Open ranges in the order in which they began: address and protocol, first and last port.
    let mut open: Vec<((Option<IpAddr>, String), i64, i64)> = Vec::new();
    for port in all {
        if let Some(ip) = port.ip
            && port.public != port.private
        {
            mapped.push(format!(
                "{}->{}/{}",
                join(ip, &port.public.to_string()),
                port.private,
                port.kind
            ));
            continue;
        }
        let key = (port.ip, port.kind);
        match open.iter_mut().find(|(k, ..)| *k == key) {
            None => open.push((key, port.private, port.private)),
            Some((_, _, last)) if port.private == *last + 1 => *last = port.private,
            Some((k, first, last)) => {
                done.push(range(k, *first, *last));
                (*first, *last) = (port.private, port.private);
            }
        }
    }
    done.extend(open.iter().map(|(key, first, last)| range(key, *first, *last)));
    done.extend(mapped);
    done.join(", ")
}

fn range(key: &(Option<IpAddr>, String), first: i64, last: i64) -> String {
    let ports = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    match key.0 {
        Some(ip) => format!("{}->{ports}/{}", join(ip, &ports), key.1),
        None => format!("{ports}/{}", key.1),
    }
}

fn join(ip: IpAddr, port: &str) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_mappings() {
        for (ports, want) in [
            (r#"[]"#, ""),
            (r#"[{"PrivatePort":80,"Type":"tcp"}]"#, "80/tcp"),
            (
                r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":80,"Type":"tcp"}]"#,
                "0.0.0.0:80->80/tcp",
            ),
            (
                r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}]"#,
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                r#"[{"PrivatePort":81,"Type":"tcp"},{"PrivatePort":80,"Type":"tcp"},{"PrivatePort":90,"Type":"tcp"},{"PrivatePort":81,"Type":"udp"}]"#,
                "80-81/tcp, 90/tcp, 81/udp",
            ),
            (
                r#"[{"IP":"1.2.3.4","PrivatePort":8000,"PublicPort":8000,"Type":"tcp"},{"IP":"1.2.3.4","PrivatePort":8001,"PublicPort":8001,"Type":"tcp"}]"#,
                "1.2.3.4:8000-8001->8000-8001/tcp",
            ),
        ] {
            let json = Json::parse(format!("{{\"P\":{ports}}}").as_bytes()).expect("json");
            assert_eq!(displayable(json.list("P")), want, "{ports}");
        }
    }
}
