#!/usr/bin/env bash
# Upstreams that break, made with mockttp, and the official OpenAI client for Node through the door. Fails where it cannot
# run.
#
#   tests/sdk/run_disconnects.sh [BINARY]     default: target/debug/metergate, built first
set -euo pipefail

openai_version=7.57.0
mockttp_version=4.6.5

here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."
for command in node npm; do
    command -v "$command" >/dev/null || { echo "$command is missing: the client cannot be tested" >&2; exit 1; }
done
if [ $# -ge 1 ]; then
    binary="$1"
else
    cargo build --locked --quiet --bin metergate
    binary="${CARGO_TARGET_DIR:-target}/debug/metergate"
fi

work="$(mktemp -d)"
node_pid="" door_pid=""
cleanup() {
    [ -z "$node_pid" ] || kill "$node_pid" 2>/dev/null || true
    [ -z "$door_pid" ] || kill "$door_pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

echo "installing openai $openai_version and mockttp $mockttp_version"
cp "$here/disconnects.mjs" "$work/"
echo '{"private": true, "type": "module"}' >"$work/package.json"
(cd "$work" && npm install --silent --no-audit --no-fund --ignore-scripts "openai@$openai_version" "mockttp@$mockttp_version")

export ADMIN_KEY=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
mkfifo "$work/url"
PORT_FILE="$work/port" timeout 60 node "$work/disconnects.mjs" <"$work/url" &
node_pid=$!
exec 3>"$work/url" # keeps it open until the address is known
for _ in $(seq 200); do [ -s "$work/port" ] && break; sleep 0.05; done
[ -s "$work/port" ] || { echo "the mock did not start" >&2; exit 1; }
cat >"$work/metergate.toml" <<TOML
[[upstream]]
name = "mock"
base_url = "http://127.0.0.1:$(cat "$work/port")/v1"
provider = "openai"
models = ["gpt-4o-mini"]
timeout_seconds = 2
TOML
METERGATE_ADMIN_KEY="$ADMIN_KEY" "$binary" serve --config "$work/metergate.toml" --data-dir "$work/data" \
    --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" 3>&- &
door_pid=$!
for _ in $(seq 200); do [ -s "$work/out" ] && break; sleep 0.05; done
url="$(sed -n '1s/^metergate is listening on //p' "$work/out")"
[ -n "$url" ] || { echo "metergate did not start:" >&2; cat "$work/log" >&2; exit 1; }
echo "$url" >&3
exec 3>&-
wait "$node_pid" || { status=$?; node_pid=""; cat "$work/log" >&2; exit "$status"; }
node_pid=""
