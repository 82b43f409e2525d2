//! The engine's core: containers, execs, images, volumes, networks, events.
//!
//! It decides, keeps the records and supervises; it knows neither HTTP nor any wire type. What runs containers is behind
//! two doors: frames to the launcher and the shims (`supervisor`), and the [`Kernel`] trait, which the composition root implements.
//! Blocking work goes through [`blocking::run`] alone.

pub mod blocking;
pub mod config;
pub mod containers;
mod db;
mod engine;
mod error;
pub mod events;
pub mod execs;
mod filters;
pub mod ids;
pub mod images;
pub mod kernel;
mod names;
pub mod networks;
mod supervisor;
pub mod system;
pub mod volumes;

pub use config::Config;
pub use containers::Containers;
pub use engine::Engine;
pub use error::{Error, Kind, Result};
pub use events::{Event, EventStream, Events};
pub use execs::Execs;
pub use images::Images;
pub use kernel::Kernel;
pub use networks::Networks;
pub use system::System;
pub use volumes::Volumes;
