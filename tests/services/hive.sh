#!/usr/bin/env bash
# A Hive metastore, for tests: the real server, its own database (Derby) inside its process.
#
#   hive.sh start DIR       starts it, or starts it again with its data and port; returns once it serves
#   hive.sh stop|kill DIR   SIGTERM | SIGKILL; returns once it is gone
#   hive.sh freeze|thaw DIR SIGSTOP | SIGCONT
#   hive.sh env DIR         what tests need to know, as `export` lines
#   hive.sh prepare         downloads what is missing
#   hive.sh client          the folder of the jars that Spark needs to speak to it
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# The folder with the metastore's own jars and the SQL of its schema, unpacked once.
distribution() {
    local folder partial
    folder=$(jars hive)
    if [ ! -d "$folder/dist" ]; then
        (
            flock 9
            [ -d "$folder/dist" ] && exit 0
            partial=$(mktemp -d "$folder/dist.XXXXXX")
            tar xzf "$folder"/*-bin.tar.gz -C "$partial" --strip-components=1
            cp "$folder"/commons-collections-*.jar "$partial/lib/"
            mv "$partial" "$folder/dist"
        ) 9>"$folder/dist.lock" || exit 1
    fi
    echo "$folder/dist"
}

property() { echo "<property><name>$1</name><value>$2</value></property>"; }

configure() {
    local port
    port=$(free_port "$DIR")
    mkdir -p "$HOME_DIR/conf" "$HOME_DIR/logs"
    cp "$SERVICES_SRC/hive/log4j2.properties" "$HOME_DIR/conf/"
    {
        echo "<configuration>"
        property metastore.thrift.port "$port"
        property metastore.thrift.bind.host 127.0.0.1
        property metastore.warehouse.dir "file://$HOME_DIR/warehouse"
        property metastore.warehouse.external.dir "file://$HOME_DIR/warehouse"
        property javax.jdo.option.ConnectionURL "jdbc:derby:;databaseName=$HOME_DIR/db;create=true"
        property javax.jdo.option.ConnectionDriverName org.apache.derby.jdbc.EmbeddedDriver
        # The other background tasks only cost a test time.
        property metastore.task.threads.always org.apache.hadoop.hive.metastore.events.EventCleanerTask
        echo "</configuration>"
    } >"$HOME_DIR/conf/metastore-site.xml"
    java_command org.apache.hadoop.hive.metastore.tools.schematool.MetastoreSchemaTool -initSchema -dbType derby
    "${COMMAND[@]}" >"$HOME_DIR/logs/schema.log" 2>&1 ||
        { tail -n 20 "$HOME_DIR/logs/schema.log" >&2; die "cannot make the metastore's schema"; }
    echo "PORT=$port" >"$HOME_DIR/ports"
}

# The command that runs a class with the metastore's settings. Hadoop's jars come last: they have older ones of the same.
java_command() {
    COMMAND=(java "${JVM_FLAGS[@]}" -Dderby.system.durability=test -Dderby.stream.error.file="$HOME_DIR/logs/derby.log"
        -Dlog4j2.configurationFile="$HOME_DIR/conf/log4j2.properties"
        -cp "$HOME_DIR/conf:$DIST/lib/*:$HADOOP/*" "$@")
}

# Each start says so once; the port alone is open before it serves.
serves() { logged "$HOME_DIR" metastore 'Started the new metaserver' && (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }

start() {
    pid "$HOME_DIR" metastore >/dev/null && return
    DIST=$(distribution)
    HADOOP=$(jars hdfs)
    export METASTORE_HOME=$DIST METASTORE_CONF_DIR=$HOME_DIR/conf
    [ -f "$HOME_DIR/ports" ] || { rm -rf "$HOME_DIR"; configure; }
    . "$HOME_DIR/ports"
    # Left by a server that was killed; Derby would only warn of it.
    rm -f "$HOME_DIR"/db/*.lck
    mark "$HOME_DIR" metastore
    java_command org.apache.hadoop.hive.metastore.HiveMetaStore -p "$PORT"
    launch "$HOME_DIR" metastore "${COMMAND[@]}"
    await "$HOME_DIR" metastore "its start" serves
}

command=${1:-} DIR=${2:-}
[ "$command" = prepare ] || [ "$command" = client ] || [ -n "$DIR" ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
HOME_DIR=$DIR/hive
export HADOOP_USER_NAME=${HADOOP_USER_NAME:-$(id -un)}
case $command in
    prepare) distribution >/dev/null; jars hdfs >/dev/null ;;
    client) jars hive-client ;;
    start) start ;;
    stop) stop "$HOME_DIR" metastore TERM ;;
    kill) stop "$HOME_DIR" metastore KILL ;;
    freeze) kill -STOP "$(pid "$HOME_DIR" metastore)" ;;
    thaw) kill -CONT "$(pid "$HOME_DIR" metastore)" ;;
    env) . "$HOME_DIR/ports" && echo "export TRAFFIC_TEST_HIVE=thrift://127.0.0.1:$PORT" ;;
    *) die "unknown command: $command" ;;
esac
