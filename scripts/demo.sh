#!/usr/bin/env bash
# Builds Ferry and runs its main job: a container of the image that the binary carries. No registry, no network, no Docker.
# Everything it makes lies in a temporary folder and in namespaces of its own, and is gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh build
cargo build --release --locked
binary=target/x86_64-unknown-linux-gnu/release/ferry
[ "$(id -u)" -eq 0 ] || exec sudo -E "$0" "$@"
exec scripts/in-sandbox.sh "$binary" run --rm hello
