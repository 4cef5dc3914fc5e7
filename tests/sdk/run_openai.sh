#!/usr/bin/env bash
# The official OpenAI clients for Python and Node through the door, against a mock upstream. Fails where it cannot run.
#
#   tests/sdk/run_openai.sh [BINARY]     default: target/debug/metergate, built first
set -euo pipefail
source "$(dirname "$0")/door.sh"

openai_python_version=3.57.0

need python3 node npm curl
binary_of "$@"
echo "installing openai $openai_python_version (Python) and $openai_node_version (Node)"
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check "openai==$openai_python_version"
install_node openai_node.mjs "openai@$openai_node_version"

python3 "$here/mock_upstream.py" >"$work/port" &
children+=($!)
open_door 'models = ["gpt-4o-mini", "text-embedding-3-small"]'

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
