//! What this engine does not have: plug-ins and swarm. Clients ask anyway and want Docker's answers.

use super::answer::{Answer, ok};
use super::error::{ApiError, Result};
use super::extract::Call;
use hyper::StatusCode;

fn unavailable<T>(message: &str) -> Result<T> {
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message))
}

/// `GET /plugins`: none.
pub async fn list(call: Call) -> Result<Answer> {
    call.query.filters()?;
    ok(&Vec::<String>::new())
}

/// One plug-in: there is none of any name.
pub async fn missing(call: Call) -> Result<Answer> {
    let name = call.var("name");
    let name = name.strip_suffix("/json").unwrap_or(name);
    Err(ApiError::not_found(format!("plugin {name:?} not found")))
}

/// Acts on plug-ins.
pub async fn refuse(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "managed plugins are not supported by this engine",
    ))
}

/// Orchestration.
pub async fn no_manager(_call: Call) -> Result<Answer> {
    unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    )
}

/// Leaving what was never joined.
pub async fn no_member(_call: Call) -> Result<Answer> {
    unavailable("This node is not part of a swarm")
}

/// Becoming a part of a swarm.
pub async fn no_swarm(_call: Call) -> Result<Answer> {
    Err(ApiError::unsupported(
        "swarm mode is not supported by this engine",
    ))
}
