#!/usr/bin/env bash
# A Kerberos realm of its own, for tests: MIT's KDC as any user, on a free port, with everything in DIR/kdc.
#
#   kdc.sh start DIR                     makes the realm and its principals, starts the KDC; returns once it answers
#   kdc.sh stop|kill DIR                 SIGTERM | SIGKILL; returns once it is gone
#   kdc.sh ticket DIR PRINCIPAL CCACHE   a ticket from the principal's keytab, as `kinit` gets it
#   kdc.sh env DIR                       what processes need to know, as `export` lines
#
# Each principal has its keytab: DIR/kdc/<first part of its name>.keytab.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
# Where Debian has the KDC and its administrator's programs.
PATH=$PATH:/usr/sbin:/sbin

REALM=TRAFFIC.TEST
PRINCIPALS=(nn/localhost dn/localhost traffic stranger)

# `localhost` is to stay `localhost`, whatever the machine's own names are; Java asks over UDP unless it is told not to.
configure() {
    PORT=$(free_port "$DIR")
    mkdir -p "$HOME_DIR/logs"
    cat >"$HOME_DIR/krb5.conf" <<-END
		[libdefaults]
		    default_realm = $REALM
		    dns_lookup_kdc = false
		    dns_lookup_realm = false
		    dns_canonicalize_hostname = false
		    rdns = false
		    udp_preference_limit = 1
		    ticket_lifetime = 1h
		[realms]
		    $REALM = {
		        kdc = 127.0.0.1:$PORT
		    }
		[domain_realm]
		    localhost = $REALM
	END
    cat >"$HOME_DIR/kdc.conf" <<-END
		[realms]
		    $REALM = {
		        database_name = $HOME_DIR/principal
		        key_stash_file = $HOME_DIR/stash
		        kdc_listen = 127.0.0.1:$PORT
		        kdc_tcp_listen = 127.0.0.1:$PORT
		        supported_enctypes = aes256-cts-hmac-sha1-96:normal
		    }
	END
    administer kdb5_util create -s -r "$REALM" -P "not a secret: a test's"
    local principal
    for principal in "${PRINCIPALS[@]}"; do
        administer kadmin.local -r "$REALM" addprinc -randkey "$principal"
        administer kadmin.local -r "$REALM" ktadd -k "$HOME_DIR/${principal%/*}.keytab" "$principal"
    done
    echo "PORT=$PORT" >"$HOME_DIR/ports"
}

administer() {
    "$@" >>"$HOME_DIR/logs/setup.log" 2>&1 || { tail -n 20 "$HOME_DIR/logs/setup.log" >&2; die "cannot make the realm: $*"; }
}

answers() { ticket nn/localhost "FILE:$HOME_DIR/first.ccache" 2>/dev/null; }

ticket() { kinit -k -t "$HOME_DIR/${1%/*}.keytab" -c "$2" "$1"; }

start() {
    pid "$HOME_DIR" kdc >/dev/null && return
    command -v krb5kdc >/dev/null && command -v kadmin.local >/dev/null && command -v kinit >/dev/null ||
        die "there is no KDC: apt-get install krb5-kdc krb5-admin-server krb5-user"
    [ -f "$HOME_DIR/ports" ] || { rm -rf "$HOME_DIR"; configure; }
    launch "$HOME_DIR" kdc krb5kdc -n -r "$REALM" -P "$HOME_DIR/krb5kdc.pid"
    await "$HOME_DIR" kdc "its first ticket" answers
}

command=${1:-} DIR=${2:-}
[ -n "$DIR" ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2; }
HOME_DIR=$DIR/kdc
export KRB5_CONFIG=$HOME_DIR/krb5.conf KRB5_KDC_PROFILE=$HOME_DIR/kdc.conf
case $command in
    start) start ;;
    stop) stop "$HOME_DIR" kdc TERM ;;
    kill) stop "$HOME_DIR" kdc KILL ;;
    ticket) ticket "$3" "$4" ;;
    env) echo "export KRB5_CONFIG=$KRB5_CONFIG" ;;
    *) die "unknown command: $command" ;;
esac
