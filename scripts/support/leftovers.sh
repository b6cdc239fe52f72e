# A run owns a temporary directory and every process it started, and so can be cleaned up after, even by the next run
# when it was killed. To be sourced after setup.sh.
# shellcheck shell=bash

# When process $1 started, in clock ticks since boot; nothing if it is gone. A process id alone may be used again.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

begin_run() {
  run=$(mktemp -d "${TMPDIR:-/tmp}/countersign-test.XXXXXX")
  # The database user must be able to go through.
  chmod 711 "$run"
  echo "$$ $(started_at $$)" >"$run/owner"
  # Every process started from here on carries this in its environment.
  export COUNTERSIGN_TEST_RUN=$run
}

# Ends what run $1 left: its servers, then whatever else still carries its name.
clear_run() {
  local dir=$1 server pid
  for server in "$dir"/postgres-*; do
    [ ! -d "$server" ] || scripts/support/postgres.sh stop "$server"
  done
  scripts/support/mariadb.sh stop "$dir/mariadb"
  for pid in $(processes_of "$dir"); do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}

processes_of() {
  local file pid
  for file in $(grep -lzsFx "COUNTERSIGN_TEST_RUN=$1" /proc/[0-9]*/environ); do
    pid=${file#/proc/}
    pid=${pid%/environ}
    [ "$pid" = "$BASHPID" ] || [ "$pid" = $$ ] || echo "$pid"
  done
}

end_run() {
  local status=$?
  trap '' HUP INT TERM
  clear_run "$run"
  exit "$status"
}

stop_leftovers_of_dead_runs() {
  local dir pid started
  for dir in "${TMPDIR:-/tmp}"/countersign-test.??????; do
    [ -d "$dir" ] && [ -O "$dir" ] && [ ! -L "$dir" ] || continue
    read -r pid started 2>/dev/null <"$dir/owner" || continue
    [ "$(started_at "$pid")" != "$started" ] || continue
    note "clearing up after a run that was killed"
    clear_run "$dir"
  done
}
