//! Execs: further processes in running containers.

use crate::containers::attach::AttachStream;
use crate::containers::spec::ExecSpec;
use crate::containers::view::ExecView;
use crate::{Error, Result};

/// The service; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Execs {}

/// How to start an exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartExec {
    /// Nobody is attached.
    pub detach: bool,
    /// Whether the client expects a terminal; has to agree with the exec's own.
    pub tty: bool,
    /// Rows and columns; zeros mean the exec's own.
    pub console_size: [u16; 2],
}

#[allow(missing_docs, clippy::unused_async)]
impl Execs {
    pub async fn create(&self, _container: &str, _spec: ExecSpec) -> Result<String> {
        Err(Error::unsupported("being written"))
    }
    pub async fn start(&self, _id: &str, _options: StartExec) -> Result<Option<AttachStream>> {
        Err(Error::unsupported("being written"))
    }
    pub async fn resize(&self, _id: &str, _height: u16, _width: u16) -> Result<()> {
        Err(Error::unsupported("being written"))
    }
    pub async fn inspect(&self, _id: &str) -> Result<ExecView> {
        Err(Error::unsupported("being written"))
    }
}
