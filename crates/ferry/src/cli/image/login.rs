//! `login` and `logout`.

use crate::cli::config::ConfigFile;
use crate::cli::credentials::{self, Credentials, DEFAULT_SERVER};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::flags::Matches;
use crate::cli::output;
use crate::cli::session::Session;
use ferry_api::client::Request;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Read};

/// `login`
pub(super) fn login(session: &Session, m: &Matches) -> Outcome {
    check_flags(m)?;
    let server = match m.arg(0) {
        "" | "docker.io" => DEFAULT_SERVER.to_owned(),
        server => credentials::hostname(server).to_owned(),
    };
    let password = password(m)?;
    let mut given = Credentials {
        username: m.get("username").trim().to_owned(),
        password,
        server: server.clone(),
        ..Credentials::default()
    };
    if given.username.is_empty() && given.password.is_empty() {
        let stored = credentials::lookup(session.config(), &server)?;
        if !stored.username.is_empty() && !stored.password.is_empty() {
            eprintln!(
                "Authenticating with existing credentials... [Username: {}]\n",
                stored.username
            );
            eprintln!(
                "i Info → To login with a different account, run '{} logout' followed by '{} login'\n\n",
                session.program, session.program
            );
            match authenticate(session, stored) {
                Ok(()) => return Ok(()),
                Err(error) => eprintln!("Login did not succeed, error: {}", error.message),
            }
        }
    }
    if given.username.is_empty() || given.password.is_empty() {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::text(
                "Error: Cannot perform an interactive login from a non TTY device",
            ));
        }
        ask(&mut given)?;
    }
    authenticate(session, given)
}

fn check_flags(m: &Matches) -> Outcome {
    if m.on("password-stdin") || m.get("password") == "-" {
        if m.changed("password") && m.get("password") != "-" {
            return Err(Failure::text(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if !m.changed("username") {
            return Err(Failure::text(
                "the --password-stdin option requires --username to be set",
            ));
        }
    }
    if m.changed("username") && m.get("username").is_empty() {
        return Err(Failure::text("username is empty"));
    }
    if m.changed("password") && m.get("password").is_empty() {
        return Err(Failure::text("password is empty"));
    }
    Ok(())
}

fn password(m: &Matches) -> Outcome<String> {
    if !m.on("password-stdin") && m.get("password") != "-" {
        if m.changed("password") {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        return Ok(m.get("password").to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let text = ["\r\n", "\n", "\r"]
        .iter()
        .find_map(|end| text.strip_suffix(end))
        .unwrap_or(&text);
    if text.trim().is_empty() {
        return Err(Failure::text("password is empty"));
    }
    Ok(text.to_owned())
}

fn ask(given: &mut Credentials) -> Outcome {
    let read = || -> Outcome<String> {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    if given.username.is_empty() {
        output::print("Username: ");
        given.username = read()?.trim().to_owned();
        if given.username.is_empty() {
            return Err(Failure::text("error: username is required"));
        }
    }
    if given.password.is_empty() {
        output::print("Password: ");
        let stdin = std::io::stdin();
        let old = tcgetattr(&stdin).map_err(std::io::Error::from)?;
        let mut quiet = old.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &quiet).map_err(std::io::Error::from)?;
        let answer = read();
        tcsetattr(&stdin, OptionalActions::Now, &old).map_err(std::io::Error::from)?;
        output::line("");
        given.password = answer?;
        if given.password.is_empty() {
            return Err(Failure::text("error: password is required"));
        }
    }
    Ok(())
}

/// Asks the registry through the engine, and keeps what it accepted.
fn authenticate(session: &Session, mut credentials: Credentials) -> Outcome {
    let answer = session.json(Request::post("/auth").json(&credentials.json()))?;
    let token = answer.text("IdentityToken");
    if !token.is_empty() {
        credentials.password.clear();
        token.clone_into(&mut credentials.identity_token);
    }
    let mut config = ConfigFile::load(&session.config_dir())?;
    credentials::store(&mut config, &credentials)
        .map_err(|e| Failure::text(format!("Error saving credentials: {}", e.message)))?;
    if !answer.text("Status").is_empty() {
        output::line(answer.text("Status"));
    }
    Ok(())
}

/// `logout`
pub(super) fn logout(session: &Session, m: &Matches) -> Outcome {
    let server = m.arg(0);
    let host = credentials::hostname(server);
    let (shown, keys) = match server {
        "" => (DEFAULT_SERVER, vec![DEFAULT_SERVER.to_owned()]),
        server => (
            host,
            vec![
                server.to_owned(),
                host.to_owned(),
                format!("http://{host}"),
                format!("https://{host}"),
            ],
        ),
    };
    output::line(&format!("Removing login credentials for {shown}"));
    let mut config = ConfigFile::load(&session.config_dir())?;
    let errors: Vec<String> = keys
        .iter()
        .filter_map(|key| {
            credentials::erase(&mut config, key)
                .err()
                .map(|e| format!("{key}: {}", e.message))
        })
        .collect();
    if errors.len() == keys.len() {
        eprintln!("WARNING: could not erase credentials:\n{}", errors.join("\n"));
    }
    Ok(())
}
