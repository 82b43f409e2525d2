//! Docker's Engine API in front of the engine.
//!
//! A request's path gives its version and finds a row of [`routes`]; the row's handler turns wire types into the domain's
//! ([`convert`]), asks the engine, and turns the answer back. Old versions are adapters ([`compat`]). Every handler runs in a task of its own,
//! so that a client that hangs up cannot cut a change in half; what streams ends when its client goes.

pub mod answer;
mod attach;
pub mod compat;
mod containers;
pub mod convert;
pub mod error;
mod events;
mod execs;
pub mod extract;
mod hijack;
mod images;
mod networks;
mod plugins;
pub mod routes;
mod socket;
mod stats;
mod stream;
mod system;
pub mod version;
mod volumes;

use crate::Release;
use answer::{Answer, empty};
use convert::stats::Machine;
use convert::told::Defaults;
use error::ApiError;
use extract::{Call, Query, unescape};
use ferry_engine::Engine;
use ferry_engine::kernel::HostInfo;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, UPGRADE};
use hyper::{Method, Request, StatusCode};
use std::convert::Infallible;
use std::sync::Arc;
use version::{ApiVersion, NEWEST};

/// What every handler shares.
pub struct App {
    /// The engine.
    pub engine: Engine,
    /// Who we are.
    pub release: Release,
    /// What the host is.
    pub host: HostInfo,
    /// What goes where a request said nothing.
    pub defaults: Defaults,
    /// For meters.
    pub machine: Machine,
    routes: Vec<routes::Route>,
    server_header: HeaderValue,
}

impl App {
    /// Asks the engine what does not change.
    ///
    /// # Errors
    /// Those of the engine's `info`.
    pub async fn new(engine: Engine, release: Release) -> Result<Arc<Self>, ferry_engine::Error> {
        let info = engine.system().info().await?;
        let config = &info.config;
        let by_version = if info.host.cgroup_version == 2 {
            "private"
        } else {
            "host"
        };
        let or = |text: &str, default: &str| {
            if text.is_empty() {
                default.to_owned()
            } else {
                text.to_owned()
            }
        };
        let defaults = Defaults {
            cgroupns: or(&config.default_cgroupns_mode, by_version),
            ipc: or(&config.default_ipc_mode, "private"),
            log_driver: or(&config.log_driver, "json-file"),
            runtime: config.default_runtime.clone(),
            shm_size: config.default_shm_size,
            hostname: info.name.clone(),
            oom_kill_disable: info.host.cgroup_version == 1,
        };
        let machine = Machine {
            memory: info.memory_total,
            cgroup_version: info.host.cgroup_version,
        };
        let server = format!("Docker/{} (linux)", release.version);
        let server_header =
            HeaderValue::from_str(&server).unwrap_or(HeaderValue::from_static("Docker (linux)"));
        let routes = routes::table();
        Ok(Arc::new(Self {
            engine,
            release,
            host: info.host,
            defaults,
            machine,
            routes,
            server_header,
        }))
    }

    fn find(&self, method: &Method, path: &str) -> Option<(routes::Handler, Vec<(&'static str, String)>)> {
        let rows = self.routes.iter().filter(|r| r.method == *method);
        rows.filter_map(|r| Some((r.handler, routes::matches(r.pattern, path)?)))
            .next()
    }

    /// Answers one request.
    ///
    /// # Errors
    /// None.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let app = Arc::clone(&self);
        let method = request.method().clone();
        let path = unescape(request.uri().path(), false);
        let mut answer = match self.dispatch(request, &path).await {
            Ok(answer) => answer,
            Err(e) => {
                if e.status.is_server_error() {
                    tracing::warn!(%method, path, error = %e, "request failed");
                } else {
                    tracing::debug!(%method, path, status = e.status.as_u16(), error = %e, "request refused");
                }
                refusal(&e, &path)
            }
        };
        app.stamp(&mut answer);
        Ok(answer)
    }

    async fn dispatch(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        path: &str,
    ) -> Result<Answer, ApiError> {
        let (version, rest) = version::split(path);
        let version = version.map_or(Ok(NEWEST), ApiVersion::parse)?;
        if request.method() == Method::OPTIONS {
            return Ok(empty(StatusCode::OK));
        }
        let missing = || ApiError::not_found("page not found");
        let (handler, vars) = self.find(request.method(), rest).ok_or_else(missing)?;
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let upgrade = request
            .headers()
            .contains_key(UPGRADE)
            .then(|| hyper::upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        let call = Call {
            app: self,
            version,
            method: head.method,
            vars,
            query,
            headers: head.headers,
            body,
            upgrade,
        };
        match tokio::spawn(handler(call)).await {
            Ok(result) => result,
            Err(e) => Err(ApiError::internal(format!(
                "the engine failed on this request: {e}"
            ))),
        }
    }

    /// The headers of every answer.
    fn stamp(&self, answer: &mut Answer) {
        let headers = answer.headers_mut();
        headers.insert(hyper::header::SERVER, self.server_header.clone());
        let version = HeaderValue::from_str(&NEWEST.to_string());
        headers.insert(
            HeaderName::from_static("api-version"),
            version.unwrap_or(HeaderValue::from_static("1.56")),
        );
        headers.insert(
            HeaderName::from_static("ostype"),
            HeaderValue::from_static("linux"),
        );
        headers.insert(
            HeaderName::from_static("docker-experimental"),
            HeaderValue::from_static("false"),
        );
    }
}

/// JSON, but for versions so old that they know no JSON errors.
fn refusal(error: &ApiError, path: &str) -> Answer {
    let ancient = version::split(path).0.is_some_and(version::is_ancient);
    if !ancient {
        return error.answer();
    }
    let mut answer = Answer::new(answer::full(format!("{}\n", error.message)));
    *answer.status_mut() = error.status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
