#!/usr/bin/env bash
# A PostgreSQL server, for tests.
#
#   postgres.sh start DIR       starts it, or starts it again with its data and port; returns once it serves
#   postgres.sh stop|kill DIR   fast shutdown | SIGKILL of all its processes; returns once it is gone
#   postgres.sh freeze|thaw DIR SIGSTOP | SIGCONT of all its processes
#   postgres.sh env DIR         what tests need to know, as `export` lines
#   postgres.sh prepare         nothing: the server is Debian's
#
# Over TCP it wants a password (user postgres, password test-secret), as servers of value do.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

BIN=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
PASSWORD=test-secret

# The server refuses to run as root.
AS=()
if [ "$(id -u)" = 0 ]; then AS=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi

configure() {
    local parent
    mkdir -p "$HOME_DIR/logs"
    PORT=$(free_port "$DIR")
    echo "$PASSWORD" >"$HOME_DIR/password"
    if [ ${#AS[@]} -gt 0 ]; then
        chown -R postgres "$HOME_DIR"
        # Every folder on the way must let it through.
        parent=$DIR
        while [ "$parent" != / ]; do
            "${AS[@]}" test -x "$parent" || chmod o+x "$parent"
            parent=$(dirname "$parent")
        done
    fi
    "${AS[@]}" "$BIN/initdb" -D "$HOME_DIR/data" -U postgres --auth-local=trust --auth-host=scram-sha-256 \
        --pwfile="$HOME_DIR/password" -E UTF8 --locale=C.UTF-8 --no-sync >"$HOME_DIR/logs/initdb.log" 2>&1 ||
        { cat "$HOME_DIR/logs/initdb.log" >&2; die "cannot make the database cluster"; }
    cat >>"$HOME_DIR/data/postgresql.conf" <<X
listen_addresses = '127.0.0.1'
port = $PORT
unix_socket_directories = '$HOME_DIR'
max_connections = 100
shared_buffers = 64MB
# A kill of the server loses nothing without syncing: the system lives on, and so do its pages.
fsync = off
full_page_writes = off
log_min_messages = warning
X
    echo "PORT=$PORT" >"$HOME_DIR/ports"
}

serves() { "$BIN/pg_isready" -q -h 127.0.0.1 -p "$PORT" -t 1; }

start() {
    [ -n "$BIN" ] || die "PostgreSQL is not installed: apt-get install postgresql"
    pid "$HOME_DIR" postmaster >/dev/null && return
    [ -f "$HOME_DIR/ports" ] || { rm -rf "$HOME_DIR"; configure; }
    . "$HOME_DIR/ports"
    launch "$HOME_DIR" postmaster "${AS[@]}" "$BIN/postgres" -D "$HOME_DIR/data"
    await "$HOME_DIR" postmaster "its start" serves
}

# The postmaster and its children, which are in sessions of their own.
processes() {
    local postmaster
    postmaster=$(pid "$HOME_DIR" postmaster) || return 0
    echo "$postmaster"
    cat "/proc/$postmaster/task/$postmaster/children" 2>/dev/null | tr ' ' '\n'
}

signal() {
    local pid
    for pid in $(processes); do kill "-$1" "$pid" 2>/dev/null || true; done
}

# The children must go too: a new server finds the old ones' shared memory in use otherwise.
kill_all() {
    local pids pid
    pids=$(processes)
    for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
    stop "$HOME_DIR" postmaster KILL
    for pid in $pids; do
        for _ in $(seq 150); do gone "$pid" && break; sleep 0.1; done
    done
    # A killed server that nobody has waited for still counts as one that runs.
    rm -f "$HOME_DIR/data/postmaster.pid" "$HOME_DIR"/.s.PGSQL.*
}

print_env() {
    . "$HOME_DIR/ports"
    echo "export TRAFFIC_TEST_POSTGRES=postgres://postgres:$PASSWORD@127.0.0.1:$PORT/postgres"
}

command=${1:-} DIR=${2:-}
[ "$command" = prepare ] || [ -n "$DIR" ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
HOME_DIR=$DIR/postgres
case $command in
    prepare) [ -n "$BIN" ] || die "PostgreSQL is not installed: apt-get install postgresql" ;;
    start) start ;;
    # SIGINT: sessions are ended, not waited for.
    stop) signal CONT; stop "$HOME_DIR" postmaster INT ;;
    kill) kill_all ;;
    freeze) signal STOP ;;
    thaw) signal CONT ;;
    env) print_env ;;
    *) die "unknown command: $command" ;;
esac
