#!/usr/bin/env bash
# All services that the tests use, each in DIR/<service>.
#
#   services.sh start DIR   starts them side by side; prints what tests need to know, as `export` lines
#   services.sh stop DIR    stops them
#   services.sh prepare     downloads what is missing
#   services.sh logs DIR    the ends of their logs
#
# By hand:  eval "$(tests/services/services.sh start /tmp/traffic-services)"; cargo test …
#           tests/services/services.sh stop /tmp/traffic-services
#
# A service is a script <service>.sh beside this one that knows prepare, start, stop and env.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
SERVICES=(kafka hdfs postgres hive)

# Runs "<service>.sh COMMAND DIR" of all services side by side; fails if one does.
each() {
    local service failed=0 pids=()
    for service in "${SERVICES[@]}"; do
        "$here/$service.sh" "$@" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return "$failed"
}

command=${1:-} dir=${2:-}
case $command in
    prepare) each prepare ;;
    start | stop | logs) [ -n "$dir" ] || { echo "services.sh: no directory named" >&2; exit 2; } ;;
    *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;;
esac
case $command in
    start)
        mkdir -p "$dir"
        dir=$(cd "$dir" && pwd)
        # A second broker, for tests that freeze one while the others go on.
        "$here/kafka.sh" start "$dir/second" >&2 &
        second=$!
        each start "$dir" >&2
        wait "$second"
        for service in "${SERVICES[@]}"; do "$here/$service.sh" env "$dir"; done
        second=$("$here/kafka.sh" env "$dir/second" | sed -n 's/^export TRAFFIC_TEST_KAFKA=//p')
        echo "export TRAFFIC_TEST_KAFKA_FREEZABLE='$second $(cat "$dir/second/kafka/broker.pid")'"
        echo "export TRAFFIC_TEST_SERVICES=$dir"
        ;;
    stop)
        [ ! -d "$dir" ] || each stop "$(cd "$dir" && pwd)"
        [ ! -d "$dir/second" ] || "$here/kafka.sh" stop "$(cd "$dir/second" && pwd)"
        ;;
    logs)
        for log in "$dir"/*/logs/*.log "$dir"/second/*/logs/*.log; do
            [ -f "$log" ] && printf '\n--- %s\n' "$log" && tail -n "${3:-15}" "$log"
        done
        ;;
esac
