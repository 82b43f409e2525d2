//! The event bus: what happened, in order, to whoever listens.
//!
//! The last [`KEPT`] events stay in memory for `since`. A subscription sees each event once and in the order of
//! publication, past ones first. A subscriber that falls more than `LAG` behind loses the oldest; nobody waits for it.

use crate::{Error, Result};
use futures_util::stream::{self, Stream};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::sync::broadcast;

/// How many events are kept.
pub const KEPT: usize = 256;
/// How far a subscriber may be behind.
const LAG: usize = 4096;
/// Filter keys that Docker knows.
const KEYS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `volume`, `network` or `daemon`.
    pub kind: &'static str,
    /// `start`, `die`, `exec_create: sh -c true`, …
    pub action: String,
    /// The object's id or name.
    pub id: String,
    /// What is known of it.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: SystemTime,
}

/// The bus; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    ring: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Events {
    /// An empty bus.
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(LAG);
        Self {
            shared: Arc::new(Shared {
                ring: Mutex::new(VecDeque::with_capacity(KEPT)),
                live,
            }),
        }
    }

    /// Tells everybody.
    pub fn publish(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let mut ring = self.ring();
        let mut at = SystemTime::now();
        if let Some(last) = ring.back() {
            at = at.max(last.at);
        }
        let event = Arc::new(Event {
            kind,
            action: action.into(),
            id: id.into(),
            attributes,
            at,
        });
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        // Fails only when nobody listens, which is no failure.
        let _ = self.shared.live.send(event);
    }

    /// How many listen, for `info`.
    pub fn listeners(&self) -> usize {
        self.shared.live.receiver_count()
    }

    /// The events that match: those kept since `since` (none when absent and there is no `until` in the past), then what comes,
    /// until `until`.
    ///
    /// # Errors
    /// [`crate::Kind::Invalid`] for an unknown filter key.
    pub fn subscribe(
        &self,
        since: Option<SystemTime>,
        until: Option<SystemTime>,
        filters: BTreeMap<String, Vec<String>>,
    ) -> Result<EventStream> {
        let matcher = Matcher::new(filters)?;
        let ring = self.ring();
        let past: VecDeque<Arc<Event>> = match (since, until) {
            (None, None) => VecDeque::new(),
            _ => ring
                .iter()
                .filter(|e| since.is_none_or(|s| e.at >= s) && until.is_none_or(|u| e.at <= u))
                .filter(|e| matcher.matches(e))
                .cloned()
                .collect(),
        };
        let live = until
            .is_none_or(|u| u > SystemTime::now())
            .then(|| self.shared.live.subscribe());
        drop(ring);
        let source = Source {
            past,
            live,
            until,
            matcher,
        };
        Ok(EventStream {
            inner: Box::pin(stream::unfold(source, Source::next)),
        })
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription.
pub struct EventStream {
    inner: Pin<Box<dyn Stream<Item = Event> + Send>>,
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.inner.as_mut().poll_next(cx)
    }
}

struct Source {
    past: VecDeque<Arc<Event>>,
    live: Option<broadcast::Receiver<Arc<Event>>>,
    until: Option<SystemTime>,
    matcher: Matcher,
}

impl Source {
    async fn next(mut self) -> Option<(Event, Self)> {
        if let Some(event) = self.past.pop_front() {
            return Some((Event::clone(&event), self));
        }
        loop {
            let live = self.live.as_mut()?;
            let received = match self.until {
                None => live.recv().await,
                Some(until) => {
                    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                    tokio::time::timeout(left, live.recv()).await.ok()?
                }
            };
            match received {
                Ok(event) if self.until.is_some_and(|u| event.at > u) => return None,
                Ok(event) if self.matcher.matches(&event) => return Some((Event::clone(&event), self)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "a client of the events is too slow and lost some");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Docker's event filters.
struct Matcher {
    filters: BTreeMap<String, Vec<String>>,
}

impl Matcher {
    fn new(filters: BTreeMap<String, Vec<String>>) -> Result<Self> {
        match filters.keys().find(|k| !KEYS.contains(&k.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(Self { filters }),
        }
    }

    fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.filters
            .get(key)
            .is_none_or(|values| values.is_empty() || values.iter().any(|v| test(v)))
    }

    fn matches(&self, event: &Event) -> bool {
        let name = event.attributes.get("name").map_or("", String::as_str);
        let named = |key: &str| {
            self.any(key, |v| {
                event.kind == key && (event.id.starts_with(v) || name.trim_start_matches('/').starts_with(v))
            })
        };
        self.any("type", |v| v == event.kind)
            && self.any("scope", |v| v == "local")
            && self.any("event", |v| action_matches(&event.action, v))
            && [
                "container",
                "volume",
                "network",
                "daemon",
                "plugin",
                "service",
                "node",
                "secret",
                "config",
            ]
            .into_iter()
            .all(named)
            && self.image(event)
            && self.labels(event)
    }

    /// Those of images, and those of containers that were made from them.
    fn image(&self, event: &Event) -> bool {
        let attribute = if event.kind == "image" { "name" } else { "image" };
        let image = event.attributes.get(attribute).map_or("", String::as_str);
        self.any("image", |v| {
            let untagged = |s: &str| untag(s) == v;
            event.id == v || image == v || untagged(&event.id) || untagged(image)
        })
    }

    /// Every one of them has to match.
    fn labels(&self, event: &Event) -> bool {
        self.filters.get("label").is_none_or(|wanted| {
            wanted.iter().all(|w| match w.split_once('=') {
                Some((key, value)) => event.attributes.get(key).is_some_and(|have| have == value),
                None => event.attributes.contains_key(w),
            })
        })
    }
}

/// These actions carry more behind their name.
fn action_matches(action: &str, wanted: &str) -> bool {
    let open = ["health_status", "exec_create", "exec_start"].contains(&wanted);
    if open {
        action.starts_with(wanted)
    } else {
        action == wanted
    }
}

fn untag(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((head, tag)) if !tag.contains('/') => head,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use std::time::Duration;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    fn filters(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), vec![(*v).into()]))
            .collect()
    }

    #[tokio::test]
    async fn past_then_live_then_the_end() {
        let bus = Events::new();
        let begin = SystemTime::now();
        for n in 0..300 {
            bus.publish("container", "start", n.to_string(), BTreeMap::new());
        }
        let until = SystemTime::now() + Duration::from_millis(200);
        let stream = bus.subscribe(Some(begin), Some(until), BTreeMap::new()).unwrap();
        bus.publish("container", "die", "x", BTreeMap::new());
        let got: Vec<Event> = stream.collect().await;
        assert_eq!(got.len(), KEPT + 1);
        assert_eq!((got[0].id.as_str(), got[KEPT].action.as_str()), ("44", "die"));
    }

    #[test]
    fn filters_are_dockers() {
        let event = Event {
            kind: "container",
            action: "exec_create: sh".into(),
            id: "abcdef".into(),
            attributes: attributes(&[("name", "web"), ("image", "busybox:1"), ("tier", "front")]),
            at: SystemTime::now(),
        };
        let cases = [
            (vec![], true),
            (vec![("type", "container")], true),
            (vec![("type", "image")], false),
            (vec![("event", "exec_create")], true),
            (vec![("event", "exec_start")], false),
            (vec![("container", "abc")], true),
            (vec![("container", "web")], true),
            (vec![("container", "db")], false),
            (vec![("image", "busybox")], true),
            (vec![("image", "busybox:1")], true),
            (vec![("image", "busy")], false),
            (vec![("label", "tier=front")], true),
            (vec![("label", "tier")], true),
            (vec![("label", "tier=back")], false),
            (vec![("scope", "swarm")], false),
        ];
        for (pairs, want) in cases {
            assert_eq!(
                Matcher::new(filters(&pairs)).unwrap().matches(&event),
                want,
                "{pairs:?}"
            );
        }
        let error = Events::new()
            .subscribe(None, None, filters(&[("nonsense", "x")]))
            .err()
            .unwrap();
        assert_eq!(error.to_string(), "invalid filter 'nonsense'");
    }
}
