//! A container's view into its row of a list.

use super::endpoint;
use super::inspect::{is_running, mount, networks, status};
use ferry_api::docker::container::{HealthSummary, Summary, SummaryHostConfig, SummaryNetworkSettings};
use ferry_api::docker::time::unix;
use ferry_engine::containers::view::{ContainerView, State, Status};
use ferry_oci::image::Descriptor;
use std::time::{Duration, SystemTime};

/// How long ago, as Docker says it.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (duration.as_secs_f64() / 3600.0 + 0.5) as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (s, ..) if s < 60 => format!("{s} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, m, _) if m < 60 => format!("{m} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, h) if h < 48 => format!("{h} hours"),
        (_, _, h) if h < 24 * 7 * 2 => format!("{} days", h / 24),
        (_, _, h) if h < 24 * 30 * 2 => format!("{} weeks", h / 24 / 7),
        (_, _, h) if h < 24 * 365 * 2 => format!("{} months", h / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

fn since(at: Option<SystemTime>, now: SystemTime) -> String {
    human(at.and_then(|at| now.duration_since(at).ok()).unwrap_or_default())
}

/// The sentence of `ps`.
pub fn sentence(state: &State, now: SystemTime) -> String {
    let code = state.exit_code;
    match state.status {
        Status::Paused => format!("Up {} (Paused)", since(state.started_at, now)),
        Status::Restarting => format!("Restarting ({code}) {} ago", since(state.finished_at, now)),
        Status::Running => {
            let health = match state.health.as_ref().map(|h| h.status.as_str()) {
                Some("starting") => " (health: starting)".into(),
                Some(status @ ("healthy" | "unhealthy")) => format!(" ({status})"),
                _ => String::new(),
            };
            format!("Up {}{health}", since(state.started_at, now))
        }
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Created => "Created".into(),
        Status::Exited if state.finished_at.is_none() => String::new(),
        Status::Exited => format!("Exited ({code}) {} ago", since(state.finished_at, now)),
    }
}

/// Program and arguments; those with blanks in quotes.
fn command(path: &str, args: &[String]) -> String {
    let mut text = path.to_owned();
    for arg in args {
        text.push(' ');
        if arg.contains(' ') {
            text.push_str(&format!("'{arg}'"));
        } else {
            text.push_str(arg);
        }
    }
    text
}

/// One row. `image` is how the image is called: its name while that still means it, else its id.
pub fn row(view: &ContainerView, image: String, manifest: Option<Descriptor>, now: SystemTime) -> Summary {
    let mut endpoints = networks(view);
    for endpoint in endpoints.values_mut() {
        endpoint.aliases = None;
        endpoint.links = None;
        endpoint.driver_opts = None;
        endpoint.gw_priority = 0;
        endpoint.dns_names = None;
    }
    let health = view.state.health.as_ref();
    Summary {
        id: view.id.clone(),
        names: vec![format!("/{}", view.name)],
        image,
        image_id: view.image.id.to_string(),
        image_manifest_descriptor: manifest,
        command: command(&view.path, &view.args),
        created: unix(view.created).0,
        ports: if is_running(view.state.status) {
            endpoint::port_rows(&view.ports)
        } else {
            Vec::new()
        },
        size_rw: view.size.map_or(0, |(own, _)| own),
        size_root_fs: view.size.map_or(0, |(_, all)| all),
        labels: view.spec.labels.clone(),
        state: status(view.state.status).into(),
        status: sentence(&view.state, now),
        host_config: SummaryHostConfig {
            network_mode: view.spec.network.mode_text.clone(),
            annotations: view.spec.annotations.clone(),
        },
        health: Some(HealthSummary {
            status: health.map_or_else(|| "none".into(), |h| h.status.clone()),
            failing_streak: health.map_or(0, |h| i64::from(h.failing_streak)),
        }),
        network_settings: SummaryNetworkSettings { networks: endpoints },
        mounts: view.mounts.iter().map(mount).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (49 * 3600, "2 days"),
            (15 * 86_400, "2 weeks"),
            (70 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ];
        for (seconds, want) in table {
            assert_eq!(human(Duration::from_secs(seconds)), want, "{seconds}");
        }
    }

    #[test]
    fn commands_are_quoted() {
        assert_eq!(command("sh", &["-c".into(), "exit 3".into()]), "sh -c 'exit 3'");
        assert_eq!(command("top", &[]), "top");
    }

    #[test]
    fn sentences_are_dockers() {
        let now = SystemTime::now();
        let mut state = State {
            started_at: Some(now),
            finished_at: Some(now),
            exit_code: 3,
            ..State::default()
        };
        for (status, want) in [
            (Status::Created, "Created"),
            (Status::Running, "Up Less than a second"),
            (Status::Paused, "Up Less than a second (Paused)"),
            (Status::Restarting, "Restarting (3) Less than a second ago"),
            (Status::Exited, "Exited (3) Less than a second ago"),
            (Status::Removing, "Removal In Progress"),
            (Status::Dead, "Dead"),
        ] {
            state.status = status;
            assert_eq!(sentence(&state, now), want);
        }
    }
}
