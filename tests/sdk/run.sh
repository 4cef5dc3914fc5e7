#!/usr/bin/env bash
# The client libraries against a real server: tests/sdk/run.sh
#
# Installs the pinned tools of clients/typescript, lints, checks types, builds ESM and CommonJS, and runs the tests.
# What cannot run fails: nothing is skipped.
#
#   METERGATE_BIN      a server that is built already (default: built here, in the dev profile)
#   CARGO_TARGET_DIR   where to build it (default: target/)
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
client="$root/clients/typescript"
node_wanted=20

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "Node.js is not installed: install Node.js $node_wanted or newer with npm." >&2
    exit 1
fi
node_found="$(node --version | sed 's/^v\([0-9]*\).*/\1/')"
if [ "$node_found" -lt "$node_wanted" ]; then
    echo "Node.js $(node --version) is too old: install $node_wanted or newer." >&2
    exit 1
fi

if [ -z "${METERGATE_BIN:-}" ]; then
    (cd "$root" && cargo build --locked --bin metergate)
    target="${CARGO_TARGET_DIR:-$root/target}"
    case "$target" in /*) ;; *) target="$root/$target" ;; esac
    METERGATE_BIN="$target/debug/metergate"
fi
if [ ! -x "$METERGATE_BIN" ]; then
    echo "METERGATE_BIN is no program: $METERGATE_BIN" >&2
    exit 1
fi
METERGATE_BIN="$(cd "$(dirname "$METERGATE_BIN")" && pwd)/$(basename "$METERGATE_BIN")"
export METERGATE_BIN

results="$(mktemp)"
trap 'rm -f "$results"' EXIT

cd "$client"
npm ci --no-audit --no-fund --ignore-scripts
npm run --silent build
npm run --silent lint
npm run --silent typecheck
npm run --silent test -- --test-reporter=spec --test-reporter-destination=stdout \
    --test-reporter=tap --test-reporter-destination="$results"

# A test that did not run is not a test that passed.
passed="$(sed -n 's/^# pass //p' "$results")"
left_out="$(sed -n 's/^# \(cancelled\|skipped\|todo\) //p' "$results" | paste -sd+ - | sed 's/^$/0/')"
if [ "${passed:-0}" -eq 0 ] || [ "$((left_out))" -ne 0 ]; then
    echo "FAILED: $passed tests passed, $((left_out)) did not run" >&2
    exit 1
fi
echo "OK: $passed tests of the TypeScript client passed"
