#!/usr/bin/env bash
# Runs the end-to-end tests, each package as its own binary:
#
#   scripts/e2e.sh [PACKAGE...]     # test, test/ops, ...; test-fleet is test on a fleet of nine
#
# All binaries are linked first, once, on all processors. Tests that measure have the
# machine to themselves.
set -euo pipefail
set -m # so that what a group started ends with it
cd "$(dirname "$0")/.."

# What has no server runs beside each other.
groups=("test/browser test/match" test/chaos test/ops test/fleet test test-fleet)
[ $# -eq 0 ] || groups=("$@")

work=$(mktemp -d)
pids=()
end() {
  for pid in "${pids[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap end EXIT
export TEST_BINARIES=$work/commands
mkdir "$TEST_BINARIES"
CGO_ENABLED=0 go build -o "$TEST_BINARIES/" ./cmd/hubbub ./examples/... ./test/bots/...
go test -c -race -o "$work/" ./test/... >/dev/null

run() { # PACKAGE: prints what it says, and how long it took
  local package=$1 began=$SECONDS flags=(-test.timeout 15m) status=0
  case $package in
    test-fleet) package=test; flags+=(-test.parallel 8) ;;
    test) flags+=(-test.parallel 8) ;;
  esac
  [ "$1" = test-fleet ] && flags+=(-fleet)
  (cd "$package" && "$work/$(basename "$package").test" -test.paniconexit0 "${flags[@]}") >"$work/$(basename "$1").log" 2>&1 || status=$?
  [ $status -eq 0 ] || cat "$work/$(basename "$1").log"
  printf '%-4s %s %ss\n' "$([ $status -eq 0 ] && echo ok || echo FAIL)" "$1" $((SECONDS - began))
  return $status
}

failed=0
for group in "${groups[@]}"; do
  pids=()
  for package in $group; do
    run "$package" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || failed=1
  done
  pids=()
done
exit $failed
