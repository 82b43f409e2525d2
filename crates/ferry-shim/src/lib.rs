//! Launcher, shims and exec monitors: the processes that hold containers, so that the engine can be replaced under them.
pub mod clients;
pub mod jsonlog;
pub mod lines;
pub mod link;
pub mod logfile;
pub mod record;
pub mod stdcopy;
pub mod stdio;
