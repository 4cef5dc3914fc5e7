#!/usr/bin/env bash
# The dependencies: their licences, where they come from, and what is known against them. Needs no network.
#
#   METERGATE_ADVISORY_DB   a copy of the RustSec advisory database (default: ~/.cargo/advisory-db); without one the
#                           step says that it could not look there, and how many packages that leaves unchecked
set -euo pipefail

export PYTHONDONTWRITEBYTECODE=1
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# First that the check can fail at all.
python3 tests/dependencies/test_check.py

# Packages of other systems are not on this disk, so that nothing is known of their licences.
host="$(rustc -vV | sed -n 's/^host: //p')"
cargo metadata --locked --offline --format-version 1 --filter-platform "$host" >"$scratch/metadata.json"
python3 tests/dependencies/check.py "$scratch/metadata.json" Cargo.lock tests/dependencies/policy.toml
