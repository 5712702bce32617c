# What the scripts of all services share. Sourced, not run.
#
# A service lives in DIR/<service>/: its settings, data, logs/, and one <process>.pid for each process.
# DIR/<service>/ports holds its addresses, so that a restart takes the same ones. Nothing else is written,
# except the jars, which are kept between runs in $SERVICES_CACHE.

SERVICES_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SERVICES_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/traffic-services

# Small heaps and the first compiler only: a start costs two to three seconds of CPU.
JVM_FLAGS=(-Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData
    -Djava.net.preferIPv4Stack=true)

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# jars NAME: the folder with the jars that NAME/pom.xml asks for, downloaded once for each state of that file.
jars() {
    local pom=$SERVICES_SRC/$1/pom.xml folder partial
    folder=$SERVICES_CACHE/$1-$(sha256sum "$pom" | cut -c1-12)
    if [ ! -d "$folder" ]; then
        mkdir -p "$SERVICES_CACHE"
        (
            flock 9
            [ -d "$folder" ] && exit 0
            echo "downloading the jars of $1 into $folder" >&2
            partial=$(mktemp -d "$SERVICES_CACHE/$1.XXXXXX")
            if ! mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$partial" -DincludeScope=runtime >&2
            then
                rm -rf "$partial"
                die "cannot download the jars of $1 (is Maven Central reachable?)"
            fi
            mv "$partial" "$folder"
        ) 9>"$SERVICES_CACHE/$1.lock" || exit 1
    fi
    echo "$folder"
}

# free_port DIR: a port that nobody listens on and no other service in DIR was given. Below the range
# from which the system takes the ports of outgoing connections.
free_port() {
    local port
    mkdir -p "$1/.ports"
    for _ in $(seq 200); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && mkdir "$1/.ports/$port" 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "no free port found between 20000 and 32000"
}

# launch HOME PROCESS COMMAND…: starts it in a session of its own, so that a Ctrl-C at the terminal does not
# reach it, with HOME/PROCESS.pid and HOME/logs/PROCESS.log.
launch() {
    local home=$1 process=$2
    shift 2
    mkdir -p "$home/logs"
    # The pid is written by the process itself before it becomes the service: there is no moment without it.
    PIDFILE=$home/$process.pid setsid bash -c 'echo $$ > "$PIDFILE"; exec "$@"' launch "$@" \
        >>"$home/logs/$process.log" 2>&1 </dev/null 9>&- &
    disown
    until [ -s "$home/$process.pid" ]; do sleep 0.01; done
}

# mark HOME PROCESS: from now on `logged` looks at what the process says from here on.
mark() { MARK=$(stat -c %s "$1/logs/$2.log" 2>/dev/null || echo 0); }

# logged HOME PROCESS TEXT: whether the process has said TEXT since the mark. All of it is read: a grep that ended at the
# first match would end tail by SIGPIPE, which fails the pipe, wherever more than a pipe's buffer follows.
logged() { tail -c "+$((MARK + 1))" "$1/logs/$2.log" 2>/dev/null | grep -F -- "$3" >/dev/null; }

# pid HOME PROCESS: its pid, if it runs; the command line must name HOME, since pids are used again.
pid() {
    local pid
    pid=$(cat "$1/$2.pid" 2>/dev/null) || return 1
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$1" && echo "$pid"
}

# stop HOME PROCESS SIGNAL: sends it and waits until the process is gone, 15 s at most, then kills it.
stop() {
    local pid
    pid=$(pid "$1" "$2") || { rm -f "$1/$2.pid"; return 0; }
    # A frozen process hears of nothing but SIGKILL until it is thawed.
    kill "-$3" "$pid" 2>/dev/null && kill -CONT "$pid" 2>/dev/null || true
    for _ in $(seq 150); do
        gone "$pid" && break
        sleep 0.1
    done
    gone "$pid" || { echo "$2 did not stop on SIG$3; killing it" >&2; kill -KILL "$pid" 2>/dev/null || true; }
    rm -f "$1/$2.pid"
}

# A zombie that nobody has waited for yet is gone too, but only once its other threads are: while one of them
# is still dying, the process holds its ports and files.
gone() {
    local state threads
    state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
    threads=("/proc/$1/task/"*)
    [ -z "$state" ] || { [ "${state%% *}" = Z ] && [ ${#threads[@]} -le 1 ]; }
}

# await HOME PROCESS WHAT CONDITION…: polls the condition for up to 60 s, as long as the process lives.
await() {
    local home=$1 process=$2 what=$3
    shift 3
    for _ in $(seq 600); do
        "$@" && return 0
        if ! pid "$home" "$process" >/dev/null && [ -s "$home/$process.pid" ]; then
            tail -n 20 "$home/logs/$process.log" >&2
            die "$process has ended before $what"
        fi
        sleep 0.1
    done
    tail -n 20 "$home/logs/$process.log" >&2
    die "$process: no sign of $what within 60 s"
}
