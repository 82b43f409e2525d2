//! Registry credentials: what `login` stores, what requests carry.
//!
//! Helpers are programs `docker-credential-NAME` that get `get`, `store`, `erase` as their argument and JSON or a
//! server's name on standard input.

use super::config::ConfigFile;
use super::failure::{Failure, Outcome};
use super::output::json::Json;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// The key under which credentials of the default registry are kept.
pub(crate) const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";

/// Who to be at a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The user.
    pub(crate) username: String,
    /// The password.
    pub(crate) password: String,
    /// A token in the place of a password.
    pub(crate) identity_token: String,
    /// A bearer token.
    pub(crate) registry_token: String,
    /// The server they are for.
    pub(crate) server: String,
}

impl Credentials {
    /// The API's form.
    pub(crate) fn json(&self) -> Value {
        let mut out = Map::new();
        for (key, value) in [
            ("username", &self.username),
            ("password", &self.password),
            ("serveraddress", &self.server),
            ("identitytoken", &self.identity_token),
            ("registrytoken", &self.registry_token),
        ] {
            if !value.is_empty() {
                out.insert(key.into(), json!(value));
            }
        }
        Value::Object(out)
    }

    /// The value of `X-Registry-Auth`: base64url of the JSON.
    pub(crate) fn header(&self) -> String {
        URL_SAFE.encode(self.json().to_string())
    }
}

/// The name under which a server's credentials are kept.
pub(crate) fn hostname(server: &str) -> &str {
    let rest = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    rest.split('/').next().unwrap_or(rest)
}

/// The key for a registry as references name it.
pub(crate) fn key_of(registry: &str) -> &str {
    if registry == "docker.io" {
        DEFAULT_SERVER
    } else {
        registry
    }
}

/// What is stored for a server; nothing is not an error.
pub(crate) fn lookup(config: &ConfigFile, server: &str) -> Outcome<Credentials> {
    if let Some(helper) = config.helper(server) {
        let answer = run_helper(helper, "get", server.as_bytes())?;
        let Some(answer) = answer else {
            return Ok(Credentials {
                server: server.into(),
                ..Credentials::default()
            });
        };
        let answer = Json::parse(&answer)?;
        let secret = answer.text("Secret").to_owned();
        let mut found = Credentials {
            server: server.into(),
            ..Credentials::default()
        };
        if answer.text("Username") == "<token>" {
            found.identity_token = secret;
        } else {
            found.username = answer.text("Username").to_owned();
            found.password = secret;
        }
        return Ok(found);
    }
    // Older clients kept full addresses as keys.
    let own = config.auth(server).map(|entry| (server.to_owned(), entry));
    let by_host = || {
        let key = config
            .registries()
            .into_iter()
            .find(|k| hostname(k) == hostname(server))?;
        config.auth(&key).map(|entry| (key, entry))
    };
    match own.or_else(by_host) {
        Some((key, entry)) => from_entry(&key, entry),
        None => Ok(Credentials {
            server: server.into(),
            ..Credentials::default()
        }),
    }
}

fn from_entry(server: &str, entry: &Json) -> Outcome<Credentials> {
    let mut found = Credentials {
        username: entry.text("username").to_owned(),
        password: entry.text("password").to_owned(),
        identity_token: entry.text("identitytoken").to_owned(),
        registry_token: entry.text("registrytoken").to_owned(),
        server: server.to_owned(),
    };
    if !entry.text("auth").is_empty() {
        let bad = || {
            Failure::text(format!(
                "invalid auth configuration file: the entry of {server} is not base64 of user:password"
            ))
        };
        let text = STANDARD
            .decode(entry.text("auth"))
            .ok()
            .and_then(|b| String::from_utf8(b).ok())
            .ok_or_else(bad)?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        found.username = user.to_owned();
        found.password = password.trim_end_matches('\0').to_owned();
    }
    Ok(found)
}

/// Keeps credentials, in the helper if there is one.
pub(crate) fn store(config: &mut ConfigFile, credentials: &Credentials) -> Outcome {
    let server = &credentials.server;
    if let Some(helper) = config.helper(server).map(str::to_owned) {
        let (user, secret) = if credentials.identity_token.is_empty() {
            (credentials.username.as_str(), &credentials.password)
        } else {
            ("<token>", &credentials.identity_token)
        };
        let input = json!({"ServerURL": server, "Username": user, "Secret": secret}).to_string();
        run_helper(&helper, "store", input.as_bytes())?;
        config.set_auth(server, Json::Object(Vec::new()));
        return config.save();
    }
    let auth = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
    let mut entry = vec![("auth".to_owned(), Json::String(auth))];
    if !credentials.identity_token.is_empty() {
        entry.push(("identitytoken".into(), credentials.identity_token.clone().into()));
    }
    config.set_auth(server, Json::Object(entry));
    config.save()?;
    eprintln!(
        "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
        config.path().display()
    );
    Ok(())
}

/// Forgets a server's credentials. Those that are not there are no error.
pub(crate) fn erase(config: &mut ConfigFile, server: &str) -> Outcome {
    if let Some(helper) = config.helper(server).map(str::to_owned) {
        run_helper(&helper, "erase", server.as_bytes())?;
    }
    if config.remove_auth(server) {
        config.save()?;
    }
    Ok(())
}

/// Runs a helper; `None` when it has nothing for the server.
fn run_helper(helper: &str, action: &str, input: &[u8]) -> Outcome<Option<Vec<u8>>> {
    let program = format!("docker-credential-{helper}");
    let failed = |why: String| Failure::text(format!("error getting credentials - err: {why}"));
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => failed(format!(
                "exec: \"{program}\": executable file not found in $PATH, out: ``"
            )),
            _ => failed(format!("{program}: {e}")),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input tells by its exit status what it made of that.
        let _ = stdin.write_all(input);
    }
    let output = child
        .wait_with_output()
        .map_err(|e| failed(format!("{program}: {e}")))?;
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if text == "credentials not found in native keychain" {
        return Ok(None);
    }
    Err(failed(format!("{}, out: `{text}`", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_headers() {
        let entry = Json::parse(br#"{"auth":"dXNlcjpwYTpzcw=="}"#).expect("json");
        let found = from_entry("host", &entry).expect("entry");
        assert_eq!(
            (found.username.as_str(), found.password.as_str()),
            ("user", "pa:ss")
        );
        assert_eq!(Credentials::default().header(), "e30=");
        let bad = Json::parse(br#"{"auth":"!"}"#).expect("json");
        assert!(from_entry("host", &bad).is_err());
        assert_eq!(hostname("https://host:5000/v2/"), "host:5000");
        assert_eq!(key_of("docker.io"), DEFAULT_SERVER);
    }
}
