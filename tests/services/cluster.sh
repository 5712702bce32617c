#!/usr/bin/env bash
# Three Kafka brokers, each a controller too, for tests of what one broker alone can not go through.
#
#   cluster.sh start DIR [N]       starts them side by side (or number N), with their data and ports if they had any;
#                                  a frozen one goes on; returns once all serve
#   cluster.sh stop DIR [N]        SIGTERM to all, or to number N (1, 2, 3); returns once they are gone
#   cluster.sh kill DIR N          SIGKILL
#   cluster.sh freeze|thaw DIR N   SIGSTOP | SIGCONT
#   cluster.sh controller DIR      the number of the active controller
#   cluster.sh keep DIR PID        once process PID is gone, stops all brokers and removes DIR: runs until then
#   cluster.sh env DIR             their addresses, as NAME=VALUE lines
#   cluster.sh prepare             downloads what is missing
#
# Broker N has two plaintext listeners. CLIENT_N is for anybody. Whoever connects to PROXIED_N is told to come back at
# PROXY_N, where a test's own proxy may listen: it then stands in all connections of that client.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/kafka/java.sh"

BROKERS=(1 2 3)

configure() {
    local n voters= all=
    mkdir -p "$ALL"
    for n in "${BROKERS[@]}"; do
        all+="CLIENT_$n=$(free_port "$DIR") PROXIED_$n=$(free_port "$DIR") PROXY_$n=$(free_port "$DIR")"
        all+=" CONTROLLER_$n=$(free_port "$DIR")"$'\n'
    done
    eval "$all"
    for n in "${BROKERS[@]}"; do
        local controller=CONTROLLER_$n
        voters+=${voters:+,}$n@127.0.0.1:${!controller}
    done
    for n in "${BROKERS[@]}"; do settings "$n" "$voters" & done
    wait
    echo "$all" >"$ALL/ports"
}

settings() {
    local home=$ALL/$1 client=CLIENT_$1 proxied=PROXIED_$1 proxy=PROXY_$1 controller=CONTROLLER_$1
    mkdir -p "$home"
    cat >"$home/server.properties" <<X
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$2
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:${!client},PROXIED://127.0.0.1:${!proxied},CONTROLLER://127.0.0.1:${!controller}
advertised.listeners=CLIENT://127.0.0.1:${!client},PROXIED://127.0.0.1:${!proxy}
listener.security.protocol.map=CLIENT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
log.dirs=$home/data
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
share.coordinator.state.topic.num.partitions=1
unclean.leader.election.enable=false
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
# 128 MB of heap otherwise
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
X
    format "$home"
}

number() { case $N in 1 | 2 | 3) ;; *) die "$command needs the number of a broker: 1, 2 or 3" ;; esac; }

start_one() {
    local running
    if running=$(pid "$ALL/$1" broker); then
        kill -CONT "$running"
    else
        run_broker "$ALL/$1"
    fi
}

start() {
    local n failed=0 pids=()
    JARS=$(jars kafka)
    [ -f "$ALL/ports" ] || { rm -rf "$ALL"; configure; }
    if [ -n "$N" ]; then number; start_one "$N"; return; fi
    for n in "${BROKERS[@]}"; do
        start_one "$n" &
        pids+=($!)
    done
    for n in "${pids[@]}"; do wait "$n" || failed=1; done
    return "$failed"
}

# Whoever said it last.
controller() {
    grep -H 'Becoming the active controller' "$ALL"/*/logs/broker.log |
        sed 's|^.*/\([0-9]\)/logs/broker.log:\([^ ]* [^ ]*\).*|\2 \1|' | sort | tail -n 1 | sed 's/.* //'
}

stop_all() {
    local n
    for n in ${N:-"${BROKERS[@]}"}; do stop "$ALL/$n" broker "$1" & done
    wait
}

keep() {
    while kill -0 "$1" 2>/dev/null; do sleep 0.5; done
    N=
    stop_all KILL
    rm -rf "$DIR"
}

command=${1:-} DIR=${2:-} N=${3:-}
[ "$command" = prepare ] || [ -n "$DIR" ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
ALL=$DIR/cluster
case $command in
    prepare) jars kafka >/dev/null ;;
    start) start ;;
    stop) stop_all TERM ;;
    kill) number; stop_all KILL ;;
    freeze) number; kill -STOP "$(pid "$ALL/$N" broker)" ;;
    thaw) number; kill -CONT "$(pid "$ALL/$N" broker)" ;;
    controller) controller ;;
    keep) keep "$N" ;;
    env) tr ' ' '\n' <"$ALL/ports" | sed -n 's/^\([A-Z]*_[0-9]\)=/\1=127.0.0.1:/p' ;;
    *) die "unknown command: $command" ;;
esac
