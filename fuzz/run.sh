#!/usr/bin/env bash
# Fuzzes the parser of events, without cargo-fuzz.
#
#   fuzz/run.sh [SECONDS]     an hour unless told otherwise; what it finds grows a corpus outside the repository
#   fuzz/run.sh minimise      keeps, of that corpus, a smallest set with the same coverage in fuzz/corpus/event
#
# Needs a nightly toolchain. A payload that breaks a property ends the run and is left in $WORK/artifacts: put it
# into fuzz/corpus/event, where `cargo test -p common properties` sees it too, and mend the parser.
set -euo pipefail
cd "$(dirname "$0")"

WORK=${TRAFFIC_FUZZ_DIR:-${TMPDIR:-/tmp}/traffic-fuzz}
HOST=$(rustc +nightly -vV | sed -n 's/^host: //p')
mkdir -p "$WORK/corpus" "$WORK/artifacts"

build() {
    local coverage="-Cpasses=sancov-module --cfg fuzzing" option
    for option in level=4 inline-8bit-counters pc-table trace-compares; do
        coverage+=" -Cllvm-args=-sanitizer-coverage-$option"
    done
    RUSTFLAGS=$coverage CARGO_TARGET_DIR=$WORK/target cargo +nightly build --locked --release --target "$HOST"
}

# The goldens' payloads, a file each, as further seeds.
seeds() {
    rm -rf "$WORK/seeds"
    mkdir -p "$WORK/seeds"
    find ../common/tests/goldens -name '*.ndjson' ! -name '*.expected.*' -exec cat {} + | split -l 1 -a 4 - "$WORK/seeds/"
}

build
FUZZER=$WORK/target/$HOST/release/event
if [ "${1:-}" = minimise ]; then
    # Beside a run that goes on, files come and go: a copy.
    rm -rf "$WORK/minimal" "$WORK/copy"
    mkdir "$WORK/minimal" "$WORK/copy"
    cp corpus/event/* "$WORK/copy/"
    cp -r "$WORK/corpus/." "$WORK/copy/"
    "$FUZZER" -set_cover_merge=1 -use_counters=0 -use_cmp=0 "$WORK/minimal" "$WORK/copy"
    rm -rf corpus/event
    mv "$WORK/minimal" corpus/event
else
    seeds
    exec "$FUZZER" -dict=event.dict -max_len=2048 -timeout=5 -max_total_time="${1:-3600}" -print_final_stats=1 \
        -artifact_prefix="$WORK/artifacts/" "$WORK/corpus" corpus/event "$WORK/seeds"
fi
