#!/usr/bin/env bash
# Runs every fuzz target for a few seconds each (FUZZTIME, default 3s).
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
corpus=$(go env GOCACHE)/fuzz # where go test -fuzz keeps what it found
module=$(go list -m)

run() { # PACKAGE TARGET
  (cd "$1" && "$work/test" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "${FUZZTIME:-3s}" -test.parallel 2 \
    -test.fuzzcachedir "$corpus/$module/$1") >"$log" 2>&1
}

# On a busy machine a target's own time limit is called a failure when that comes while
# a worker is being told to stop: "context deadline exceeded", and no failing input.
ran_out_of_time() {
  grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic|DATA RACE|_test\.go:' "$log"
}

count=0
built=
while IFS=: read -r file target; do
  package=$(dirname "$file")
  # One binary has all targets of its package; go test would link it again for each.
  if [ "$package" != "$built" ]; then
    go test -c -fuzz . -o "$work/test" "./$package"
    built=$package
  fi
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
