#!/usr/bin/env bash
# docs.sh GENERATOR [check]: writes the reference, docs/api/*.md, from the doc comments of the packages that users import.
# With check it writes nothing, and fails when the reference is stale.
set -euo pipefail
cd "$(dirname "$0")/.."

generator=$1
packages=(. client config embedded fxtest health lock notification notification/sse store)
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT

{
  echo "# Reference"
  echo
  echo "The doc comments of the packages, as \`go doc\` shows them. \`make docs\` writes this folder; do not edit it."
  echo
  echo "| package | what it is |"
  echo "|---|---|"
} >"$to/README.md"
for package in "${packages[@]}"; do
  name=${package//\//-}
  [ "$package" != . ] || name=cache
  "$generator" --repository.url https://github.com/compozy/cache --repository.default-branch main --repository.path / \
    --output "$to/$name.md" "./$package" >/dev/null
  # Links lead to the files beside this folder, and to no line: that would change with every line above it.
  sed -E -i 's|<https://github.com/compozy/cache/blob/main/([^>#]*)(#L[0-9]+(-L[0-9]+)?)?>|<../../\1>|g' "$to/$name.md"
  about=$(sed -n 's/\\//g; s/^Package [a-z]* \(.*\)/\1/p' "$to/$name.md" | head -1)
  echo "| [\`${package/#./cache}\`]($name.md) | ${about%%[.:]*} |" >>"$to/README.md"
done

if [ "${2:-}" != check ]; then
  mkdir -p docs/api
  rm -f docs/api/*.md
  cp "$to"/*.md docs/api/
elif ! diff -ru docs/api "$to"; then
  echo "docs/api is stale: run make docs and commit the result" >&2
  exit 1
else
  echo "docs/api is fresh"
fi
