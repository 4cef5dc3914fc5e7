#!/usr/bin/env bash
# The official OpenAI clients for Python and Node through the door, against a mock upstream. Fails where it cannot run.
#
#   tests/sdk/run_openai.sh [BINARY]     default: target/debug/metergate, built first
set -euo pipefail

python_version=3.57.0
node_version=7.57.0

here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."
for command in python3 node npm curl; do
    command -v "$command" >/dev/null || { echo "$command is missing: the clients cannot be tested" >&2; exit 1; }
done
if [ $# -ge 1 ]; then
    binary="$1"
else
    cargo build --locked --quiet --bin metergate
    binary="${CARGO_TARGET_DIR:-target}/debug/metergate"
fi

work="$(mktemp -d)"
mock_pid="" door_pid=""
cleanup() {
    [ -z "$door_pid" ] || kill "$door_pid" 2>/dev/null || true
    [ -z "$mock_pid" ] || kill "$mock_pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

echo "installing openai $python_version (Python) and $node_version (Node)"
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check "openai==$python_version"
mkdir "$work/node"
cp "$here/openai_node.mjs" "$work/node/"
echo '{"private": true, "type": "module"}' >"$work/node/package.json"
(cd "$work/node" && npm install --silent --no-audit --no-fund --ignore-scripts "openai@$node_version")

python3 "$here/mock_upstream.py" >"$work/port" &
mock_pid=$!
for _ in $(seq 200); do [ -s "$work/port" ] && break; sleep 0.05; done
cat >"$work/metergate.toml" <<TOML
[[upstream]]
name = "mock"
base_url = "http://127.0.0.1:$(cat "$work/port")/v1"
provider = "openai"
models = ["gpt-4o-mini", "text-embedding-3-small"]
TOML

export ADMIN_KEY=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
METERGATE_ADMIN_KEY="$ADMIN_KEY" "$binary" serve --config "$work/metergate.toml" --data-dir "$work/data" \
    --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" &
door_pid=$!
for _ in $(seq 200); do [ -s "$work/out" ] && break; sleep 0.05; done
DOOR_URL="$(sed -n '1s/^metergate is listening on //p' "$work/out")"
[ -n "$DOOR_URL" ] || { echo "metergate did not start:" >&2; cat "$work/log" >&2; exit 1; }
export DOOR_URL

admin() { # METHOD PATH BODY
    curl --silent --show-error --fail -X "$1" "$DOOR_URL$2" -H "authorization: Bearer $ADMIN_KEY" \
        -H 'content-type: application/json' -d "$3"
}
key_of() { # TENANT
    admin POST /api/admin/keys "{\"name\": \"$1\", \"role\": \"service\", \"tenants\": [\"$1\"]}" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])'
}
run() { # NAME COMMAND...
    local name="$1"
    shift
    admin PUT "/api/admin/tenants/$name" '{"plan": "pro"}' >/dev/null
    admin PUT "/api/admin/tenants/poor-$name" '{}' >/dev/null
    admin PUT "/api/admin/tenants/poor-$name/quotas/tokens" '{"limit": 1, "reason": "a budget that is used up"}' >/dev/null
    TENANT_KEY="$(key_of "$name")" POOR_KEY="$(key_of "poor-$name")" timeout 120 "$@"
}
run python "$work/python/bin/python" "$here/openai_python.py"
run node node "$work/node/openai_node.mjs"
