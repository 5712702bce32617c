#!/usr/bin/env bash
# A real NameNode and a real DataNode, or DATANODES=N of them, for tests; KERBEROS=LEVEL for one with a realm
# of its own (kdc.sh), which protects RPC and blocks so: authentication, integrity or privacy.
#
#   hdfs.sh start DIR [PROCESS]        starts them, or starts them again with their data and ports; returns
#                                      once the datanodes are registered and the namenode is out of safe mode
#   hdfs.sh stop|kill DIR [PROCESS]    SIGTERM | SIGKILL; returns once they are gone
#   hdfs.sh freeze|thaw DIR [PROCESS]  SIGSTOP | SIGCONT
#   hdfs.sh protect DIR LEVEL          with Kerberos: another level, from the next start on
#   hdfs.sh cli DIR dfs|dfsadmin|fsck ARGUMENTS…
#   hdfs.sh keep DIR PID               once process PID is gone, kills them and removes DIR: runs until then
#   hdfs.sh env DIR                    what tests need to know, as `export` lines
#   hdfs.sh prepare                    downloads what is missing
#
# PROCESS is namenode, datanode, datanode2 …; all of them if not named.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

property() { echo "<property><name>$1</name><value>$2</value></property>"; }

# site FILE NAME VALUE…
site() {
    local file=$1
    shift
    { echo "<configuration>"; while [ $# -gt 0 ]; do property "$1" "$2"; shift 2; done; echo "</configuration>"; } >"$file"
}

configure() {
    local port http process patience=() security=() security_core=()
    port=$(free_port "$DIR") http=$(free_port "$DIR")
    # The jars lack the web pages, and without the folders the daemons do not start.
    mkdir -p "$HOME_DIR"/web/webapps/{hdfs,datanode,static}
    [ -z "${KERBEROS:-}" ] || kerberos "$KERBEROS"
    for process in "${PROCESSES[@]}"; do
        mkdir -p "$HOME_DIR/$process.conf"
        cp "$SERVICES_SRC/hdfs/log4j.properties" "$HOME_DIR/$process.conf/"
        site "$HOME_DIR/$process.conf/core-site.xml" fs.defaultFS "hdfs://127.0.0.1:$port" hadoop.tmp.dir "$HOME_DIR/tmp" \
            "${security_core[@]}"
        [ "$process" = namenode ] || datanode_site "$process"
    done
    # Of several a dead one is known to be dead after 15 s, not ten minutes, and a copy that failed is tried again soon.
    [ "${DATANODES:-1}" = 1 ] || patience=(
        dfs.namenode.heartbeat.recheck-interval 2500
        dfs.heartbeat.interval 1
        dfs.namenode.reconstruction.pending.timeout-sec 5
    )
    # A block is reserved for each open file, by the datanode one of its own setting, and many are open at a time: small
    # ones need less of a disk.
    site "$HOME_DIR/namenode.conf/hdfs-site.xml" \
        dfs.namenode.name.dir "file://$HOME_DIR/name" \
        dfs.namenode.http-address "127.0.0.1:$http" \
        dfs.replication 1 \
        dfs.namenode.datanode.registration.ip-hostname-check false \
        dfs.namenode.safemode.extension 0 \
        dfs.blocksize 4194304 \
        dfs.namenode.fs-limits.min-block-size 4096 \
        "${patience[@]}" "${security[@]}"
    hadoop namenode org.apache.hadoop.hdfs.server.namenode.NameNode -format -force -nonInteractive \
        >"$HOME_DIR/format.log" 2>&1 || { cat "$HOME_DIR/format.log" >&2; die "cannot format the namenode"; }
    echo "PORT=$port HTTP=$http DATANODES=${DATANODES:-1}" >"$HOME_DIR/ports"
}

datanode_site() {
    local data http ipc
    data=$(free_port "$DIR") http=$(free_port "$DIR") ipc=$(free_port "$DIR")
    site "$HOME_DIR/$1.conf/hdfs-site.xml" \
        dfs.datanode.data.dir "file://$HOME_DIR/${1/datanode/data}" \
        dfs.datanode.address "127.0.0.1:$data" \
        dfs.datanode.http.address "127.0.0.1:$http" \
        dfs.datanode.ipc.address "127.0.0.1:$ipc" \
        dfs.datanode.hostname 127.0.0.1 \
        dfs.replication 1 \
        dfs.blocksize 4194304 \
        dfs.heartbeat.interval 1 \
        "${security[@]}"
    # How each connection is protected.
    [ ${#security[@]} = 0 ] || echo "log4j.logger.org.apache.hadoop.hdfs.protocol.datatransfer.sasl=DEBUG" \
        >>"$HOME_DIR/$1.conf/log4j.properties"
}

# The settings of a cluster with Kerberos. A datanode's ports need not be privileged, and nothing but the data is served.
kerberos() {
    local keytabs=$DIR/kdc realm=TRAFFIC.TEST
    "$(dirname "$0")/kdc.sh" start "$DIR"
    security_core=(hadoop.security.authentication kerberos hadoop.rpc.protection "$1")
    security=(
        dfs.namenode.kerberos.principal "nn/localhost@$realm"
        dfs.namenode.keytab.file "$keytabs/nn.keytab"
        dfs.datanode.kerberos.principal "dn/localhost@$realm"
        dfs.datanode.keytab.file "$keytabs/dn.keytab"
        dfs.block.access.token.enable true
        dfs.data.transfer.protection "$1"
        dfs.encrypt.data.transfer.cipher.suites AES/CTR/NoPadding
        ignore.secure.ports.for.testing true
    )
}

protect() {
    case $1 in authentication | integrity | privacy) ;; *) die "protect: authentication, integrity or privacy" ;; esac
    sed -i -E "s,(<name>(hadoop.rpc|dfs.data.transfer).protection</name><value>)[a-z]*,\\1$1," "$HOME_DIR"/*.conf/*-site.xml
}

# A ticket of the namenode's own, who is the superuser.
be_superuser() {
    export KRB5CCNAME=FILE:$HOME_DIR/superuser.ccache
    "$(dirname "$0")/kdc.sh" ticket "$DIR" nn/localhost "$KRB5CCNAME"
}

# The processes of a cluster with so many datanodes.
processes() {
    local n
    PROCESSES=(namenode datanode)
    for ((n = 2; n <= $1; n++)); do PROCESSES+=("datanode$n"); done
}

# The command that runs a Hadoop class with the settings of PROCESS, one word a line.
java_command() {
    [ ! -f "$DIR/kdc/krb5.conf" ] || JVM_FLAGS+=("-Djava.security.krb5.conf=$DIR/kdc/krb5.conf")
    printf '%s\n' java "${JVM_FLAGS[@]}" --add-opens=java.base/java.lang=ALL-UNNAMED \
        -cp "$HOME_DIR/$1.conf:$HOME_DIR/web:$JARS/*"
}

hadoop() {
    local command
    mapfile -t command < <(java_command "$1")
    "${command[@]}" "${@:2}"
}

start_process() {
    local command class=org.apache.hadoop.hdfs.server.namenode.NameNode
    [ "$1" = namenode ] || class=org.apache.hadoop.hdfs.server.datanode.DataNode
    mapfile -t command < <(java_command "$1")
    launch "$HOME_DIR" "$1" "${command[@]}" "$class"
}

# The namenode's own figures say how many datanodes it knows and whether it is out of safe mode.
serves() {
    local state
    state=$(curl -s --max-time 2 "http://127.0.0.1:$HTTP/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState") || return 1
    grep -q "\"NumLiveDataNodes\" : $DATANODES," <<<"$state" && grep -q '"FSState" : "Operational"' <<<"$state"
}

start() {
    local process new_datanodes=() wanted=("${PROCESSES[@]}")
    JARS=$(jars hdfs)
    [ -f "$HOME_DIR/ports" ] || { rm -rf "$HOME_DIR"; configure; }
    . "$HOME_DIR/ports"
    for process in "${wanted[@]}"; do
        pid "$HOME_DIR" "$process" >/dev/null && continue
        [ "$process" = namenode ] || new_datanodes+=("$process $(stat -c %s "$HOME_DIR/logs/$process.log" 2>/dev/null || echo 0)")
        start_process "$process"
    done
    # Any can be started while another is down on purpose; there is nothing to wait for then.
    processes "$DATANODES"
    for process in "${PROCESSES[@]}"; do pid "$HOME_DIR" "$process" >/dev/null || return 0; done
    # The namenode takes minutes to miss a datanode, so its figures do not tell a new one from the last.
    for process in "${new_datanodes[@]}"; do
        MARK=${process#* } process=${process% *}
        await "$HOME_DIR" "$process" "its registration" logged "$HOME_DIR" "$process" 'successfully registered with NN'
    done
    await "$HOME_DIR" namenode "the datanodes and the end of safe mode" serves
}

signal() {
    local process
    for process in "${PROCESSES[@]}"; do kill "-$1" "$(pid "$HOME_DIR" "$process")"; done
}

# The datanodes first: they would spend their last seconds looking for the namenode.
stop_all() {
    local i
    for ((i = ${#PROCESSES[@]} - 1; i >= 0; i--)); do stop "$HOME_DIR" "${PROCESSES[i]}" "$1" & done
    wait
}

cli() {
    local class
    case ${1:-} in
        dfs) class=org.apache.hadoop.fs.FsShell ;;
        dfsadmin) class=org.apache.hadoop.hdfs.tools.DFSAdmin ;;
        fsck) class=org.apache.hadoop.hdfs.tools.DFSck ;;
        *) die "cli: dfs, dfsadmin or fsck" ;;
    esac
    JARS=$(jars hdfs)
    [ ! -d "$DIR/kdc" ] || be_superuser
    hadoop namenode "$class" "${@:2}" 2> >(grep -v -e INFO -e WARN >&2)
}

command=${1:-} DIR=${2:-}
[ "$command" = prepare ] || [ -n "$DIR" ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
HOME_DIR=$DIR/hdfs
[ ! -f "$HOME_DIR/ports" ] || . "$HOME_DIR/ports"
processes "${DATANODES:-1}"
case $command in
    cli | keep | prepare | protect) ;;
    *)
        [[ -z "${3:-}" || " ${PROCESSES[*]} " == *" $3 "* ]] || die "unknown process: $3"
        [ -z "${3:-}" ] || PROCESSES=("$3")
        ;;
esac
export HADOOP_USER_NAME=${HADOOP_USER_NAME:-$(id -un)}
case $command in
    prepare) jars hdfs >/dev/null ;;
    start) start ;;
    stop) stop_all TERM ;;
    kill) stop_all KILL ;;
    freeze) signal STOP ;;
    thaw) signal CONT ;;
    protect) protect "$3" ;;
    cli) cli "${@:3}" ;;
    keep)
        while kill -0 "$3" 2>/dev/null; do sleep 0.5; done
        [ ! -f "$HOME_DIR/ports" ] || . "$HOME_DIR/ports"
        processes "${DATANODES:-1}"
        stop_all KILL
        [ ! -d "$DIR/kdc" ] || "$(dirname "$0")/kdc.sh" kill "$DIR"
        rm -rf "$DIR"
        ;;
    env) . "$HOME_DIR/ports" && echo "export TRAFFIC_TEST_HDFS=hdfs://127.0.0.1:$PORT" ;;
    *) die "unknown command: $command" ;;
esac
