#!/usr/bin/env bash
# Fails when web/dist is not what web/ builds to.
set -euo pipefail
cd "$(dirname "$0")/../web"

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
npm run --silent build -- --outDir "$fresh" --emptyOutDir >/dev/null
if ! diff -rq "$fresh" dist; then
  echo "web/dist is stale: run 'npm run build' in web/ and commit it" >&2
  exit 1
fi
