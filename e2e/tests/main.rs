//! End-to-end tests, one binary.

mod apps;
mod harness;
mod run;
mod support;
