#!/usr/bin/env bash
# Measures what docs/performance.md holds against its bars, one report after another, into a directory:
# a text and a page of each. Takes about a quarter of an hour, with nothing else on the host.
#
#   bench/bars.sh /tmp/bars
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: bench/bars.sh DIRECTORY}
mkdir -p "$out"
CGO_ENABLED=0 go build -trimpath -o "$out/hubbub" ./cmd/hubbub

measure() { # NAME COMMAND…
	local name=$1
	shift
	echo "== $name"
	"$@" --html "$out/$name.html" | tee "$out/$name.txt"
}
load() { "$out/hubbub" load --spawn "$@"; }

measure native bench/mumble.sh --runs 3
measure browser load --floor --browser --runs 3
measure coalesced load --floor --speakers 10 --listeners 50 --runs 3
measure ramp bench/mumble.sh --speakers 10 --ramp --duration 5s
measure joins-native load --listeners 400 --duration 2s
measure joins-browser load --listeners 400 --duration 2s --browser
measure ten load --floor --speakers 5 --listeners 5 --runs 3
measure thousands load --speakers 1 --listeners 4900 --channels 100 --rate 10 --duration 15s
measure silent load --speakers 0 --listeners 5000 --channels 100 --joins 16
