"""The chapter about an agent that fights to stay."""

import json
import time

from demo.reading import of_lease, tell_lease
from demo.stage import Failed, kill_group, until

# All of it with nothing but its own credential. Each part is in a session of its own, out of the reach of `countersign exec`.
FIGHT = """\
cp "$PGPASSFILE" kept.pgpass && export PGPASSFILE="$PWD/kept.pgpass"
setsid sh -c 'while [ ! -e give-up ]; do cat flood.sql; sleep 0.2; done | psql -X -q > flood.log 2>&1' > /dev/null 2>&1 &
setsid psql -X -q -f hold.sql > hold.log 2>&1 &
setsid sh -c 'while [ ! -e give-up ]; do psql -X -qAtc "SELECT count(*) FROM shop.orders" >> storm.log 2>&1; done' > /dev/null 2>&1 &
until grep -q 'out of shared memory' flood.log && grep -q holding hold.log; do sleep 0.1; done
echo "dug in as $PGUSER"
"""

# Locks until the server's lock table is full, so that nobody can take another one, and what others let go too; and it reads on.
FLOOD = """\
SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 10000000) n;
SELECT count(*) FROM shop.orders;
"""

# Its own row in the catalog of roles, which cutting its login has to change, stays locked.
HOLD = """\
BEGIN;
ALTER ROLE CURRENT_USER PASSWORD 'of-my-own';
\\echo holding
SELECT pg_sleep(600);
"""


def refusal(stage):
    """What the superuser is told who wants one more lock; nothing if they get it."""
    try:
        stage.sql("SELECT pg_advisory_lock(0)")
        return None
    except Failed as failed:
        return str(failed)


def hostile(stage, show):
    show.begin(
        "An agent fights to stay",
        "This one fills the server's table of locks, holds on to its own row in the catalog of roles, and logs in again and\n"
        "again with a copy of its password. Then the security team revokes its lease.",
    )
    for name, text in (("fight.sh", FIGHT), ("flood.sql", FLOOD), ("hold.sql", HOLD)):
        (stage.dir / name).write_text(text)
    line = 'countersign exec orders.report --reason "just the report" -- sh -c "sh fight.sh && sleep 600"'
    ran = show.launch(stage, line, stage.as_agent)
    try:
        lease = ran.until_it_says(r"under lease (lse_\w+)")
        role = ran.until_it_says(r"dug in as (jit_\w+)")
        refused = until("no lock is left", lambda: refusal(stage), 20)
        show.tell("\nNobody gets another lock now, not even the superuser:\n$ psql -c 'SELECT pg_advisory_lock(0)'")
        show.tell(f"  {refused}")
        show.holds("the agent has dug in", "out of shared memory" in refused, refused)
        started = time.monotonic()
        revoked = show.command(stage, f"countersign revoke {lease}", stage.as_operator)
        until("the role is gone", lambda: role not in stage.roles(), 30)
        waited = time.monotonic() - started
        alive = stage.sessions(role)
        show.holds("it is out all the same, within seconds", revoked.code == 0 and alive == 0 and waited < 15, f"{waited:.1f} s, {alive} sessions")
        again = show.command(
            stage,
            f'psql -X -h 127.0.0.1 -p {stage.relay.port} -U {role} -d shop -c "SELECT 1"',
            {**stage.as_agent, "PGPASSFILE": str(stage.dir / "kept.pgpass")},
        )
        show.holds("and cannot come back", again.code == 2 and "authentication failed" in again.said, again.said)
        tell_lease(stage, show, lease)
        last = of_lease(stage, lease)[-1]["event"]
        show.holds("the ledger calls it ended, with proof", last["kind"] == "lease.ended" and last["proof"], json.dumps(last))
    finally:
        (stage.dir / "give-up").touch()
        kill_group(ran.process)
