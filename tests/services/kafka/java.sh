# How Kafka's classes are run; sourced, after lib.sh.

# The command that runs a Kafka class, one word a line.
java_command() {
    printf '%s\n' java "${JVM_FLAGS[@]}" "-Dlog4j2.configurationFile=$SERVICES_SRC/kafka/log4j2.properties" \
        -Dlog4j2.disableJmx=true -cp "$JARS/*"
}

broker_java() {
    local command
    mapfile -t command < <(java_command)
    "${command[@]}" "$@"
}

# format HOME ARGUMENT…: prepares the storage of a broker whose server.properties are in HOME.
format() {
    local home=$1
    shift
    broker_java kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c "$home/server.properties" "$@" \
        >"$home/format.log" 2>&1 || { cat "$home/format.log" >&2; die "cannot format the broker's storage"; }
}

# run_broker HOME: starts it and returns once it serves.
run_broker() {
    local command
    mark "$1" broker
    mapfile -t command < <(java_command)
    launch "$1" broker "${command[@]}" kafka.Kafka "$1/server.properties"
    # Said once the listeners are open and the broker may serve; an open port alone comes earlier.
    await "$1" broker "its start" logged "$1" broker 'Kafka Server started'
}
