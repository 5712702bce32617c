#!/usr/bin/env bash
# One Kafka broker (KRaft, broker and controller in one process), for tests.
#
#   kafka.sh start DIR         starts it, or starts it again with its data and ports; returns once it serves
#   kafka.sh stop|kill DIR     SIGTERM | SIGKILL; returns once it is gone
#   kafka.sh freeze|thaw DIR   SIGSTOP | SIGCONT
#   kafka.sh env DIR           what tests need to know, as `export` lines
#   kafka.sh prepare           downloads what is missing
#
# Three listeners: plaintext; SASL_SSL with PLAIN and SCRAM-SHA-512 (user app, password app-secret); and SSL for those
# with a certificate of the test's authority.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/kafka/java.sh"

configure() {
    local plain='org.apache.kafka.common.security.plain.PlainLoginModule required'
    local scram='org.apache.kafka.common.security.scram.ScramLoginModule required'
    mkdir -p "$HOME_DIR"
    PORT=$(free_port "$DIR") SECURE=$(free_port "$DIR") MUTUAL=$(free_port "$DIR") CONTROLLER=$(free_port "$DIR")
    certificates
    cat >"$HOME_DIR/server.properties" <<X
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$CONTROLLER
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:$PORT,SECURE://127.0.0.1:$SECURE,MUTUAL://127.0.0.1:$MUTUAL,CONTROLLER://127.0.0.1:$CONTROLLER
advertised.listeners=CLIENT://127.0.0.1:$PORT,SECURE://127.0.0.1:$SECURE,MUTUAL://127.0.0.1:$MUTUAL
listener.security.protocol.map=CLIENT:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
log.dirs=$HOME_DIR/data
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=$plain user_app="app-secret";
listener.name.secure.scram-sha-512.sasl.jaas.config=$scram;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location=$HOME_DIR/tls/broker.pem
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.keystore.type=PEM
listener.name.mutual.ssl.keystore.location=$HOME_DIR/tls/broker.pem
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location=$HOME_DIR/tls/ca.pem
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
# A broker that does not get to the processor for a while must not be taken for dead: it would lose sight of transactions.
broker.session.timeout.ms=9000
broker.heartbeat.interval.ms=500
# 128 MB of heap otherwise
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
X
    format "$HOME_DIR" --add-scram 'SCRAM-SHA-512=[name=app,password=app-secret]'
    echo "PORT=$PORT SECURE=$SECURE MUTUAL=$MUTUAL" >"$HOME_DIR/ports"
}

certificates() {
    local t=$HOME_DIR/tls
    mkdir -p "$t"
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test-ca \
            -keyout "$t/ca.key" -out "$t/ca.pem"
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
            -keyout "$t/broker.key" -out "$t/broker.csr"
        openssl x509 -req -in "$t/broker.csr" -CA "$t/ca.pem" -CAkey "$t/ca.key" -CAcreateserial -days 30 \
            -out "$t/broker.crt" -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1")
        cat "$t/broker.key" "$t/broker.crt" "$t/ca.pem" >"$t/broker.pem"
        # A client's, whose key has a password; and another that nobody has signed.
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -passout pass:key-secret -subj /CN=app \
            -keyout "$t/client.key" -out "$t/client.csr"
        openssl x509 -req -in "$t/client.csr" -CA "$t/ca.pem" -CAkey "$t/ca.key" -CAcreateserial -days 30 \
            -out "$t/client.crt"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=stranger \
            -keyout "$t/stranger.key" -out "$t/stranger.crt"
    } 2>"$t/openssl.log" || { cat "$t/openssl.log" >&2; die "cannot make the certificates"; }
}

start() {
    pid "$HOME_DIR" broker >/dev/null && return
    JARS=$(jars kafka)
    [ -f "$HOME_DIR/ports" ] || { rm -rf "$HOME_DIR"; configure; }
    run_broker "$HOME_DIR"
}

print_env() {
    . "$HOME_DIR/ports"
    echo "export TRAFFIC_TEST_KAFKA=127.0.0.1:$PORT"
    echo "export TRAFFIC_TEST_KAFKA_SASL=127.0.0.1:$SECURE"
    echo "export TRAFFIC_TEST_KAFKA_CA=$HOME_DIR/tls/ca.pem"
    echo "export TRAFFIC_TEST_KAFKA_MUTUAL=127.0.0.1:$MUTUAL"
    echo "export TRAFFIC_TEST_KAFKA_TLS=$HOME_DIR/tls"
}

command=${1:-} DIR=${2:-}
[ "$command" = prepare ] || [ -n "$DIR" ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
HOME_DIR=$DIR/kafka
case $command in
    prepare) jars kafka >/dev/null ;;
    start) start ;;
    stop) stop "$HOME_DIR" broker TERM ;;
    kill) stop "$HOME_DIR" broker KILL ;;
    freeze) kill -STOP "$(pid "$HOME_DIR" broker)" ;;
    thaw) kill -CONT "$(pid "$HOME_DIR" broker)" ;;
    env) print_env ;;
    *) die "unknown command: $command" ;;
esac
