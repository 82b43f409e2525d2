//! End-to-end tests, one binary.

mod apps;
mod bad_input;
mod crash;
mod harness;
mod registries;
mod run;
mod support;
