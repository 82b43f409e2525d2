//! Launcher, shims and exec monitors: the processes that hold containers, so that the engine can be replaced under them.
pub mod jsonlog;
pub mod lines;
pub mod logfile;
pub mod stdcopy;
