#!/usr/bin/env bash
# Runs every fuzz target for a few seconds each (FUZZTIME, default 3s).
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

run() { # PACKAGE TARGET
  go test "./$1" -run '^$' -fuzz "^$2\$" -fuzztime "${FUZZTIME:-3s}" -parallel 2 >"$log" 2>&1
}

# On a busy machine go test calls its own time limit a failure when that comes while
# a worker is being told to stop: "context deadline exceeded", and no failing input.
ran_out_of_time() {
  grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic|DATA RACE|_test\.go:' "$log"
}

count=0
while IFS=: read -r file target; do
  package=$(dirname "$file")
  echo "fuzz $package $target"
  tries=1
  until run "$package" "$target"; do
    if ! ran_out_of_time || [ "$tries" = 3 ]; then
      cat "$log"
      exit 1
    fi
    tries=$((tries + 1))
  done
  count=$((count + 1))
done < <(git ls-files '*_test.go' | xargs grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //')
[ "$count" -gt 0 ] || { echo "no fuzz target found: the search is broken" >&2; exit 1; }
echo "$count fuzz targets ran"
