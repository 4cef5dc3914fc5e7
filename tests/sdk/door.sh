# The metered door for clients that we did not write: a scratch folder, a mock upstream's address, a server in front of it.
# Sourced by the scripts beside it, which end when something is missing.

# The client under test for Node.js: one version for all of them.
openai_node_version=7.57.0
export ADMIN_KEY=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here/../.."
work="$(mktemp -d)"
children=()
cleanup() {
    [ "${#children[@]}" -eq 0 ] || kill "${children[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

# need COMMAND...: ends where one is missing.
need() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || { echo "$command is missing: the clients cannot be tested" >&2; exit 1; }
    done
}

# binary_of [BINARY]: sets `binary` to the server to test; built where none is named.
binary_of() {
    if [ $# -ge 1 ]; then
        binary="$1"
    else
        cargo build --locked --quiet --bin metergate
        binary="${CARGO_TARGET_DIR:-target}/debug/metergate"
    fi
}

# install_node SCRIPT PACKAGE@VERSION...: a folder with the script and its packages, as $work/node.
install_node() {
    mkdir "$work/node"
    cp "$here/$1" "$work/node/"
    echo '{"private": true, "type": "module"}' >"$work/node/package.json"
    (cd "$work/node" && npm install --silent --no-audit --no-fund --ignore-scripts "${@:2}")
}

# written FILE WHAT: waits until there is something in it.
written() {
    for _ in $(seq 200); do [ -s "$1" ] && return; sleep 0.05; done
    echo "$2 did not start" >&2
    [ ! -e "$work/log" ] || cat "$work/log" >&2
    exit 1
}

# open_door SETTING...: a server whose only upstream is the mock that wrote its port into $work/port; sets DOOR_URL.
open_door() {
    written "$work/port" "the mock upstream"
    {
        printf '[[upstream]]\nname = "mock"\nbase_url = "http://127.0.0.1:%s/v1"\nprovider = "openai"\n' "$(cat "$work/port")"
        printf '%s\n' "$@"
    } >"$work/metergate.toml"
    METERGATE_ADMIN_KEY="$ADMIN_KEY" "$binary" serve --config "$work/metergate.toml" --data-dir "$work/data" \
        --listen 127.0.0.1:0 >"$work/out" 2>"$work/log" 3>&- &
    children+=($!)
    written "$work/out" metergate
    DOOR_URL="$(sed -n '1s/^metergate is listening on //p' "$work/out")"
    export DOOR_URL
}
