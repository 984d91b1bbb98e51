#!/usr/bin/env bash
# fuzz.sh DURATION: runs every fuzz target of the root module, one after the other, for that long each.
# go test takes one target of one package at a time, hence the search.
set -euo pipefail
cd "$(dirname "$0")/.."

found=0
while IFS=: read -r file line; do
  name=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/' <<<"$line")
  found=$((found + 1))
  echo "==> $name (${file%/*})"
  ${GO:-go} test -run='^$' -fuzz="^$name\$" -fuzztime="$1" "./${file%/*}"
done < <(git grep --untracked -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go' ':!bench')
echo "$found fuzz targets, $1 each"
