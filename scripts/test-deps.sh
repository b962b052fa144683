#!/usr/bin/env bash
# Installs what only tests need, where it is missing: Debian's browsers, a sound
# server (Firefox runs no AudioContext without a device), PostgreSQL for the tests of
# a fleet, ip and nft for what happens to its network, and the npm packages of the web
# app and of the third-party clients.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v firefox-esr >/dev/null || missing+=(firefox-esr)
command -v pulseaudio >/dev/null || missing+=(pulseaudio)
command -v pacat >/dev/null || missing+=(pulseaudio-utils)
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v ip >/dev/null || missing+=(iproute2)
command -v nft >/dev/null || missing+=(nftables)
if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "please install: ${missing[*]}" >&2
    exit 1
  fi
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${missing[@]}" >/dev/null
fi

# npm ci runs again only when the lock file changed since the last time.
install() { # DIRECTORY
  local stamp="$1/node_modules/.lock-sum" sum
  sum=$(sha256sum <"$1/package-lock.json")
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$sum" ]; then
    (cd "$1" && npm ci --no-audit --no-fund --loglevel=error)
    echo "$sum" >"$stamp"
  fi
}
install web &
web=$!
install test/discordjs
wait $web
