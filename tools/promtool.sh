#!/usr/bin/env bash
# promtool.sh ARGUMENTS...: runs promtool, which checks and tests the alerts of deploy/.
# It takes the one on PATH. Without it, on Debian and its relatives, it unpacks the one of the package prometheus into bin/:
# installing the package would start a server. Elsewhere it says what is missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

if command -v promtool >/dev/null; then
  exec promtool "$@"
fi
if [ ! -x "$root/bin/promtool" ]; then
  if ! command -v apt-get >/dev/null; then
    echo "promtool is not installed, and the alerts are tested with it: install Prometheus 2.42 or newer" >&2
    echo "with this system's package manager, so that promtool is on PATH, and try again." >&2
    exit 1
  fi
  echo "fetching promtool of Debian's package prometheus, once (20 MB; nothing is installed)"
  mkdir -p "$root/bin"
  (
    unpacked=$(mktemp -d "$root/bin/promtool.XXXXXX")
    trap 'rm -rf "$unpacked"' EXIT
    cd "$unpacked"
    options=(-qq)
    update=(apt-get -qq update)
    if [ "$(id -u)" -eq 0 ]; then
      options+=(-o APT::Sandbox::User=root) # or apt warns that its own user may not write here
    else
      update=(sudo "${update[@]}")
    fi
    if ! apt-get "${options[@]}" download prometheus 2>/dev/null; then # the lists may be missing, or old
      "${update[@]}"
      apt-get "${options[@]}" download prometheus
    fi
    dpkg-deb -x ./prometheus_*.deb .
    mv usr/bin/promtool "$root/bin/promtool"
  )
fi
exec "$root/bin/promtool" "$@"
