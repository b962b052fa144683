#!/usr/bin/env bash
# Runs every fuzz target for a few seconds each (FUZZTIME, default 3s).
set -euo pipefail
cd "$(dirname "$0")/.."

count=0
while IFS=: read -r file target; do
  echo "fuzz $(dirname "$file") $target"
  go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-3s}" -parallel 2 >/tmp/fuzz.$$ 2>&1 || {
    cat /tmp/fuzz.$$
    exit 1
  }
  count=$((count + 1))
done < <(git ls-files '*_test.go' | xargs grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //')
rm -f /tmp/fuzz.$$
[ "$count" -gt 0 ] || { echo "no fuzz target found: the search is broken" >&2; exit 1; }
echo "$count fuzz targets ran"
