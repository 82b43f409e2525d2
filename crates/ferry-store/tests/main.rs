//! The store from outside: what other crates see of it.

mod archives;
mod corpus;
mod crash;
mod full;
mod hostile;
mod records;
mod smoke;
mod tarball;
