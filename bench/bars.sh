#!/usr/bin/env bash
# Measures what docs/performance.md holds against its bars, one report after another, into a directory:
# a text and a page of each. Takes about an hour, and wants root and nothing else on the host. Names
# after the directory are the only measurements to make.
#
#   bench/bars.sh /tmp/bars
#   bench/bars.sh /tmp/bars network-native peers-10
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: bench/bars.sh DIRECTORY [NAME...]}
shift
only=" $* "
mkdir -p "$out"
CGO_ENABLED=0 go build -trimpath -o "$out/hubbub" ./cmd/hubbub

measure() { # NAME COMMAND…
	local name=$1
	shift
	[ "$only" = "  " ] || [[ $only == *" $name "* ]] || return 0
	echo "== $name"
	"$@" --html "$out/$name.html" | tee "$out/$name.txt"
}
load() { "$out/hubbub" load --spawn "$@"; }

# Over a cable, where the server is billed its own side; and over the loopback, where also what receiving costs.
for path in network loopback; do
	over=$([ $path = loopback ] || echo --network)
	measure $path-native bench/mumble.sh --runs 3 $over
	measure $path-browser load --floor --browser --runs 3 $over
	measure $path-coalesced load --floor --serve=--wait=5ms --speakers 10 --listeners 50 --runs 3 $over
	# Half of what one core delivers to 5 x 100.
	measure $path-half load --rate 200 --runs 3 $over
	measure $path-silent load --speakers 0 --listeners 5000 --channels 100 --joins 16 --duration 60s $over
	measure $path-joins-native load --listeners 400 --duration 2s $over
	measure $path-joins-browser load --listeners 400 --duration 2s --browser $over
done
measure ramp bench/mumble.sh --speakers 10 --listeners 200 --ramp --duration 3s --network
# What a client of 1,000 holds once all is quiet: more than a minute after its join.
measure memory-native load --listeners 1000 --speakers 1 --channels 10 --talk 0.1 --joins 16 --duration 80s
measure memory-browser load --listeners 1000 --speakers 1 --channels 10 --talk 0.1 --joins 16 --duration 80s --browser
# About 10,000 packets/s to 5 listeners each, whatever the number of peers, once most speakers have been heard: who
# has just joined is told of each.
measure peers-10 load --network --floor --speakers 5 --listeners 5 --rate 390 --runs 3
measure peers-100 load --network --floor --speakers 5 --listeners 50 --channels 10 --talk 0.8 --runs 3
measure peers-1000 load --network --floor --speakers 5 --listeners 500 --channels 100 --talk 0.08 --joins 16 --settle 30s --runs 3
# With minimal forwarders as many as 20,000 descriptors allow.
measure peers-3500 load --network --floor --speakers 5 --listeners 1750 --channels 350 --talk 0.023 --joins 16 --settle 90s --runs 3
measure peers-5000 load --network --speakers 5 --listeners 2500 --channels 500 --talk 0.016 --joins 16 --settle 120s --runs 3
