#!/usr/bin/env bash
# Installs the Debian packages that are missing among those named; says what it does. Needs root only when something is missing.
#
#   scripts/setup.sh build     what building needs: a C compiler
#   scripts/setup.sh test      what the tests need besides
set -euo pipefail

build=(gcc libc6-dev make)
test=(busybox-static mmdebstrap skopeo umoci docker-registry apache2-utils iproute2 nftables openssl jq libseccomp-dev procps)
# The real docker command drives the end-to-end tests; any one that is there will do.
command -v docker >/dev/null || test+=(docker.io)

case "${1:-}" in
  build) wanted=("${build[@]}") ;;
  test) wanted=("${build[@]}" "${test[@]}") ;;
  *) echo "usage: $0 build|test" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "$0: these Debian packages are missing; install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null </dev/null
# Packages with a service must not start it: the tests run their own on loopback.
policy=/usr/sbin/policy-rc.d
own=no
if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; own=yes; fi
trap '[ "$own" = yes ] && rm -f "$policy"' EXIT
apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null </dev/null
