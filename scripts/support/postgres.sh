#!/usr/bin/env bash
# A throw-away PostgreSQL server on loopback: a real one, a free port, a directory of its own, never root.
#
#   postgres.sh start DIR [BINDIR]   start one; prints its superuser URL
#   postgres.sh follow DIR OTHER     start a standby in DIR of the one in OTHER; prints its superuser URL
#   postgres.sh stop DIR             stop it
#
# BINDIR holds initdb and postgres; the newest of Debian's packages when absent.
set -euo pipefail

as_postgres() {
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  local user=postgres
  getent passwd postgres >/dev/null || user=nobody
  setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups env HOME=/tmp "LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}" "$@"
}

newest_bindir() {
  local dir
  dir=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  [ -n "$dir" ] || { echo "no PostgreSQL server found; install Debian's package postgresql" >&2; exit 1; }
  echo "$dir"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
  local dir=$1 bindir=${2:-$(newest_bindir)} port password
  mkdir -p "$dir"
  chmod 711 "$dir"
  mkdir -p "$dir/data" "$dir/run"
  if [ "$(id -u)" = 0 ]; then
    local user=postgres
    getent passwd postgres >/dev/null || user=nobody
    chown "$user" "$dir" "$dir/data" "$dir/run"
  fi
  if [ -d "$bindir/../lib" ] && [ ! -e /usr/lib/postgresql ] || [[ "$bindir" != /usr/lib/postgresql/* ]]; then
    export LD_LIBRARY_PATH="$bindir/../lib"
  fi
  port=$(free_port)
  password=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
  (umask 077; printf '%s' "$password" > "$dir/superuser.password")
  [ "$(id -u)" != 0 ] || chown --reference="$dir" "$dir/superuser.password"
  as_postgres "$bindir/initdb" --pgdata="$dir/data" --username=postgres --pwfile="$dir/superuser.password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-instructions >"$dir/run/initdb.log" 2>&1 \
    || { cat "$dir/run/initdb.log" >&2; exit 1; }
  as_postgres tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$dir/run'
max_connections = 200
max_prepared_transactions = 20
${COUNTERSIGN_POSTGRES_CONF:-}
CONF
  as_postgres "$bindir/pg_ctl" --pgdata="$dir/data" --log="$dir/run/server.log" --wait --timeout=60 start \
    >"$dir/run/start.log" 2>&1 || { cat "$dir/run/start.log" "$dir/run/server.log" >&2; exit 1; }
  printf '%s' "$bindir" > "$dir/bindir"
  echo "postgres://postgres:$password@127.0.0.1:$port/postgres"
}

# The copy is made while the other is stopped: neither needs a program that not every package has.
follow() {
  local dir=$1 other=$2 bindir port other_port password
  bindir=$(cat "$other/bindir")
  [[ "$bindir" == /usr/lib/postgresql/* ]] || export LD_LIBRARY_PATH="$bindir/../lib"
  port=$(free_port)
  other_port=$(sed -n 's/^port = //p' "$other/data/postgresql.conf" | tail -n 1)
  password=$(cat "$other/superuser.password")
  as_postgres "$bindir/pg_ctl" --pgdata="$other/data" --wait --mode=fast stop >/dev/null
  mkdir -p "$dir/run"
  chmod 711 "$dir"
  cp -a "$other/data" "$dir/data"
  cp -a "$other/superuser.password" "$other/bindir" "$dir/"
  [ "$(id -u)" != 0 ] || chown --reference="$other/data" "$dir" "$dir/run"
  as_postgres touch "$dir/data/standby.signal"
  as_postgres tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
port = $port
unix_socket_directories = '$dir/run'
primary_conninfo = 'host=127.0.0.1 port=$other_port user=postgres password=$password'
CONF
  local each
  for each in "$other" "$dir"; do
    as_postgres "$bindir/pg_ctl" --pgdata="$each/data" --log="$each/run/server.log" --wait --timeout=60 start \
      >"$each/run/start.log" 2>&1 || { cat "$each/run/start.log" "$each/run/server.log" >&2; exit 1; }
  done
  echo "postgres://postgres:$password@127.0.0.1:$port/postgres"
}

stop() {
  local dir=$1 bindir
  [ -f "$dir/bindir" ] || return 0
  bindir=$(cat "$dir/bindir")
  [[ "$bindir" == /usr/lib/postgresql/* ]] || export LD_LIBRARY_PATH="$bindir/../lib"
  as_postgres "$bindir/pg_ctl" --pgdata="$dir/data" --mode=immediate stop >/dev/null 2>&1 || true
}

case "${1:-}" in
  start) shift; start "$@" ;;
  follow) shift; follow "$@" ;;
  stop) shift; stop "$@" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
