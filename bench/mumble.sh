#!/usr/bin/env bash
# Measures Hubbub, the minimal forwarders and Debian's mumble-server under one load, in turns:
# the servers on core 0, the load on core 1. Further flags go to hubbub load.
#
#   bench/mumble.sh --runs 3 --html /tmp/load.html
#   bench/mumble.sh --speakers 10 --listeners 100 --ramp
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v murmurd mumble-server >/dev/null; then
	sudo=$([ "$(id -u)" = 0 ] || echo sudo)
	$sudo apt-get install -y --no-install-recommends mumble-server
fi
server=$(command -v murmurd || command -v mumble-server)

dir=$(mktemp -d)
pid=
cleanup() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

port=${MUMBLE_PORT:-64799}
cat >"$dir/server.ini" <<INI
database=$dir/mumble.sqlite
logfile=$dir/mumble.log
pidfile=
host=127.0.0.1
port=$port
users=10000
usersperchannel=0
# The limit is for 50 packets/s at the usual bit rates; it must not be what is measured.
bandwidth=100000000
autobanAttempts=0
autobanSuccessfulConnections=false
bonjour=false
allowping=false
INI
# Started by root it becomes the package's user.
[ "$(id -u)" != 0 ] || chown -R mumble-server "$dir"
taskset -c 0 "$server" -fg -ini "$dir/server.ini" >"$dir/out" 2>&1 &
pid=$!
for _ in $(seq 100); do
	if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then ready=yes; break; fi
	kill -0 "$pid" 2>/dev/null || break
	sleep 0.1
done
if [ -z "${ready:-}" ]; then
	cat "$dir/out" "$dir/mumble.log" >&2 2>/dev/null || true
	exit 1
fi

CGO_ENABLED=0 go build -trimpath -o "$dir/hubbub" ./cmd/hubbub
"$dir/hubbub" load --spawn --floor --mumble "127.0.0.1:$port" --mumble-pid "$pid" "$@"
