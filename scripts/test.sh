#!/usr/bin/env bash
# Every check of the project, as CI runs it. Installs the Debian packages that the tests need. Root is needed: containers are.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || exec sudo -E "$0" "$@"
scripts/setup.sh test
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} RUST_BACKTRACE=${RUST_BACKTRACE:-1}
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

step "format"; cargo fmt --all --check
step "tidy"; cargo xtask tidy
step "layers"; cargo xtask layers
step "clippy"; cargo clippy --workspace --all-targets --locked -- -D warnings
step "build"; cargo build --locked --package ferry
step "unit, property, golden and kernel tests"; cargo test --workspace --exclude e2e --locked --no-fail-fast
step "end to end"; cargo test --package e2e --locked --no-fail-fast -- --test-threads=1 --nocapture
step "documentation"; RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
step "done"
