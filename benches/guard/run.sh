#!/usr/bin/env bash
# Counts the instructions of a decision and of a recorded event, and compares them with benches/guard/baseline.txt.
# Instructions do not depend on how busy the machine is.
#
#   benches/guard/run.sh            fails when a count is more than its tolerance above the baseline
#   benches/guard/run.sh --write    writes what is counted now as the baseline, to be committed with the reason
#
# Needs valgrind (Debian: valgrind). CARGO_TARGET_DIR says where to build, as always.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
baseline=benches/guard/baseline.txt
program="$(cargo build --quiet --locked --profile guard --bench guard --message-format json |
    sed -n 's/.*"name":"guard".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)"
[ -x "$program" ] || { echo "the guard was not built" >&2; exit 1; }
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# counted WORK ROUNDS: instructions of the whole process, all threads.
counted() {
    valgrind --tool=callgrind --callgrind-out-file="$scratch/out" "$program" "$@" 2>"$scratch/log" || {
        tail -n 20 "$scratch/log" >&2
        return 1
    }
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$scratch/log"
}

# each WORK FEW MANY: instructions of one round, start and stop left out.
each() {
    local few many
    few="$(counted "$1" "$2")"
    many="$(counted "$1" "$3")"
    echo $(((many - few) / ($3 - $2)))
}

declare -A now
now[decide]="$(each decide 20000 60000)"
now[record]="$(each record 20000 60000)"

if [ "${1:-}" = --write ]; then
    {
        echo "# Instructions a round, and by how many percent they may grow. Written by benches/guard/run.sh --write"
        echo "decide ${now[decide]} 3"
        echo "record ${now[record]} 3"
    } >"$baseline"
    cat "$baseline"
    exit
fi

worse=0
while read -r work wanted tolerance; do
    [[ "$work" != \#* ]] || continue
    found="${now[$work]}"
    percent="$(((found - wanted) * 1000 / wanted))"
    printf '%-8s %7d instructions, baseline %7d (%+d.%d %%, at most +%d %%)\n' \
        "$work" "$found" "$wanted" "$((percent / 10))" "$((${percent#-} % 10))" "$tolerance"
    if [ "$((found * 100))" -gt "$((wanted * (100 + tolerance)))" ]; then
        echo "$work got slower. If that is meant: benches/guard/run.sh --write, and commit the baseline with the reason." >&2
        worse=1
    elif [ "$((found * 100))" -lt "$((wanted * (100 - tolerance)))" ]; then
        echo "$work got faster: commit the new baseline that benches/guard/run.sh --write writes."
    fi
done <"$baseline"
exit "$worse"
