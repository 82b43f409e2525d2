//! One invocation: its global options, the user's configuration, and the connection made when it is first needed.

use super::config::ConfigFile;
use super::context;
use super::failure::{Failure, Outcome};
use super::flags::{Flag, Matches, flag, switch};
use crate::autostart;
use ferry_api::client::{Client, Endpoint, Request};
use std::cell::OnceCell;
use std::path::PathBuf;

/// The API version that is asked for: the one whose answers have the shapes that the docker commands in use today
/// print, so that scripts see the same fields. An older engine's own newest is taken instead.
pub(crate) const API_VERSION: &str = "1.50";

/// Options before the command's word.
pub(crate) static GLOBAL_FLAGS: [Flag; 11] = [
    flag("config", "string", "Location of client config files"),
    flag(
        "context",
        "string",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with \"docker context use\")",
    )
    .short('c'),
    switch("debug", "Enable debug mode").short('D'),
    flag("host", "list", "Daemon socket to connect to").short('H'),
    flag("log-level", "string", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")")
        .short('l')
        .default("info")
        .check(log_level),
    switch("tls", "Use TLS; implied by --tlsverify"),
    flag("tlscacert", "string", "Trust certs signed only by this CA"),
    flag("tlscert", "string", "Path to TLS certificate file"),
    flag("tlskey", "string", "Path to TLS key file"),
    switch("tlsverify", "Use TLS and verify the remote"),
    switch("version", "Print version information and quit").short('v'),
];

fn log_level(text: &str) -> Result<String, String> {
    match text {
        "debug" | "info" | "warn" | "error" | "fatal" => Ok(text.to_owned()),
        other => Err(format!("unable to parse logging level: {other}")),
    }
}

/// The state of one invocation.
pub(crate) struct Session {
    /// The name the program goes by: `ferry`, or `docker` when called so.
    pub(crate) program: &'static str,
    globals: Matches,
    config: OnceCell<ConfigFile>,
    client: OnceCell<Client>,
}

impl Session {
    /// Starts with parsed global options. Reads nothing yet.
    pub(crate) fn new(program: &'static str, globals: Matches) -> Outcome<Self> {
        if globals.changed("host") && globals.changed("context") {
            return Err(Failure::text(
                "conflicting options: cannot specify both --host and --context",
            ));
        }
        Ok(Session {
            program,
            globals,
            config: OnceCell::new(),
            client: OnceCell::new(),
        })
    }

    /// Whether a global switch is on.
    pub(crate) fn global_on(&self, long: &str) -> bool {
        self.globals.on(long)
    }

    /// The directory of `config.json` and of the contexts.
    pub(crate) fn config_dir(&self) -> PathBuf {
        match self.globals.get("config") {
            "" => super::config::default_dir(),
            dir => dir.into(),
        }
    }

    /// The user's `config.json`; an absent one is empty.
    pub(crate) fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| {
            ConfigFile::load(&self.config_dir()).unwrap_or_else(|why| {
                eprintln!("WARNING: {why}");
                ConfigFile::empty(&self.config_dir())
            })
        })
    }

    /// The name of the context in force.
    pub(crate) fn context_name(&self) -> String {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        if !self.globals.get("context").is_empty() {
            return self.globals.get("context").to_owned();
        }
        if self.globals.changed("host") || set("DOCKER_HOST").is_some() {
            return context::DEFAULT.to_owned();
        }
        set("DOCKER_CONTEXT")
            .or_else(|| Some(self.config().current_context().to_owned()).filter(|c| !c.is_empty()))
            .unwrap_or_else(|| context::DEFAULT.to_owned())
    }

    /// Where the engine is, and whether it is the default place, where a missing engine is started.
    pub(crate) fn endpoint(&self) -> Outcome<(Endpoint, bool)> {
        let name = self.context_name();
        if name != context::DEFAULT {
            return Ok((context::endpoint(&self.config_dir(), &name)?, false));
        }
        let hosts = self.globals.all("host");
        let host = match hosts.as_slice() {
            [] => std::env::var("DOCKER_HOST").unwrap_or_default(),
            [one] => (*one).to_owned(),
            _ => return Err(Failure::text("Specify only one -H")),
        };
        if host.trim().is_empty() && !self.uses_tls() {
            return Ok((Endpoint::Unix(autostart::SOCKET.into()), true));
        }
        Ok((context::parse_host(&host, self.tls())?, false))
    }

    fn uses_tls(&self) -> bool {
        self.globals.on("tls") || self.verifies()
    }

    fn verifies(&self) -> bool {
        let set = |name: &str| std::env::var(name).is_ok_and(|v| !v.is_empty());
        if self.globals.changed("tlsverify") {
            self.globals.on("tlsverify")
        } else {
            set("DOCKER_TLS_VERIFY")
        }
    }

    fn tls(&self) -> Option<ferry_api::client::TlsFiles> {
        if !self.uses_tls() {
            return None;
        }
        let dir = std::env::var("DOCKER_CERT_PATH").map_or_else(|_| self.config_dir(), PathBuf::from);
        let file = |option: &str, name: &str| match self.globals.get(option) {
            "" => Some(dir.join(name)).filter(|p| p.exists()),
            path => Some(path.into()),
        };
        Some(ferry_api::client::TlsFiles {
            ca: file("tlscacert", "ca.pem"),
            cert: file("tlscert", "cert.pem"),
            key: file("tlskey", "key.pem"),
            verify: self.verifies(),
        })
    }

    /// The client. At the default place a missing engine is started first.
    pub(crate) fn client(&self) -> Outcome<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let (endpoint, default_place) = self.endpoint()?;
        let mut client = Client::new(endpoint);
        if default_place {
            client = client.with_connection(Box::new(autostart::connect()?));
        }
        let version = std::env::var("DOCKER_API_VERSION").unwrap_or_default();
        let version = version.trim_start_matches('v');
        client = client.with_version(if version.is_empty() { API_VERSION } else { version });
        for (name, value) in self.config().http_headers() {
            client = client.with_header(&name, &value);
        }
        Ok(self.client.get_or_init(|| client))
    }

    /// Sends a request and reads the JSON answer in its order.
    pub(crate) fn json(&self, request: Request) -> Outcome<super::output::json::Json> {
        let bytes = self.client()?.send(request)?.bytes()?;
        Ok(super::output::json::Json::parse(&bytes)?)
    }

    /// Sends a request and drops the answer.
    pub(crate) fn call(&self, request: Request) -> Outcome {
        self.client()?.send(request)?.bytes()?;
        Ok(())
    }
}
