#!/usr/bin/env bash
# Upstreams that break, made with mockttp, and the official OpenAI client for Node through the door. Fails where it cannot
# run.
#
#   tests/sdk/run_disconnects.sh [BINARY]     default: target/debug/metergate, built first
set -euo pipefail
source "$(dirname "$0")/door.sh"

mockttp_version=4.6.5

need node npm
binary_of "$@"
echo "installing openai $openai_node_version and mockttp $mockttp_version"
install_node disconnects.mjs "openai@$openai_node_version" "mockttp@$mockttp_version"

# The script is mock and client in one: it tells its port, and is told where the door is.
mkfifo "$work/url"
PORT_FILE="$work/port" timeout 60 node "$work/node/disconnects.mjs" <"$work/url" &
script=$!
children+=("$script")
exec 3>"$work/url" # keeps it open until the address is known
open_door 'models = ["gpt-4o-mini"]' 'timeout_seconds = 2'
echo "$DOOR_URL" >&3
exec 3>&-
wait "$script" || { status=$?; cat "$work/log" >&2; exit "$status"; }
