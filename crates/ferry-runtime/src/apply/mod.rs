//! Carrying a plan out in the new process: [`wires`] is what is prepared before the clone, [`child`] interprets the steps.

pub(crate) mod child;
pub(crate) mod copyup;
pub(crate) mod mounts;
pub(crate) mod paths;
pub(crate) mod report;
pub(crate) mod terminal;
pub(crate) mod who;
pub(crate) mod wires;
