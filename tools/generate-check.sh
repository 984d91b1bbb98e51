#!/usr/bin/env bash
# generate-check.sh MODULE...: fails when go generate would change a file of one of the modules.
# It generates in a copy, so it neither touches the work tree nor minds uncommitted work there.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

# Everything git knows or would add, less what was deleted but not yet committed.
git ls-files --cached --others --exclude-standard --deduplicate -z |
  while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done >"$copy/list"
mkdir "$copy/a" "$copy/b"
tar -cf "$copy/tar" --null -T "$copy/list"
for side in a b; do tar -xf "$copy/tar" -C "$copy/$side"; done

for module in "$@"; do
  (cd "$copy/b/$module" && ${GO:-go} generate ./...)
done
cd "$copy"
if ! diff -ru a b; then
  echo "generated files are stale: run make generate and commit the result" >&2
  exit 1
fi
echo "generated files are fresh"
