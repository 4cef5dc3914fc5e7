#!/usr/bin/env bash
# Every check of this repository, in one command: tests/run.sh
#
# Works from any folder. Needs a Rust toolchain; installs the Debian packages it lacks when it runs as root and
# otherwise says which. Everything is built in the dev profile: clippy and doc share one set of checked dependencies,
# build and test share one set of compiled ones.
#
#   METERGATE_LONG        set: the long version of seeded tests
#   METERGATE_TEST_DATA   the folder of real traces (default: ../shared/data beside the repository)
#   METERGATE_ADVISORY_DB a copy of the RustSec advisory database (tests/dependencies.sh)
#   CARGO_TARGET_DIR      where to build (default: target/)
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

# Settings of a metergate that lives on this machine must not reach the tests.
for name in $(compgen -e); do
    case "$name" in
        METERGATE_TEST_DATA | METERGATE_LONG | METERGATE_ADVISORY_DB) ;;
        METERGATE_* | CRON_SECRET) unset "$name" ;;
    esac
done

started=$SECONDS
step="start"
steps_done=0
scratch="$(mktemp -d)"
export METERGATE_SKIP_LOG="$scratch/skipped" # tests that did not run append one line each
: >"$METERGATE_SKIP_LOG"
export METERGATE_BARS_LOG="$scratch/bars" # safety tests append one line each, led by the number of their bar
: >"$METERGATE_BARS_LOG"

finish() {
    local status=$?
    rm -rf "$scratch"
    if [ "$status" -ne 0 ]; then
        echo
        echo "FAILED: $step"
    fi
}
trap finish EXIT
trap 'exit 130' INT TERM

# run NAME COMMAND...: a heading, the command, its duration.
run() {
    step="$1"
    shift
    local from=$SECONDS heading="== $step"
    [ "$1" != cargo ] || heading+=": $*"
    printf '\n%s\n' "$heading"
    "$@"
    steps_done=$((steps_done + 1))
    echo "== $step: ok, $((SECONDS - from)) s"
}

# ---- What the steps need ------------------------------------------------------------------------------------------

toolchain() {
    local wanted found
    wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        echo "Rust is not installed: install Rust $wanted or newer with its components rustfmt and clippy." >&2
        return 1
    fi
    found="$(rustc --version | cut -d ' ' -f 2)"
    if [ "$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        echo "Rust $found is too old: install $wanted or newer (rustup update)." >&2
        return 1
    fi
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        echo "rustfmt or clippy is missing: run 'rustup component add rustfmt clippy'." >&2
        return 1
    fi
    echo "rustc $found, $(nproc 2>/dev/null || echo '?') cores"
}

# need COMMAND PACKAGE...: notes the packages of a command that is not there.
missing=()
need() {
    command -v "$1" >/dev/null || missing+=("${@:2}")
}

packages() {
    need cc gcc libc6-dev # zstd and mimalloc are compiled from C
    need curl curl
    need python3 python3-minimal
    need node nodejs
    need npm npm
    need valgrind valgrind # counts instructions: benches/guard
    # Later parts add their own: a browser, PostgreSQL.
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    if [ "${#missing[@]}" -eq 0 ]; then
        echo "nothing is missing"
    elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing: ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "Packages are missing. Install them and run this again:" >&2
        echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        return 1
    fi
}

# Debian's own Node.js may be older than what the client and its tools need: then a pinned one comes from npm.
node_wanted=20
node_pinned=22.23.3
node_js() {
    local found arch
    found="$(node --version | sed 's/^v\([0-9]*\).*/\1/')"
    if [ "$found" -lt "$node_wanted" ]; then
        case "$(uname -m)" in
            x86_64) arch=x64 ;;
            aarch64 | arm64) arch=arm64 ;;
            *)
                echo "Node.js $found is too old, and none is known for $(uname -m): install Node.js $node_wanted or newer." >&2
                return 1
                ;;
        esac
        echo "Node.js $found is too old: taking $node_pinned"
        npm install --silent --no-audit --no-fund --prefix "$scratch/node" "node-linux-$arch@$node_pinned"
        export PATH="$scratch/node/node_modules/node-linux-$arch/bin:$PATH"
    fi
    echo "node $(node --version)"
}

# ---- Steps with more than one command -----------------------------------------------------------------------------

test_log="$scratch/test.log"
tests() {
    echo "cargo test --locked --no-fail-fast"
    cargo test --locked --no-fail-fast 2>&1 | tee "$test_log"
}

# Every order of a few threads over the counters, whose locks are the checker's in this build alone.
orders() {
    cargo test --locked --features model-check --lib order_tests -- --nocapture
}

documentation() {
    echo 'RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked'
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
}

# The client libraries against the server that was built above.
sdk() {
    local target="${CARGO_TARGET_DIR:-target}"
    METERGATE_BIN="$(cd "$target" && pwd)/debug/metergate" tests/sdk/run.sh
}

data="${METERGATE_TEST_DATA:-../shared/data}"
if [ -d "$data" ]; then
    METERGATE_TEST_DATA="$(cd "$data" && pwd)"
    export METERGATE_TEST_DATA
fi

run "toolchain" toolchain
run "packages" packages
run "node" node_js
run "format" cargo fmt --check
run "clippy" cargo clippy --all-targets --locked -- -D warnings
run "dependencies" tests/dependencies.sh
run "build" cargo build --locked --bin metergate
run "test" tests
run "thread orders" orders
run "doc" documentation
run "sdk" sdk
run "openai clients" tests/sdk/run_openai.sh
run "speed guard" benches/guard/run.sh
run "broken upstreams" tests/sdk/run_disconnects.sh
# ---- Later parts go here, each as one more `run NAME COMMAND`:
# run "browser" tests/browser/run.sh          the dashboard in a real browser
# run "postgres" tests/postgres/run.sh        the mirror against a real PostgreSQL

# ---- Summary ------------------------------------------------------------------------------------------------------

step="summary"
passed="$(awk '/^test result:/ { total += $4 } END { print total + 0 }' "$test_log")"
ignored="$(awk '/^test result:/ { total += $8 } END { print total + 0 }' "$test_log")"
skipped="$(wc -l <"$METERGATE_SKIP_LOG" | tr -d ' ')"
echo
echo "Safety, by the numbers of the bars:"
sort -V "$METERGATE_BARS_LOG" | sed 's/^/  /'
echo "OK: $steps_done steps, $passed tests passed, $ignored ignored, $((SECONDS - started)) s"
if [ ! -d "$data" ]; then
    echo "SKIPPED: the real traces are not here ($data): $skipped tests that need them did not run"
elif [ "$skipped" -gt 0 ]; then
    sort -u "$METERGATE_SKIP_LOG"
    echo "SKIPPED: $skipped tests did not run, see above"
fi
