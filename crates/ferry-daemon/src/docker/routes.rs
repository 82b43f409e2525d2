//! The table of everything that is served, and how a path finds its row.
//!
//! A pattern's `{name}` stands for one segment, `{name*}` for one or more: image names have slashes. The first row that matches wins.

use super::answer::Answer;
use super::error::Result;
use super::extract::Call;
use super::{attach, containers, events, execs, images, networks, plugins, stats, system, volumes};
use futures_util::future::BoxFuture;
use hyper::Method;

/// What answers a row.
pub type Handler = fn(Call) -> BoxFuture<'static, Result<Answer>>;

/// One row.
pub struct Route {
    /// Method.
    pub method: Method,
    /// Pattern without a version.
    pub pattern: &'static str,
    /// What answers.
    pub handler: Handler,
}

macro_rules! routes {
    ($($method:ident $pattern:literal => $handler:path,)*) => {
        vec![$(Route { method: Method::$method, pattern: $pattern, handler: |call| Box::pin($handler(call)) }),*]
    };
}

/// Every row.
pub fn table() -> Vec<Route> {
    let mut rows = routes! {
        HEAD "/_ping" => system::ping,
        GET "/_ping" => system::ping,
        GET "/version" => system::version,
        GET "/info" => system::info,
        GET "/events" => events::events,
        GET "/system/df" => system::disk_usage,
        POST "/auth" => system::auth,
        GET "/containers/json" => containers::list,
        POST "/containers/create" => containers::create,
        POST "/containers/prune" => containers::prune,
        GET "/containers/{id}/json" => containers::inspect,
        GET "/containers/{id}/top" => containers::top,
        GET "/containers/{id}/changes" => containers::changes,
        GET "/containers/{id}/stats" => stats::stats,
        GET "/containers/{id}/logs" => attach::logs,
        GET "/containers/{id}/export" => containers::export,
        GET "/containers/{id}/attach/ws" => attach::websocket,
        GET "/containers/{id}/archive" => containers::archive,
        HEAD "/containers/{id}/archive" => containers::archive,
        PUT "/containers/{id}/archive" => containers::archive,
        GET "/containers/{id}/checkpoints" => containers::checkpoint,
        POST "/containers/{id}/checkpoints" => containers::checkpoint,
        POST "/containers/{id}/start" => containers::start,
        POST "/containers/{id}/stop" => containers::stop,
        POST "/containers/{id}/restart" => containers::restart,
        POST "/containers/{id}/kill" => containers::kill,
        POST "/containers/{id}/pause" => containers::pause,
        POST "/containers/{id}/unpause" => containers::unpause,
        POST "/containers/{id}/rename" => containers::rename,
        POST "/containers/{id}/update" => containers::update,
        POST "/containers/{id}/resize" => containers::resize,
        POST "/containers/{id}/wait" => containers::wait,
        POST "/containers/{id}/attach" => attach::attach,
        POST "/containers/{id}/exec" => execs::create,
        DELETE "/containers/{id}" => containers::remove,
        POST "/exec/{id}/start" => execs::start,
        POST "/exec/{id}/resize" => execs::resize,
        GET "/exec/{id}/json" => execs::inspect,
        POST "/commit" => images::commit,
    };
    rows.extend(objects());
    rows
}

fn objects() -> Vec<Route> {
    let mut rows = routes! {
        GET "/images/json" => images::list,
        GET "/images/search" => images::search,
        GET "/images/get" => images::save_many,
        GET "/images/{name*}/get" => images::save_one,
        GET "/images/{name*}/history" => images::history,
        GET "/images/{name*}/attestations" => images::attestations,
        GET "/images/{name*}/json" => images::inspect,
        POST "/images/load" => images::load,
        POST "/images/create" => images::create,
        POST "/images/prune" => images::prune,
        POST "/images/{name*}/push" => images::push,
        POST "/images/{name*}/tag" => images::tag,
        DELETE "/images/{name*}" => images::remove,
        GET "/distribution/{name*}/json" => images::distribution,
        POST "/build" => images::build,
        POST "/build/prune" => images::prune_builds,
        POST "/build/cancel" => images::build,
        GET "/volumes" => volumes::list,
        GET "/volumes/{name*}" => volumes::inspect,
        POST "/volumes/create" => volumes::create,
        POST "/volumes/prune" => volumes::prune,
        PUT "/volumes/{name*}" => volumes::update,
        DELETE "/volumes/{name*}" => volumes::remove,
        GET "/networks" => networks::list,
        GET "/networks/" => networks::list,
        GET "/networks/{id*}" => networks::inspect,
        POST "/networks/create" => networks::create,
        POST "/networks/prune" => networks::prune,
        POST "/networks/{id*}/connect" => networks::connect,
        POST "/networks/{id*}/disconnect" => networks::disconnect,
        DELETE "/networks/{id*}" => networks::remove,
    };
    rows.extend(plugins());
    rows
}

fn plugins() -> Vec<Route> {
    routes! {
        GET "/plugins" => plugins::list,
        GET "/plugins/privileges" => plugins::refuse,
        GET "/plugins/{name*}" => plugins::missing,
        DELETE "/plugins/{name*}" => plugins::missing,
        POST "/plugins/{name*}" => plugins::refuse,
        GET "/swarm" => plugins::no_manager,
        GET "/swarm/unlockkey" => plugins::no_manager,
        POST "/swarm/init" => plugins::no_swarm,
        POST "/swarm/join" => plugins::no_swarm,
        POST "/swarm/leave" => plugins::no_member,
        POST "/swarm/update" => plugins::no_manager,
        POST "/swarm/unlock" => plugins::no_member,
        GET "/nodes" => plugins::no_manager,
        GET "/nodes/{id}" => plugins::no_manager,
        DELETE "/nodes/{id}" => plugins::no_manager,
        POST "/nodes/{id}/update" => plugins::no_manager,
        GET "/services" => plugins::no_manager,
        GET "/services/{id}" => plugins::no_manager,
        POST "/services/create" => plugins::no_manager,
        POST "/services/{id}/update" => plugins::no_manager,
        DELETE "/services/{id}" => plugins::no_manager,
        GET "/services/{id}/logs" => plugins::no_manager,
        GET "/tasks" => plugins::no_manager,
        GET "/tasks/{id}" => plugins::no_manager,
        GET "/tasks/{id}/logs" => plugins::no_manager,
        GET "/secrets" => plugins::no_manager,
        GET "/secrets/{id}" => plugins::no_manager,
        POST "/secrets/create" => plugins::no_manager,
        POST "/secrets/{id}/update" => plugins::no_manager,
        DELETE "/secrets/{id}" => plugins::no_manager,
        GET "/configs" => plugins::no_manager,
        GET "/configs/{id}" => plugins::no_manager,
        POST "/configs/create" => plugins::no_manager,
        POST "/configs/{id}/update" => plugins::no_manager,
        DELETE "/configs/{id}" => plugins::no_manager,
    }
}

/// Variables of `path` under `pattern`, or `None` when it does not match.
pub fn matches(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut vars = Vec::new();
    let mut rest = path;
    let mut pattern = pattern;
    loop {
        let Some(open) = pattern.find('{') else {
            return (pattern == rest).then_some(vars);
        };
        rest = rest.strip_prefix(&pattern[..open])?;
        let close = open + pattern[open..].find('}')?;
        let name = &pattern[open + 1..close];
        pattern = &pattern[close + 1..];
        let (name, end) = match name.strip_suffix('*') {
            Some(name) => (name, rest.len().checked_sub(pattern.len())?),
            None => (name, rest.find('/').unwrap_or(rest.len())),
        };
        if end == 0 || !rest.is_char_boundary(end) {
            return None;
        }
        vars.push((name, rest[..end].to_owned()));
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &Method, path: &str) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        table()
            .iter()
            .filter(|r| r.method == *method)
            .find_map(|r| matches(r.pattern, path).map(|vars| (r.pattern, vars)))
    }

    #[test]
    fn paths_find_their_rows() {
        type Row = (
            Method,
            &'static str,
            &'static str,
            &'static [(&'static str, &'static str)],
        );
        #[rustfmt::skip]
        let rows: [Row; 14] = [
            (Method::GET, "/containers/json", "/containers/json", &[]),
            (Method::GET, "/containers/abc/json", "/containers/{id}/json", &[("id", "abc")]),
            (Method::POST, "/containers/create", "/containers/create", &[]),
            (Method::DELETE, "/containers/abc", "/containers/{id}", &[("id", "abc")]),
            (Method::GET, "/images/json", "/images/json", &[]),
            (Method::GET, "/images/a/json", "/images/{name*}/json", &[("name", "a")]),
            (Method::GET, "/images/h:5000/a/b:t/json", "/images/{name*}/json", &[("name", "h:5000/a/b:t")]),
            (Method::GET, "/images/get", "/images/get", &[]),
            (Method::GET, "/images/a/b/get", "/images/{name*}/get", &[("name", "a/b")]),
            (Method::DELETE, "/images/a/b", "/images/{name*}", &[("name", "a/b")]),
            (Method::POST, "/images/a/push", "/images/{name*}/push", &[("name", "a")]),
            (Method::GET, "/distribution/h:1/x/json", "/distribution/{name*}/json", &[("name", "h:1/x")]),
            (Method::POST, "/networks/n1/connect", "/networks/{id*}/connect", &[("id", "n1")]),
            (Method::GET, "/containers/x/attach/ws", "/containers/{id}/attach/ws", &[("id", "x")]),
        ];
        for (method, path, pattern, vars) in rows {
            let (got, got_vars) = find(&method, path).unwrap_or_else(|| panic!("{path} finds no row"));
            let got_vars: Vec<(&str, &str)> = got_vars.iter().map(|(k, v)| (*k, v.as_str())).collect();
            assert_eq!((got, got_vars.as_slice()), (pattern, vars), "{path}");
        }
    }

    #[test]
    fn the_rest_finds_none() {
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/nothing"),
            (Method::PUT, "/containers/json"),
            (Method::GET, "/containers//json"),
            (Method::DELETE, "/containers/"),
            (Method::GET, "/images//json"),
            (Method::POST, "/grpc"),
            (Method::POST, "/session"),
        ] {
            assert!(find(&method, path).is_none(), "{method} {path}");
        }
    }

    #[test]
    fn no_row_is_written_twice() {
        let rows = table();
        for (i, a) in rows.iter().enumerate() {
            assert!(
                !rows[..i]
                    .iter()
                    .any(|b| a.method == b.method && a.pattern == b.pattern),
                "{}",
                a.pattern
            );
        }
    }
}
