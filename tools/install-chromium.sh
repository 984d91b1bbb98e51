#!/usr/bin/env bash
# Makes sure that a Chromium is there: the page of examples/app is tested in a real browser.
# Debian and its relatives: installed with apt-get. Elsewhere: says what is missing.
set -euo pipefail

for browser in chromium chromium-browser google-chrome google-chrome-stable headless_shell headless-shell; do
  if command -v "$browser" >/dev/null; then
    exit 0
  fi
done
if ! command -v apt-get >/dev/null; then
  echo "no Chromium is installed, and the tests of the example's page need one: install it" >&2
  echo "with this system's package manager, so that chromium is on PATH, and try again." >&2
  exit 1
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "chromium is not installed: run 'apt-get install chromium' as root, and try again." >&2
    exit 1
  fi
  root=(sudo)
fi
echo "installing chromium, once (about 120 MB; up to a minute)"
install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends)
# The lists may be missing, or old. A font there must be, or no text has a width.
if ! "${install[@]}" chromium fonts-dejavu-core >/dev/null 2>&1; then
  "${root[@]}" apt-get update -qq
  "${install[@]}" chromium fonts-dejavu-core >/dev/null
fi
chromium --version
