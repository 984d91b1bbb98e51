#!/usr/bin/env bash
# Makes sure that redis-server is there: the tests run against real servers, never against a mock of one.
# Debian and its relatives: installed with apt-get. Elsewhere: says what is missing.
# With REDISTEST_SERVER=/path/of/a/redis-server the tests run on that one, and nothing is installed.
set -euo pipefail

if [ -n "${REDISTEST_SERVER:-}" ]; then
  if [[ $REDISTEST_SERVER == /* && -f $REDISTEST_SERVER && -x $REDISTEST_SERVER ]]; then
    exit 0
  fi
  echo "REDISTEST_SERVER=$REDISTEST_SERVER: must be the absolute path of a redis-server that can be run" >&2
  exit 1
fi
if command -v redis-server >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "redis-server is not installed, and the tests need it: install Redis 7.0 or newer" >&2
  echo "with this system's package manager, so that redis-server is on PATH, and try again." >&2
  exit 1
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "redis-server is not installed: run 'apt-get install redis-server' as root, and try again." >&2
    exit 1
  fi
  root=(sudo)
fi
echo "installing redis-server (the tests start their own servers on free ports)"
"${root[@]}" apt-get update -qq
# --no-install-recommends keeps it to the server and its tools.
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null
redis-server --version
