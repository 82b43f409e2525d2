//! Contexts: named endpoints, stored as docker stores them.
//!
//! `contexts/meta/<sha256 of the name>/meta.json` has the endpoint, `contexts/tls/<the same>/docker/{ca,cert,key}.pem`
//! its certificates.

use super::command::{Arity, Command};
use super::container::{FORMAT_HELP, INSPECT_FORMAT_HELP};
use super::failure::{Failure, Outcome};
use super::flags::{Flag, Matches, flag, switch};
use super::output::json::Json;
use super::output::listing::{self, Listing};
use super::output::{self, ellipsis};
use super::session::Session;
use crate::autostart;
use ferry_api::client::{Endpoint, TlsFiles};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The context that is always there.
pub(crate) const DEFAULT: &str = "default";

static LISTING: Listing = Listing {
    columns: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
    table: "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    raw: "",
    quiet: "{{.Name}}",
    kind: "formatter.clientContextContext",
};

static LS: [Flag; 2] = [
    flag("format", "string", FORMAT_HELP),
    switch("quiet", "Only show context names").short('q'),
];
static INSPECT: [Flag; 1] = [flag("format", "string", INSPECT_FORMAT_HELP).short('f')];
static CREATE: [Flag; 2] = [
    flag("description", "string", "Description of the context"),
    flag("docker", "stringToString", "set the docker endpoint"),
];
static RM: [Flag; 1] = [switch("force", "Force the removal of a context in use").short('f')];

/// Commands about contexts.
pub(crate) static COMMANDS: [Command; 6] = [
    Command::new(
        &["context ls", "context list"],
        "[OPTIONS]",
        "List contexts",
        Arity::None,
        ls,
    )
    .flags(&[&LS])
    .aliases("context ls, context list"),
    Command::new(
        &["context show"],
        "",
        "Print the name of the current context",
        Arity::None,
        show,
    ),
    Command::new(
        &["context use"],
        "CONTEXT",
        "Set the current docker context",
        Arity::Exact(1),
        use_context,
    ),
    Command::new(
        &["context inspect"],
        "[OPTIONS] [CONTEXT] [CONTEXT...]",
        "Display detailed information on one or more contexts",
        Arity::Min(0),
        inspect,
    )
    .flags(&[&INSPECT]),
    Command::new(
        &["context create"],
        "[OPTIONS] CONTEXT",
        "Create a context",
        Arity::Exact(1),
        create,
    )
    .flags(&[&CREATE]),
    Command::new(
        &["context rm", "context remove"],
        "CONTEXT [CONTEXT...]",
        "Remove one or more contexts",
        Arity::Min(1),
        rm,
    )
    .flags(&[&RM])
    .aliases("context rm, context remove"),
];

fn id(name: &str) -> String {
    Sha256::digest(name.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn meta_dir(config: &Path) -> PathBuf {
    config.join("contexts/meta")
}

fn load(config: &Path, name: &str) -> Outcome<Json> {
    let path = meta_dir(config).join(id(name)).join("meta.json");
    let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::text(format!(
            "context \"{name}\": context not found: open {}: no such file or directory",
            path.display()
        )),
        _ => Failure::text(format!("context \"{name}\": {}: {e}", path.display())),
    })?;
    Json::parse(&bytes).map_err(|e| Failure::text(format!("parsing {}: {e}", path.display())))
}

fn all(config: &Path) -> Outcome<Vec<Json>> {
    let Ok(entries) = std::fs::read_dir(meta_dir(config)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path().join("meta.json");
        if let Ok(bytes) = std::fs::read(&path) {
            found.push(
                Json::parse(&bytes).map_err(|e| Failure::text(format!("parsing {}: {e}", path.display())))?,
            );
        }
    }
    Ok(found)
}

/// The endpoint of a stored context.
pub(crate) fn endpoint(config: &Path, name: &str) -> Outcome<Endpoint> {
    let unresolved = |e: Failure| Failure::text(format!("unable to resolve docker endpoint: {}", e.message));
    let meta = load(config, name).map_err(unresolved)?;
    let docker = meta.at("Endpoints.docker");
    let host = docker.text("Host");
    if host.is_empty() {
        return Err(unresolved(Failure::text(
            "cannot find docker endpoint in context",
        )));
    }
    let dir = config.join("contexts/tls").join(id(name)).join("docker");
    let file = |name: &str| Some(dir.join(name)).filter(|p| p.exists());
    let skip = docker.is_true("SkipTLSVerify");
    let files = TlsFiles {
        ca: file("ca.pem"),
        cert: file("cert.pem"),
        key: file("key.pem"),
        verify: !skip,
    };
    let tls = (files.ca.is_some() || files.cert.is_some() || skip).then_some(files);
    parse_host(host, tls)
}

/// `unix://path`, `tcp://host:port`, `host:port`; an empty text is docker's default port on this machine.
pub(crate) fn parse_host(host: &str, tls: Option<TlsFiles>) -> Outcome<Endpoint> {
    let bad = || Failure::text(format!("invalid bind address format: {host}"));
    let trimmed = host.trim();
    let (scheme, rest) = match trimmed.split_once("://") {
        Some(pair) => pair,
        None => ("tcp", trimmed),
    };
    match scheme {
        "unix" => {
            let path = if rest.is_empty() { autostart::SOCKET } else { rest };
            Ok(Endpoint::Unix(path.into()))
        }
        "tcp" | "http" | "https" => {
            let rest = rest.split('/').next().unwrap_or(rest);
            let default_port = if tls.is_some() { 2376 } else { 2375 };
            let (name, port) = match rest.rsplit_once(':') {
                Some((name, port))
                    if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) =>
                {
                    let port = if port.is_empty() {
                        default_port
                    } else {
                        port.parse().map_err(|_| bad())?
                    };
                    (name, port)
                }
                _ => (rest, default_port),
            };
            let name = name.trim_start_matches('[').trim_end_matches(']');
            let host = if name.is_empty() {
                "localhost".to_owned()
            } else {
                name.to_owned()
            };
            Ok(match tls {
                Some(files) => Endpoint::Tls { host, port, files },
                None => Endpoint::Tcp { host, port },
            })
        }
        "ssh" | "npipe" | "fd" => Err(Failure::text(format!(
            "unsupported endpoint: {scheme}:// (Ferry connects to unix:// and tcp://)"
        ))),
        _ => Err(bad()),
    }
}

fn ls(session: &Session, m: &Matches) -> Outcome {
    let current = session.context_name();
    let mut rows = vec![row(
        DEFAULT,
        "Current DOCKER_HOST based configuration",
        &default_host(),
        current == DEFAULT,
        "",
    )];
    let contexts = all(&session.config_dir())?;
    for meta in &contexts {
        let name = meta.text("Name");
        rows.push(row(
            name,
            meta.text("Metadata.Description"),
            meta.text("Endpoints.docker.Host"),
            name == current,
            "",
        ));
    }
    if current != DEFAULT && !contexts.iter().any(|c| c.text("Name") == current) {
        let error = load(&session.config_dir(), &current)
            .err()
            .map(|e| e.message)
            .unwrap_or_default();
        rows.push(row(&current, "", "", true, &error));
    }
    rows.sort_by_key(|r| super::container::natural_key(r.text("Name")));
    output::print(&LISTING.render(&LISTING.template(m.get("format"), m.on("quiet")), &rows)?);
    warn_about_host("To use a context,");
    Ok(())
}

fn warn_about_host(start: &str) {
    if std::env::var("DOCKER_HOST").is_ok_and(|h| !h.is_empty()) {
        eprintln!(
            "Warning: DOCKER_HOST environment variable overrides the active context. {start} either set the global --context flag, or unset DOCKER_HOST environment variable."
        );
    }
}

fn default_host() -> String {
    match std::env::var("DOCKER_HOST") {
        Ok(host) if !host.is_empty() => host,
        _ => format!("unix://{}", autostart::SOCKET),
    }
}

fn row(name: &str, description: &str, endpoint: &str, current: bool, error: &str) -> Json {
    let mut row = listing::row(vec![
        ("Name", name.to_owned()),
        ("Description", description.to_owned()),
        ("DockerEndpoint", endpoint.to_owned()),
        ("Error", ellipsis(error, 45)),
    ]);
    if let Json::Object(entries) = &mut row {
        entries.insert(0, ("Current".into(), Json::Bool(current)));
    }
    row
}

fn show(session: &Session, _: &Matches) -> Outcome {
    output::line(&session.context_name());
    Ok(())
}

fn use_context(session: &Session, m: &Matches) -> Outcome {
    let name = m.arg(0);
    if name != DEFAULT {
        validate_name(name)?;
        load(&session.config_dir(), name)?;
    }
    let stored = if name == DEFAULT { "" } else { name };
    let mut config = super::config::ConfigFile::load(&session.config_dir())?;
    if config.current_context() != stored {
        config.set_context(stored);
        config.save()?;
    }
    output::line(name);
    eprintln!("Current context is now \"{name}\"");
    if name != DEFAULT {
        warn_about_host(&format!("To use \"{name}\","));
    }
    Ok(())
}

fn validate_name(name: &str) -> Outcome {
    if name == DEFAULT {
        return Err(Failure::text("\"default\" is a reserved context name"));
    }
    let good = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c));
    if good {
        return Ok(());
    }
    Err(Failure::text(format!(
        "context name \"{name}\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

fn inspect(session: &Session, m: &Matches) -> Outcome {
    let config = session.config_dir();
    let get = |name: &str| {
        let meta = if name == DEFAULT {
            default_meta()
        } else {
            load(&config, name)?
        };
        let Json::Object(mut entries) = meta else {
            return Err(Failure::text(format!("context \"{name}\" is not readable")));
        };
        entries.push(("TLSMaterial".into(), tls_material(&config, name)));
        let storage = |kind: &str| match name {
            DEFAULT => Json::from("<IN MEMORY>"),
            name => config
                .join("contexts")
                .join(kind)
                .join(id(name))
                .display()
                .to_string()
                .into(),
        };
        let storage = Json::Object(vec![
            ("MetadataPath".into(), storage("meta")),
            ("TLSPath".into(), storage("tls")),
        ]);
        entries.push(("Storage".into(), storage));
        Ok(Json::Object(entries))
    };
    if m.args.is_empty() {
        let mut one = m.clone();
        one.args = vec![session.context_name()];
        return super::container::inspect_one(&one, get);
    }
    super::container::inspect_one(m, get)
}

/// The names of a context's certificates and keys.
fn tls_material(config: &Path, name: &str) -> Json {
    let dir = config.join("contexts/tls").join(id(name)).join("docker");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .map(|all| {
            all.flatten()
                .map(|f| f.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    if files.is_empty() {
        return Json::Object(Vec::new());
    }
    files.sort();
    Json::Object(vec![(
        "docker".into(),
        Json::Array(files.into_iter().map(Json::from).collect()),
    )])
}

fn default_meta() -> Json {
    let endpoint = Json::Object(vec![
        ("Host".into(), default_host().into()),
        ("SkipTLSVerify".into(), Json::Bool(false)),
    ]);
    Json::Object(vec![
        ("Name".into(), DEFAULT.into()),
        ("Metadata".into(), Json::Object(Vec::new())),
        (
            "Endpoints".into(),
            Json::Object(vec![("docker".into(), endpoint)]),
        ),
    ])
}

fn create(session: &Session, m: &Matches) -> Outcome {
    let name = m.arg(0);
    validate_name(name)?;
    let config = session.config_dir();
    let dir = meta_dir(&config).join(id(name));
    if dir.exists() {
        return Err(Failure::text(format!("context \"{name}\" already exists")));
    }
    let (mut host, mut skip) = (String::new(), false);
    let mut files = Vec::new();
    for pair in m.all("docker").iter().flat_map(|v| v.split(',')) {
        match pair.split_once('=') {
            Some(("host", value)) => value.clone_into(&mut host),
            Some(("skip-tls-verify", value)) => skip = value == "true",
            Some((key @ ("ca" | "cert" | "key"), value)) => {
                files.push((format!("{key}.pem"), PathBuf::from(value)))
            }
            _ => {
                return Err(Failure::text(format!(
                    "unable to create docker endpoint config: unrecognized config key: {pair}"
                )));
            }
        }
    }
    if host.is_empty() {
        return Err(Failure::text("docker endpoint configuration is required"));
    }
    parse_host(&host, None)?;
    let tls = config.join("contexts/tls").join(id(name)).join("docker");
    for (target, source) in files {
        std::fs::create_dir_all(&tls)?;
        std::fs::copy(&source, tls.join(target))
            .map_err(|e| Failure::text(format!("{}: {e}", source.display())))?;
    }
    let endpoint = Json::Object(vec![
        ("Host".into(), host.into()),
        ("SkipTLSVerify".into(), Json::Bool(skip)),
    ]);
    let mut metadata = Vec::new();
    if m.changed("description") {
        metadata.push(("Description".to_owned(), m.get("description").into()));
    }
    let meta = Json::Object(vec![
        ("Name".into(), name.into()),
        ("Metadata".into(), Json::Object(metadata)),
        (
            "Endpoints".into(),
            Json::Object(vec![("docker".into(), endpoint)]),
        ),
    ]);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("meta.json"), meta.compact())?;
    output::line(name);
    eprintln!("Successfully created context \"{name}\"");
    Ok(())
}

fn rm(session: &Session, m: &Matches) -> Outcome {
    let config = session.config_dir();
    let mut errors = Vec::new();
    for name in &m.args {
        match remove(session, &config, name, m.on("force")) {
            Ok(()) => output::line(name),
            Err(error) => errors.push(error.message),
        }
    }
    super::container::join(errors)
}

fn remove(session: &Session, config: &Path, name: &str, force: bool) -> Outcome {
    if name == DEFAULT {
        return Err(Failure::text("default: context \"default\" cannot be removed"));
    }
    load(config, name)?;
    if session.context_name() == name {
        if !force {
            return Err(Failure::text(format!(
                "{name}: context \"{name}\" is in use, set -f flag to force remove"
            )));
        }
        let mut file = super::config::ConfigFile::load(config)?;
        file.set_context("");
        file.save()?;
    }
    std::fs::remove_dir_all(meta_dir(config).join(id(name)))?;
    match std::fs::remove_dir_all(config.join("contexts/tls").join(id(name))) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let tcp = |host: &str, port| Endpoint::Tcp {
            host: host.into(),
            port,
        };
        for (text, want) in [
            ("unix:///x.sock", Endpoint::Unix("/x.sock".into())),
            ("tcp://h:1", tcp("h", 1)),
            ("h:1", tcp("h", 1)),
            ("tcp://h", tcp("h", 2375)),
            ("tcp://[::1]:99", tcp("::1", 99)),
            ("tcp://:99", tcp("localhost", 99)),
            ("", tcp("localhost", 2375)),
        ] {
            assert_eq!(parse_host(text, None).expect(text), want, "{text}");
        }
        assert_eq!(
            parse_host("ssh://u@h", None).unwrap_err().message,
            "unsupported endpoint: ssh:// (Ferry connects to unix:// and tcp://)"
        );
        assert!(parse_host("gopher://h", None).is_err());
        assert_eq!(id("x").len(), 64);
    }
}
