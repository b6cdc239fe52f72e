#!/usr/bin/env bash
# A throw-away emulator of AWS on loopback (ministack) that judges every call by signature and policy: a free port, a
# directory of its own, not root.
#
#   ministack.sh start DIR BINDIR   start one; prints its URL
#   ministack.sh stop DIR           stop it
#
# BINDIR holds its program; `python-env.sh ministack.txt` makes it. Its account is 123456789012; that account's root has
# the key AKIAROOTROOTROOT0001 and the secret rootsecret.
set -euo pipefail

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

unprivileged() {
  if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups "$@"
  else
    exec "$@"
  fi
}

# It starts from an empty environment: what it reads of AWS's variables is its root's key.
serve() {
  local dir=$1 bindir=$2 port=$3
  cd "$dir"
  unprivileged env -i PATH=/usr/bin:/bin HOME="$dir" TMPDIR="$dir" COUNTERSIGN_TEST_RUN="${COUNTERSIGN_TEST_RUN:-}" \
    AUTH=true BIND_HOST=127.0.0.1 GATEWAY_PORT="$port" MINISTACK_ACCOUNT_ID=123456789012 \
    AWS_ACCESS_KEY_ID=AKIAROOTROOTROOT0001 AWS_SECRET_ACCESS_KEY=rootsecret \
    SERVICES=iam,sts,s3,sqs,dynamodb,secretsmanager STATE_DIR="$dir" LOG_LEVEL=WARNING \
    "$bindir/ministack"
}

answers() {
  python3 - "$1" <<'PYTHON' 2>/dev/null
import sys, urllib.request
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
direct.open(f"{sys.argv[1]}/_ministack/health", timeout=2).read()
PYTHON
}

start() {
  local dir=$1 bindir=$2 port url pid
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  chmod 711 "$dir"
  [ "$(id -u)" != 0 ] || chown nobody "$dir"
  port=$(free_port)
  url=http://127.0.0.1:$port
  serve "$dir" "$bindir" "$port" >"$dir.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$dir.pid"
  for _ in $(seq 300); do
    if answers "$url"; then
      echo "$url"
      return
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "ministack does not serve" >&2
  cat "$dir.log" >&2
  exit 1
}

stop() {
  local dir=$1
  [ -f "$dir.pid" ] || return 0
  kill -KILL "$(cat "$dir.pid")" 2>/dev/null || true
  rm -f "$dir.pid"
}

case "${1:-}" in
  start) shift; start "$@" ;;
  stop) shift; stop "$@" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
