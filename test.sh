#!/usr/bin/env bash
# Everything that has to hold: format, lints, tests against a real Kafka, HDFS, PostgreSQL, Hive metastore and
# KDC, the README's demo.
#
#   ./test.sh            all of it; installs what is missing with apt (Debian)
#   ./test.sh --quick    without the services and the tests that need them
#   ./test.sh --long     the week instead of a day, the tests of faults on a cluster of three brokers, and Spark as a
#                        reader of the archive (700 MB of packages): half an hour more
#   ./test.sh --help
#
# Services run on free ports, with everything they write in one temporary directory, and are stopped at the
# end, on failure and on Ctrl-C. Jars and Python packages are kept in ~/.cache.
# TRAFFIC_DATA=FOLDER adds the tests on the research data (METR-LA).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=$PWD
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
BEGAN=$SECONDS
QUICK= LONG=

for argument in "$@"; do
    case $argument in
        --quick) QUICK=1 ;;
        --long) LONG=1 ;;
        --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' test.sh; exit 0 ;;
        *) echo "test.sh: unknown argument $argument (see --help)" >&2; exit 2 ;;
    esac
done

[ -z "$QUICK" ] || [ -z "$LONG" ] || { echo "test.sh: --quick and --long: give one" >&2; exit 2; }

# ---- what must be there -------------------------------------------------------------------------------

java_is_new_enough() {
    local version
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ]
}

# Debian's python3 may come without the module that makes virtual environments.
python_has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

missing_packages() {
    command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null || echo build-essential
    command -v perl >/dev/null || echo perl
    command -v curl >/dev/null || echo curl
    python_has_venv || echo python3-venv
    [ -z "$QUICK" ] || return 0
    java_is_new_enough || echo default-jre-headless
    command -v mvn >/dev/null || echo maven
    command -v openssl >/dev/null || echo openssl
    command -v flock >/dev/null || echo util-linux
    # A realm for HDFS with Kerberos, and the library by which the workers speak it; Debian keeps a KDC where users do not look.
    PATH=$PATH:/usr/sbin command -v krb5kdc >/dev/null || echo krb5-kdc
    PATH=$PATH:/usr/sbin command -v kadmin.local >/dev/null || echo krb5-admin-server
    command -v kinit >/dev/null && command -v klist >/dev/null || echo krb5-user
    PATH=$PATH:/usr/sbin:/sbin ldconfig -p | grep 'libgssapi_krb5\.so\.2' >/dev/null || echo libgssapi-krb5-2
    ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || echo postgresql
}

install_missing() {
    local missing as_root=()
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "missing: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo); else cannot_install "${missing[@]}"; fi
    fi
    command -v apt-get >/dev/null || cannot_install "${missing[@]}"
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" ||
        cannot_install "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -eq 0 ] || cannot_install "${missing[@]}"
}

cannot_install() {
    echo "test.sh: these Debian packages, or what they provide, are missing and could not be installed: $*" >&2
    echo "  as root: apt-get install $*   (Java 17 or newer, if that is among them)" >&2
    [ -n "$QUICK" ] || echo "  without Java and Maven: ./test.sh --quick" >&2
    exit 1
}

require_rust() {
    command -v cargo >/dev/null && return
    echo "test.sh: there is no Rust: install it from https://rustup.rs, version and parts are in rust-toolchain.toml" >&2
    exit 1
}

# ---- stages and services ------------------------------------------------------------------------------

stage() {
    local name=$1 began=$EPOCHREALTIME
    shift
    printf '\n== %s\n' "$name"
    STAGE=$name
    "$@"
    TIMES+=("$(awk -v a="$began" -v b="$EPOCHREALTIME" -v n="$name" 'BEGIN { printf "%7.1f s  %s", b - a, n }')")
    STAGE=
}

start_services() {
    # A session of its own: a Ctrl-C at the terminal reaches this script, which then ends that session.
    setsid tests/services/services.sh start "$DIR/services" >"$DIR/services.env" 2>"$DIR/services.log" &
    STARTING=$!
}

await_services() {
    if ! wait "$STARTING"; then
        STARTING=
        cat "$DIR/services.log" >&2
        return 1
    fi
    STARTING=
    cat "$DIR/services.env"
    . "$DIR/services.env"
}

# Runs once, however the script ends.
finish() {
    local status=$?
    trap - EXIT INT TERM HUP
    set +e
    if [ -n "${STARTING:-}" ]; then
        kill -TERM -- "-$STARTING" 2>/dev/null
        wait "$STARTING" 2>/dev/null
    fi
    case $status-${STAGE:-} in 0-* | 130-* | 143-*) ;; *-services | *-tests) tests/services/services.sh logs "$DIR/services" 2>/dev/null | cut -c1-240 ;; esac
    [ -n "$QUICK" ] || tests/services/services.sh stop "$DIR/services"
    [ ${#TIMES[@]} -eq 0 ] || printf '\n%s\n' "$(printf '%s\n' "${TIMES[@]}")"
    if [ "$status" = 0 ]; then
        rm -rf "$DIR"
        echo "./test.sh: all passed in $((SECONDS - BEGAN)) s"
    elif [ "$status" = 130 ] || [ "$status" = 143 ]; then
        rm -rf "$DIR"
        echo "./test.sh: interrupted after $((SECONDS - BEGAN)) s" >&2
    else
        rm -f "$DIR/running"
        printf '\n./test.sh: FAILED%s after %s s; logs are kept in %s\n' \
            "${STAGE:+ in stage \"$STAGE\"}" "$((SECONDS - BEGAN))" "$DIR" >&2
    fi
    exit "$status"
}

# What a run that was killed has left: its services are stopped, its directory is removed.
sweep() {
    local left
    for left in "${TMPDIR:-/tmp}"/traffic-test.*/; do
        [ -O "$left" ] && [ -f "$left/running" ] && ! kill -0 "$(cat "$left/running")" 2>/dev/null || continue
        tests/services/services.sh stop "${left}services" || true
        rm -rf "$left"
    done
}

# ---- stages -------------------------------------------------------------------------------------------

lint() {
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
}

licences() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny check bans licenses sources
    else
        echo "skipped: cargo-deny is not installed"
    fi
}

# The binaries too: tests of whole processes run them.
build() {
    cargo build --workspace
    cargo test --workspace --lib --bins --tests --no-run
}

unit_and_integration() {
    cargo test --workspace --lib --bins --tests --no-fail-fast
    cargo test --workspace --doc
}

# One cluster for all of them, which ends with their process.
cluster() { cargo test --workspace --test cluster -- --ignored --test-threads=1; }

# python_with NAME FILE…: a Python with the packages of the first FILE, which may name the others; installed once for each
# state of them.
python_with() {
    local venv
    venv=$CACHE/$1-$(cat "${@:2}" | sha256sum | cut -c1-12)
    if [ ! -f "$venv/complete" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$2"
        touch "$venv/complete"
    fi
    echo "$venv/bin/python"
}

readers() {
    READER=$(python_with traffic-readers tests/readers/requirements.txt)
    [ -z "$LONG" ] || SPARK=$(python_with traffic-spark tests/readers/requirements-spark.txt tests/readers/requirements.txt)
    [ -z "$LONG" ] || HIVE_CLIENT=$(tests/services/hive.sh client)
}

# The README's first command, as a new user runs it, in the profile that the tests have built.
demo() {
    local work=$DIR/demo
    mkdir -p "$work"
    # In a directory of its own: it writes where it stands.
    (cd "$work" && env -u TRAFFIC_QUICK "$TARGET/debug/traffic" demo --hours 3 --speed max --seed 7 --json >summary.json)
    cat "$work/summary.json"
    "$READER" tests/readers/check_demo.py "$work/summary.json" "$work"
}

# ---- run ----------------------------------------------------------------------------------------------

TIMES=()
STAGE=prerequisites
install_missing
require_rust
sweep
DIR=$(mktemp -d "${TMPDIR:-/tmp}/traffic-test.XXXXXX")
echo $$ >"$DIR/running"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -n "$LONG" ]; then export TRAFFIC_TEST_LONG=1; fi
if [ -n "$QUICK" ]; then export TRAFFIC_QUICK=1; else unset TRAFFIC_QUICK; start_services; fi
stage "format and lints" lint
stage "licences" licences
stage "build" build
[ -n "$QUICK" ] || stage "services" await_services
stage "readers" readers
export TRAFFIC_TEST_PYTHON=$READER
[ -z "$LONG" ] || export TRAFFIC_TEST_SPARK=$SPARK TRAFFIC_TEST_HIVE_CLIENT=$HIVE_CLIENT
stage "tests" unit_and_integration
[ -z "$LONG" ] || stage "cluster" cluster
stage "demo" demo
