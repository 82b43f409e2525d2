//! Docker's `config.json`: credentials, helpers, formats, the current context. What Ferry does not know stays in it.

use super::failure::{Failure, Outcome};
use super::output::json::Json;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// `$DOCKER_CONFIG`, or `.docker` in the home directory.
pub(crate) fn default_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()) {
        return dir.into();
    }
    let home = std::env::var_os("HOME")
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| "/root".into());
    PathBuf::from(home).join(".docker")
}

/// The file's contents.
pub(crate) struct ConfigFile {
    path: PathBuf,
    json: Json,
}

impl ConfigFile {
    /// Reads `config.json` of this directory.
    pub(crate) fn load(dir: &Path) -> Result<Self, String> {
        let path = dir.join("config.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::empty(dir)),
            Err(e) => return Err(format!("Error loading config file: {}: {e}", path.display())),
        };
        let json: Json = serde_json::from_slice(&bytes)
            .map_err(|e| format!("Error parsing config file ({}): {e}", path.display()))?;
        Ok(ConfigFile { path, json })
    }

    /// No configuration.
    pub(crate) fn empty(dir: &Path) -> Self {
        ConfigFile {
            path: dir.join("config.json"),
            json: Json::Object(Vec::new()),
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The context that `context use` chose.
    pub(crate) fn current_context(&self) -> &str {
        self.json.text("currentContext")
    }

    /// The key sequence that leaves an attached terminal.
    pub(crate) fn detach_keys(&self) -> &str {
        self.json.text("detachKeys")
    }

    /// A default for `--format`: `psFormat`, `imagesFormat` and so on.
    pub(crate) fn format(&self, key: &str) -> &str {
        self.json.text(key)
    }

    /// Headers for every request.
    pub(crate) fn http_headers(&self) -> Vec<(String, String)> {
        let entries = self.json.entries("HttpHeaders").iter();
        entries.map(|(k, v)| (k.clone(), v.as_str().to_owned())).collect()
    }

    /// The stored entry of a registry.
    pub(crate) fn auth(&self, registry: &str) -> Option<&Json> {
        self.json.get("auths").and_then(|a| a.get(registry))
    }

    /// Every registry with an entry.
    pub(crate) fn registries(&self) -> Vec<String> {
        self.json
            .entries("auths")
            .iter()
            .map(|(k, _)| k.clone())
            .collect()
    }

    /// The credential helper of a registry: its own, else the general one.
    pub(crate) fn helper(&self, registry: &str) -> Option<&str> {
        let own = self
            .json
            .get("credHelpers")
            .and_then(|h| h.get(registry))
            .map(Json::as_str);
        own.or_else(|| self.json.get("credsStore").map(Json::as_str))
            .filter(|h| !h.is_empty())
    }

    /// Proxy variables for new containers (`proxies`), those of `host` first, else the default ones.
    pub(crate) fn proxies(&self, host: &str) -> BTreeMap<String, String> {
        let names = [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        let proxies = self.json.get("proxies");
        let chosen = proxies.and_then(|p| p.get(host).or_else(|| p.get("default")));
        let mut variables = BTreeMap::new();
        for (key, name) in names {
            let value = chosen.map_or("", |c| c.text(key));
            if !value.is_empty() {
                variables.insert(name.to_owned(), value.to_owned());
                variables.insert(name.to_lowercase(), value.to_owned());
            }
        }
        variables
    }

    /// Stores a registry's entry.
    pub(crate) fn set_auth(&mut self, registry: &str, entry: Json) {
        let auths = entry_mut(&mut self.json, "auths");
        match auths.iter_mut().find(|(k, _)| k == registry) {
            Some((_, value)) => *value = entry,
            None => auths.push((registry.to_owned(), entry)),
        }
    }

    /// Forgets a registry's entry; says whether there was one.
    pub(crate) fn remove_auth(&mut self, registry: &str) -> bool {
        let auths = entry_mut(&mut self.json, "auths");
        let before = auths.len();
        auths.retain(|(k, _)| k != registry);
        before != auths.len()
    }

    /// Chooses a context; an empty name is the default one.
    pub(crate) fn set_context(&mut self, name: &str) {
        if let Json::Object(entries) = &mut self.json {
            entries.retain(|(k, _)| k != "currentContext");
            if !name.is_empty() {
                entries.push(("currentContext".into(), name.into()));
            }
        }
    }

    /// Writes it back, whole or not at all, readable by its owner only.
    pub(crate) fn save(&self) -> Outcome {
        let failed =
            |e: std::io::Error| Failure::text(format!("could not write {}: {e}", self.path.display()));
        // A symbolic link stays one: the file that it names is replaced.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let staged = dir.join(format!(".config.json.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged)
            .map_err(failed)?;
        file.write_all(self.json.indented("\t").as_bytes())
            .map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&staged, &target).map_err(failed)
    }
}

fn entry_mut<'a>(json: &'a mut Json, key: &str) -> &'a mut Vec<(String, Json)> {
    if !matches!(json, Json::Object(_)) {
        *json = Json::Object(Vec::new());
    }
    let Json::Object(entries) = json else {
        unreachable!("made an object above")
    };
    if !entries
        .iter()
        .any(|(k, v)| k == key && matches!(v, Json::Object(_)))
    {
        entries.retain(|(k, _)| k != key);
        entries.push((key.to_owned(), Json::Object(Vec::new())));
    }
    let found = entries.iter_mut().find(|(k, _)| k == key);
    let Some((_, Json::Object(members))) = found else {
        unreachable!("made an object above")
    };
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_survives_a_change() {
        let dir = std::env::temp_dir().join(format!("ferry-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("dir");
        std::fs::write(
            dir.join("config.json"),
            r#"{"plugins":{"x":{"y":"1"}},"auths":{"a.example":{"auth":"dTpw"}},"credHelpers":{"h.example":"pass"},"proxies":{"default":{"httpProxy":"http://p"}}}"#,
        )
        .expect("write");
        let mut config = ConfigFile::load(&dir).expect("load");
        assert_eq!(config.helper("h.example"), Some("pass"));
        assert_eq!(config.helper("a.example"), None);
        assert_eq!(
            config.proxies("x").get("http_proxy").map(String::as_str),
            Some("http://p")
        );
        config.set_auth("b.example", Json::Object(vec![("auth".into(), "eDp5".into())]));
        assert!(config.remove_auth("a.example"));
        config.set_context("far");
        config.save().expect("save");
        let again = ConfigFile::load(&dir).expect("load");
        assert_eq!(again.registries(), ["b.example"]);
        assert_eq!(again.current_context(), "far");
        assert_eq!(again.json.text("plugins.x.y"), "1");
        std::fs::remove_dir_all(&dir).expect("clean up");
    }
}
