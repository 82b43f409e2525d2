//! The store from outside: what other crates see of it.

mod corpus;
mod full;
mod smoke;
mod tarball;
