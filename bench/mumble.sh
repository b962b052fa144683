#!/usr/bin/env bash
# Measures Hubbub, the minimal forwarders and Debian's mumble-server under one load, in turns:
# the servers on core 0, the load on core 1. Further flags go to hubbub load.
#
#   bench/mumble.sh --runs 3 --html /tmp/load.html
#   bench/mumble.sh --speakers 10 --listeners 100 --ramp
#   bench/mumble.sh --network                      # as root
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v murmurd mumble-server >/dev/null; then
	sudo=$([ "$(id -u)" = 0 ] || echo sudo)
	$sudo apt-get install -y --no-install-recommends mumble-server
fi
server=$(command -v murmurd || command -v mumble-server)

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
case " $* " in
*" --network "*) host=10.99.0.1 ;; # the servers' end of the cable
*) host=127.0.0.1 ;;
esac
port=${MUMBLE_PORT:-64799}
cat >"$dir/server.ini" <<INI
database=$dir/mumble.sqlite
logfile=$dir/mumble.log
pidfile=
host=$host
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
CGO_ENABLED=0 go build -trimpath -o "$dir/hubbub" ./cmd/hubbub
"$dir/hubbub" load --spawn --floor --mumble "$host:$port" --mumble-command "$server -fg -ini $dir/server.ini" "$@"
