//! How the passport looks.

use super::facts::{Facts, Mount};
use std::fmt::Write;

/// Marks and their colours.
struct Paint(bool);

impl Paint {
    fn title(&self, text: &str) -> String {
        self.wrap("1;36", text)
    }
    fn good(&self, text: &str) -> String {
        self.wrap("32", text)
    }
    fn warn(&self, text: &str) -> String {
        self.wrap("33", text)
    }
    fn faint(&self, text: &str) -> String {
        self.wrap("2", text)
    }
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The whole page.
pub(super) fn render(f: &Facts, colours: bool) -> String {
    let paint = Paint(colours);
    let mut out = String::new();
    let mut put = |text: String| out.push_str(&text);
    put(format!(
        "\n{}\n\n",
        paint.title("Hello from a container. This is its passport.")
    ));
    put(process(f, &paint));
    put(namespaces(f, &paint));
    put(limits(f, &paint));
    put(mounts(&f.mounts, &paint));
    put(addresses(f, &paint));
    put(format!(
        "{}\n",
        paint.faint(
            "Run it again with --net host, --pid host, -m 64m, --cap-drop ALL or --read-only, and compare."
        )
    ));
    out
}

fn process(f: &Facts, paint: &Paint) -> String {
    let mut out = format!("{}\n", paint.title("Process"));
    let capabilities = match f.capabilities.len() {
        0 => "none".to_owned(),
        n => format!("{n}: {}", f.capabilities.join(" ").to_lowercase()),
    };
    for (name, value) in [
        (
            "pid",
            if f.pid == 1 {
                "1 (the first process of its own world)".to_owned()
            } else {
                f.pid.to_string()
            },
        ),
        ("hostname", f.hostname.clone()),
        ("user", f.user.clone()),
        ("system calls", f.seccomp.to_owned()),
        (
            "new privileges",
            if f.no_new_privileges {
                "forbidden".into()
            } else {
                "by setuid programs".to_owned()
            },
        ),
    ] {
        line(&mut out, &format!("  {name:<16}{value}"));
    }
    for (index, part) in fold(&capabilities, 62).into_iter().enumerate() {
        let name = if index == 0 { "capabilities" } else { "" };
        line(&mut out, &format!("  {name:<16}{part}"));
    }
    out + "\n"
}

fn namespaces(f: &Facts, paint: &Paint) -> String {
    let mut out = format!("{}\n", paint.title("Namespaces"));
    line(
        &mut out,
        &paint.faint(&format!("  {:<10}{:<14}{:<14}", "", "here", "host")),
    );
    for n in &f.namespaces {
        let (host, mark) = match () {
            () if n.here.is_empty() => ("-", paint.faint("not offered by this kernel")),
            () if n.host.is_empty() => ("unknown", paint.faint("unknown")),
            () if n.here == n.host => (n.host.as_str(), paint.warn("shared")),
            () => (n.host.as_str(), paint.good("isolated")),
        };
        line(
            &mut out,
            &format!("  {:<10}{:<14}{host:<14}{mark}", n.name, n.here),
        );
    }
    out + "\n"
}

fn limits(f: &Facts, paint: &Paint) -> String {
    let mut out = format!("{}\n", paint.title("Limits"));
    for (name, value) in &f.limits {
        let mark = match value.as_str() {
            "unlimited" => paint.warn("shared"),
            "unknown" => paint.faint("unknown"),
            _ => paint.good("its own"),
        };
        line(&mut out, &format!("  {name:<16}{value:<24}{mark}"));
    }
    out + "\n"
}

fn mounts(all: &[Mount], paint: &Paint) -> String {
    let mut out = format!("{}\n", paint.title("Mounts"));
    for m in all {
        let access = if m.read_only {
            paint.good("read-only")
        } else {
            paint.faint("writable")
        };
        line(&mut out, &format!("  {:<34}{:<12}{access}", m.place, m.kind));
    }
    out + "\n"
}

fn addresses(f: &Facts, paint: &Paint) -> String {
    let shared = f
        .namespaces
        .iter()
        .any(|n| n.name == "net" && !n.here.is_empty() && n.here == n.host);
    let mark = if shared {
        paint.warn("shared with the host")
    } else {
        paint.good("its own")
    };
    let mut out = format!("{} {mark}\n", paint.title("Addresses"));
    for address in &f.addresses {
        line(&mut out, &format!("  {address}"));
    }
    if f.addresses.is_empty() {
        line(&mut out, "  none");
    }
    out + "\n"
}

fn line(out: &mut String, text: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Words in lines of at most `width`.
fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if let Some(last) = lines.last_mut() {
            if !last.is_empty() && last.len() + 1 + word.len() > width {
                lines.push(word.to_owned());
            } else {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(word);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::facts::Namespace;
    use super::*;

    #[test]
    fn isolation_is_told_and_colours_are_optional() {
        let ns = |name, here: &str, host: &str| Namespace {
            name,
            here: here.into(),
            host: host.into(),
        };
        let facts = Facts {
            pid: 1,
            hostname: "box".into(),
            user: "0:0 (root)".into(),
            capabilities: vec!["CHOWN".into()],
            no_new_privileges: false,
            seccomp: "filtered",
            namespaces: vec![
                ns("pid", "2", "1"),
                ns("net", "7", "7"),
                ns("time", "", "1"),
                ns("user", "3", ""),
            ],
            limits: vec![("memory", "unlimited".into())],
            mounts: vec![Mount {
                place: "/".into(),
                kind: "overlay".into(),
                read_only: true,
            }],
            addresses: vec!["127.0.0.1".into()],
        };
        let page = render(&facts, false);
        for want in [
            "  pid       2             1             isolated\n",
            "  net       7             7             shared\n",
            "  time                    -             not offered by this kernel\n",
            "  user      3             unknown       unknown\n",
            "  capabilities    1: chown\n",
            "Addresses shared with the host\n  127.0.0.1\n",
        ] {
            assert!(page.contains(want), "{want:?} in\n{page}");
        }
        assert!(!page.contains('\x1b'));
        assert!(render(&facts, true).contains("\x1b[32misolated"));
    }
}
