#!/usr/bin/env bash
# scripts/in-sandbox.sh FERRY ARGS…: runs one command against an engine of its own, in mount and network namespaces of its own.
set -euo pipefail
binary=$(realpath "$1"); shift
work=$(mktemp -d)
export FERRY_SANDBOX_BINARY=$binary FERRY_SANDBOX_WORK=$work
code=0
unshare --mount --net --propagation private bash -euo pipefail -c '
  ip link set lo up 2>/dev/null || true
  mkdir -p "$FERRY_SANDBOX_WORK/data" "$FERRY_SANDBOX_WORK/run"
  mount -t tmpfs -o mode=0700 ferry-run "$FERRY_SANDBOX_WORK/run"
  socket="$FERRY_SANDBOX_WORK/run/ferry.sock"
  "$FERRY_SANDBOX_BINARY" daemon --data-root "$FERRY_SANDBOX_WORK/data" --exec-root "$FERRY_SANDBOX_WORK/run" \
    --pidfile "$FERRY_SANDBOX_WORK/run/ferry.pid" -H "unix://$socket" </dev/null >"$FERRY_SANDBOX_WORK/engine.log" 2>&1 &
  engine=$!
  for _ in $(seq 200); do [ -S "$socket" ] && break; kill -0 "$engine" 2>/dev/null || break; sleep 0.02; done
  code=0
  if [ -S "$socket" ]; then "$FERRY_SANDBOX_BINARY" -H "unix://$socket" "$@" || code=$?
  else echo "the engine did not start:" >&2; cat "$FERRY_SANDBOX_WORK/engine.log" >&2; code=1; fi
  kill "$engine" 2>/dev/null || true
  wait "$engine" 2>/dev/null || true
  exit "$code"
' in-sandbox "$@" || code=$?
rm -rf --one-file-system "$work"
exit "$code"
