#!/usr/bin/env bash
# A throw-away MariaDB server on loopback: a real one, a free port, a directory and a certificate of its own, never root.
#
#   mariadb.sh start DIR [OPTION...]   start one, with more options of mariadbd; prints the URL of its administrator
#   mariadb.sh stop DIR                stop it
set -euo pipefail

as_mysql() {
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  setpriv --reuid=mysql --regid=mysql --clear-groups env HOME=/tmp "$@"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

answers() {
  mariadb-admin --no-defaults --socket="$1/run/server.sock" --user=root --connect-timeout=1 ping >/dev/null 2>&1
}

wait_for() {
  local dir=$1 server=$2
  for _ in $(seq 600); do
    if answers "$dir"; then return; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  cat "$dir/run/server.log" >&2
  exit 1
}

start() {
  local dir=$1 port password server
  shift
  command -v mariadbd >/dev/null || { echo "no MariaDB server found; install Debian's package mariadb-server" >&2; exit 1; }
  mkdir -p "$dir/data" "$dir/run"
  chmod 711 "$dir"
  [ "$(id -u)" != 0 ] || chown mysql "$dir" "$dir/data" "$dir/run"
  port=$(free_port)
  password=$(python3 -c 'import secrets; print(secrets.token_hex(16))')
  as_mysql openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
    -keyout "$dir/run/server.key" -out "$dir/run/server.crt" -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE 2>/dev/null
  # A server that starts clears its directory for temporary files: each has its own.
  as_mysql env TMPDIR="$dir/run" mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=normal \
    --skip-test-db >"$dir/run/install.log" 2>&1 || { cat "$dir/run/install.log" >&2; exit 1; }
  # The tests kill brokers, never the server: waiting for its disk would prove nothing.
  as_mysql mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/run/server.sock" --pid-file="$dir/run/server.pid" --tmpdir="$dir/run" \
    --bind-address=127.0.0.1 --port="$port" --ssl-cert="$dir/run/server.crt" --ssl-key="$dir/run/server.key" \
    --max-connections=200 --innodb-flush-log-at-trx-commit=0 --secure-file-priv='' --performance-schema=ON "$@" \
    </dev/null >"$dir/run/server.log" 2>&1 &
  server=$!
  wait_for "$dir" "$server"
  mariadb --no-defaults --socket="$dir/run/server.sock" --user=root <<SQL
CREATE USER 'admin'@'%' IDENTIFIED BY '$password';
GRANT ALL PRIVILEGES ON *.* TO 'admin'@'%' WITH GRANT OPTION;
DROP USER IF EXISTS ''@'localhost', ''@'$(hostname)';
SQL
  echo "mysql://admin:$password@127.0.0.1:$port/mysql"
}

stop() {
  local pid
  pid=$(cat "$1/run/server.pid" 2>/dev/null) || return 0
  kill -KILL "$pid" 2>/dev/null || true
  for _ in $(seq 100); do
    if ! kill -0 "$pid" 2>/dev/null; then return; fi
    sleep 0.05
  done
}

case "${1:-}" in
  start) shift; start "$@" ;;
  stop) shift; stop "$@" ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
