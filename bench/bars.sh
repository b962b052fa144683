#!/usr/bin/env bash
# Measures what docs/performance.md holds against its bars, one report after another, into a directory:
# a text and a page of each. Takes about half an hour, and wants nothing else on the host.
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
measure coalesced load --floor --serve=--wait=5ms --speakers 10 --listeners 50 --runs 3
measure ramp bench/mumble.sh --speakers 10 --listeners 200 --ramp --duration 3s
measure joins-native load --listeners 400 --duration 2s
measure joins-browser load --listeners 400 --duration 2s --browser
# What a client of 1,000 holds once all is quiet: more than a minute after its join.
measure memory-native load --listeners 1000 --speakers 1 --channels 10 --talk 0.1 --joins 16 --duration 80s
measure memory-browser load --listeners 1000 --speakers 1 --channels 10 --talk 0.1 --joins 16 --duration 80s --browser
measure silent load --speakers 0 --listeners 5000 --channels 100 --joins 16 --duration 60s
# About 10,000 packets/s to 5 listeners each, whatever the number of peers.
measure peers-10 load --floor --speakers 5 --listeners 5 --rate 390 --runs 3
measure peers-100 load --floor --speakers 5 --listeners 50 --channels 10 --talk 0.8 --runs 3
measure peers-1000 load --floor --speakers 5 --listeners 500 --channels 100 --talk 0.08 --joins 16 --runs 3
# With minimal forwarders as many as 20,000 descriptors allow.
measure peers-3500 load --floor --speakers 5 --listeners 1750 --channels 350 --talk 0.023 --joins 16 --runs 3
measure peers-5000 load --speakers 5 --listeners 2500 --channels 500 --talk 0.016 --joins 16 --runs 3
# Half of what one core delivers to 5 x 100.
measure half load --rate 200 --runs 3
