#!/usr/bin/env bash
# Proves that the tests of safety can fail: each mutation below breaks one promise, and the test named with it must find it.
# A test is a filter of tests/crash, or TARGET/FILTER; the target `orders` is the check of thread orders. Runs on a
# temporary copy; a mutation that survives, or does not apply, fails the script. `tests/mutations.sh NAME...`
# runs only those.
set -uo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
survived=0

# name | what it breaks | file | sed script | test
mutations() {
    cat <<'LIST'
durability_none|an acknowledged commit is not synced|src/store/mod.rs|/pub fn begin/,/^    }/s/Durability::Immediate/Durability::None/|crash_images::a_crash
false_ack|a failed commit is acknowledged|src/writer/thread.rs|s/if let Err(error) = transaction.commit() {/if let Err(error) = transaction.commit().or(Ok::<(), StoreError>(())) {/|failing_syncs
settlement_dropped|a settlement does not reach the journal|src/store/journal.rs|s/encode_operations(&commit.operations)/encode_operations(\&commit.operations.iter().filter(\|placed\| !matches!(placed.operation, Operation::Settle { .. })).cloned().collect::<Vec<_>>())/|crash_images::a_crash
merkle_node_skipped|a node of the audit tree is not written|src/store/audit_tree.rs|s/self.nodes.insert(place, hash)?;/if place.1 % 2 == 0 { self.nodes.insert(place, hash)?; }/|crash_images::a_crash
believed_landed|a failed commit is taken for one that is on disk|src/writer/recovery.rs|s/(Some(_), true) => last == seq/(Some(_), true) => true/|failing_syncs
believed_lost|a failed commit that is on disk is taken for lost|src/writer/recovery.rs|s/(Some(_), true) => last == seq/(Some(_), true) => false/|failing_syncs
journal_cut_early|the journal goes before the counters are saved|src/writer/filer.rs|s/checkpoint.filed_seq.min(checkpoint.state_seq)/checkpoint.filed_seq.max(checkpoint.state_seq)/|crash_images::a_crash
not_reopened|a store that failed stays closed|src/writer/recovery.rs|s/shared.store.install(reopened);/drop(reopened);/|failing_syncs
full_is_down|a full disk stops reads and releases|src/writer/answers.rs|s/StoreError::Full(_) => (Trouble::Full(reason.clone()), WriteError::Full(reason)),/StoreError::Full(_) => (Trouble::Broken(reason.clone()), WriteError::Full(reason)),/|full_disk
alone_is_forgotten|a grant of memory alone never reaches the disk|src/writer/health.rs|s/std::mem::take(&mut self.unjournaled.lock())/Vec::new()/|dead_disk
refused_when_open|memory does not decide alone although it is to|src/engine/mod.rs|s/grants_without_store: settings.on_storage_failure == OnStorageFailure::Open/grants_without_store: false/|dead_disk
acked_early|events are acknowledged before their commit|src/writer/thread.rs|s/answers.push(Answer::Recorded { outcomes, settles: settles.is_some(), promise });/keep(promise, super::Recorded { outcomes, settled: None });/|kills/r3_kills
role_forgotten|a route asks for no role|src/http/routes/mod.rs|s#"GET" "/api/usage/{tenant}/events" Viewer#"GET" "/api/usage/{tenant}/events" Open#|roles/without_a_key
taken_later|what fits is decided under one lock and taken under another|src/counters/step.rs|/pub fn take/,/^    }/s/let mut state = self.lock();/let copy = self.lock().clone(); let mut state = self.lock(); *state = copy;/|orders/order_tests
LIST
}

while IFS='|' read -r name breaks file rest; do
    test="${rest##*|}"
    script="${rest%|*}"
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    (cd "$root" && git ls-files -z --cached --others --exclude-standard) |
        (cd "$root" && tar --null --files-from=- -cf -) | tar -xf - -C "$copy"
    sed -i "$script" "$copy/$file"
    if cmp -s "$root/$file" "$copy/$file"; then
        echo "mutation $name: DOES NOT APPLY to $file"
        survived=1
        continue
    fi
    target=(--test crash)
    if [[ "$test" == */* ]]; then
        target=(--test "${test%%/*}")
        [ "${test%%/*}" != orders ] || target=(--features model-check --lib)
        test="${test#*/}"
    fi
    log="$copy/mutation.log"
    if ! (cd "$copy" && cargo test --quiet "${target[@]}" --no-run) >"$log" 2>&1; then
        echo "mutation $name: DOES NOT COMPILE"
        tail -20 "$log"
        survived=1
    else
        (cd "$copy" && timeout 900 cargo test --quiet "${target[@]}" "$test") >"$log" 2>&1
        case $? in
        0)
            echo "mutation $name: SURVIVED ($breaks; $test)"
            survived=1
            ;;
        124)
            echo "mutation $name: NO ANSWER within 15 minutes ($breaks; $test)"
            survived=1
            ;;
        *)
            echo "mutation $name: caught by $test ($breaks)"
            grep -m 1 -A 1 'panicked at' "$log"
            ;;
        esac
    fi
done < <(mutations)
exit "$survived"
