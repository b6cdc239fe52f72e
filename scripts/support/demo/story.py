"""The story: eight chapters, each of them checked against what the database, or AWS, itself says."""

import hashlib
import json
import os
import re
import shlex
import signal
import sys
import time
import traceback

from demo.aws import aws
from demo.hostile import hostile
from demo.people import Person
from demo.reading import entries, of_lease, tell_lease
from demo.stage import ROOT, Failed, kill_group, until

REPORT = "SELECT status, count(*), (sum(amount_cents) / 100.0)::numeric(10, 2) AS euros FROM shop.orders GROUP BY status ORDER BY status"

EXPORT = """\
\\echo -- what was approved
SELECT name, country FROM shop.customers ORDER BY id;
\\echo -- a column outside the scope
SELECT name, email, card_last4 FROM shop.customers;
\\echo -- another country
SELECT name, country FROM shop.customers WHERE country = 'fr';
"""

# An agent that leaves a session behind, and keeps a copy of its password.
LEAVE_A_SESSION = """\
cp "$PGPASSFILE" kept.pgpass
: > left-behind.log
psql -X < statements > left-behind.log 2>&1 &
echo "SELECT 'still here as ' || current_user AS session;" > statements
until grep -q 'still here' left-behind.log; do sleep 0.1; done
echo "done, leaving a session of $PGUSER open"
"""


def play(stage, show):
    for chapter in (routine, export, session_held_open, hostile, killed_agent, killed_broker, ledger, aws):
        try:
            chapter(stage, show)
        except Failed as failed:
            show.fail(failed, stage.broker_log())
        except Exception:  # a surprise is a step that does not hold, and the other chapters are still told
            show.fail(f"something unforeseen\n{traceback.format_exc()}", stage.broker_log())


def routine(stage, show):
    show.begin(
        "A routine report goes through at once",
        f"The agent `reporter` has no password for the shop's database (PostgreSQL {stage.postgres_version}). It asks for a\n"
        "named action; policy calls this one routine, so a role is made for it, used, and dropped.",
    )
    line = f'countersign exec orders.report --reason "the weekly report" -- psql -X -c "{REPORT}"'
    ran = show.command(stage, line, stage.as_agent)
    show.holds("a routine report goes through at once", ran.code == 0 and "refunded" in ran.said and "paid" in ran.said, ran.said)
    show.holds("its credential is gone when the command is", not stage.roles() and "proven" in ran.said, ran.said)


def export(stage, show):
    show.begin(
        "An export of customers waits for a person",
        "Customers are people, so policy wants one of the support leads to look. The agent waits.",
    )
    (stage.dir / "export.sql").write_text(EXPORT)
    line = 'countersign exec customers.export --param country=de --reason "Q3 letter, OPS-1207" -- psql -X -f export.sql'
    waits = show.launch(stage, line, stage.as_agent)
    request = waits.until_it_says(r"review at \S+/requests/(req_\w+)")
    asked = details(stage, request)
    show.holds("an export waits for a reviewer", asked["state"] == "pending" and not stage.roles(), asked["state"])

    path = f"/requests/{request}"
    show.tell("\nAna owns the agent. She signs in through OpenID Connect and opens the request:")
    ana = Person("ana", stage.url, lambda text: show.tell(f"  {text}"))
    page = ana.sign_in(path)
    said = page.text(r'<div class="barred"[^>]*>(.*?)</div>')
    show.tell(f"  the page says: {said}")
    show.tell("She has no button, so she sends the form without one:")
    refused = ana.decide(page, path, asked["digest"], "approve", "it is my agent, it is fine")
    show.tell(f"  the page says: {refused.text(r'<div class=.alert.[^>]*>(.*?)</div>')}")
    after = details(stage, request)
    noted = [entry for entry in entries(stage) if entry["event"].get("request") == request]
    self_approval = [e for e in noted if e["event"]["kind"] == "review.refused" and e["event"]["code"] == "self_approval"]
    show.holds(
        "the agent's owner signs in and may not approve",
        'value="approve"' not in page.body and refused.status == 403 and after["state"] == "pending" and self_approval,
        f"{refused.status} {after['state']}",
    )

    show.tell("\nBen is a support lead. He signs in the same way, reads what is asked, and approves:")
    ben = Person("ben", stage.url, lambda text: None)
    page = ben.sign_in(path)
    form = page.hidden()
    ben.tell = ana.tell
    approved = ben.decide(page, path, form["digest"], "approve", "agreed with marketing")
    show.holds("a support lead signs in and approves", approved.status == 303 and form["digest"] == asked["digest"], approved.body)

    show.tell("\nThe agent, which was waiting all the time, goes on:")
    waits.finish()
    parts = re.split(r"^-- .*$", waits.said, flags=re.M)
    if len(parts) != 4:
        raise Failed(f"the queries did not run: {waits.said}")
    what, columns, country = parts[1:]
    rows = re.findall(r"\| (\w\w)$", what, re.M)
    show.holds("the query runs, on the approved rows", rows == ["de", "de"], waits.said)
    show.holds("PostgreSQL refuses the columns outside the scope", "permission denied for table customers" in columns, columns)
    show.holds("another country gives no rows", "(0 rows)" in country, country)
    show.holds("its credential is gone when the command is", not stage.roles(), stage.roles())
    show.tell("")
    show.command(stage, f"countersign show {request}", stage.as_agent)


def session_held_open(stage, show):
    show.begin(
        "A session held open since before is dead",
        "This agent is done, but leaves a psql running with an open session, and keeps a copy of its password.",
    )
    script = stage.dir / "leave-a-session.sh"
    script.write_text(LEAVE_A_SESSION)
    pipe = stage.dir / "statements"
    os.mkfifo(pipe, 0o600)
    # Held open by us too, so that psql never sees the end of its input.
    holder = os.open(pipe, os.O_RDWR)
    try:
        line = 'countersign exec orders.report --reason "the daily report" -- sh leave-a-session.sh'
        ran = show.launch(stage, line, stage.as_agent)
        role = ran.until_it_says(r"leaving a session of (jit_\w+) open")
        ran.finish()
        log = stage.dir / "left-behind.log"
        show.holds("an agent ends, its psql does not", ran.code == 0 and "still here" in log.read_text(), ran.said)
        show.tell("\nThe next statement in that session:")
        told = len(log.read_text())
        os.write(holder, b"SELECT count(*) FROM shop.orders;\n")
        said = until("psql gives up", lambda: "connection to server was lost" in log.read_text() and log.read_text()[told:], 20)
        show.tell(indent(said))
        dead = "count" not in said and stage.sessions(role) == 0
        show.holds("a session held open is dead once the lease has ended", dead, said)
    finally:
        os.close(holder)
    show.tell("\nAnd a new login with the copy of the password:")
    login = f'psql -X -h 127.0.0.1 -p {stage.relay.port} -U {role} -d shop -c "SELECT 1"'
    again = show.command(stage, login, {**stage.as_agent, "PGPASSFILE": str(stage.dir / "kept.pgpass")})
    show.holds("a new login with its password is refused", again.code == 2 and "authentication failed" in again.said, again.said)


def killed_agent(stage, show):
    show.begin(
        "A lease whose agent is killed ends at its time",
        "The agent asks for eight seconds, and dies by SIGKILL in the middle of a statement. Nobody tells the broker.",
    )
    line = 'countersign exec orders.report --ttl 8s --reason "a long report" -- psql -X -c "SELECT pg_sleep(600)"'
    ran = show.launch(stage, line, stage.as_agent)
    lease = ran.until_it_says(r"under lease (lse_\w+)")
    role = until("the role is in use", lambda: next((r for r in stage.roles() if stage.sessions(r)), None), 10)
    started = time.monotonic()
    kill_group(ran.process, signal.SIGKILL)
    show.tell(f"$ kill -KILL {ran.process.pid}   (countersign exec and its psql)")
    show.holds("the agent is dead, its credential still lives", role in stage.roles(), role)
    until("the role is gone", lambda: role not in stage.roles(), 30)
    waited = time.monotonic() - started
    show.tell(f'\n{waited:.1f} s later:\n$ psql -c "SELECT rolname FROM pg_roles WHERE rolname LIKE \'jit\\_%\'"   (as superuser)')
    show.tell(f"  ({len(stage.roles())} rows)")
    show.holds("a lease whose agent was killed ends at its ttl", waited < 18 and not stage.sessions(role), f"{waited:.1f} s")
    tell_lease(stage, show, lease)
    told = of_lease(stage, lease)
    causes = [entry["event"]["cause"] for entry in told if entry["event"]["kind"] == "lease.ending"]
    show.holds("the ledger says why, and that it was proven", causes == ["expired"] and told[-1]["event"]["kind"] == "lease.ended", told)


def killed_broker(stage, show):
    show.begin(
        "The broker is killed between mint and record",
        "PostgreSQL has made the role, and its answer is still on the way (a relay in front of it keeps it back), when the\n"
        "broker dies by SIGKILL. Now a credential exists of which no entry says that it does.",
    )
    before = set(stage.roles())
    stage.relay.keep_back_the_next_mint()
    line = 'countersign exec orders.report --reason "bad luck" -- psql -X -c "SELECT count(*) FROM shop.orders"'
    ran = show.launch(stage, line, stage.as_agent, live=False)
    until("the answer is kept back", stage.relay.kept_back.is_set, 20)
    (role,) = until("the role exists", lambda: set(stage.roles()) - before, 10)
    show.tell(f"$ kill -KILL {stage.broker.pid}   (the broker)")
    kill_group(stage.broker, signal.SIGKILL)
    stage.relay.let_pass_again()
    show.tell(f'$ psql -c "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname = \'{role}\'"   (as superuser)')
    show.tell(f"  {role} | {stage.sql(f'SELECT rolcanlogin FROM pg_roles WHERE rolname = {quoted(role)}')}")
    show.holds("the broker is dead, the role it made is there", role in stage.roles() and stage.broker.returncode == -9, role)
    lease = "lse_" + role.removeprefix("jit_")

    show.tell("\nThe broker is started again, on the same files:\n$ countersign dev examples/shop &")
    restarted = time.monotonic()
    stage.start_broker()
    first = of_lease(stage, lease)
    kinds = [entry["event"]["kind"] for entry in first]
    show.holds("the ledger has the intent, and no word of a credential", "lease.intended" in kinds and "lease.live" not in kinds, kinds)
    until("the role is gone", lambda: role not in stage.roles(), 35)
    waited = time.monotonic() - restarted
    show.tell(f"{waited:.1f} s after the start, the role is gone. The ledger says:")
    closing = until("the end is recorded", lambda: [e for e in of_lease(stage, lease) if e["event"]["kind"] == "lease.ended"], 10)
    tell_lease(stage, show, lease)
    show.holds("the broker cleans up after its restart, within 30 s", waited < 30, f"{waited:.1f} s")
    kinds = [entry["event"]["kind"] for entry in of_lease(stage, lease)]
    show.holds("the ledger tells it as it was", "lease.live" not in kinds and closing[0]["event"]["proof"], kinds)
    show.tell("\nMeanwhile the agent has gone on asking, with the idempotency key of its first call:")
    ran.finish()
    request = closing[0]["event"]["request"]
    others = [e for e in entries(stage) if e["event"].get("request") == request and e["event"].get("lease") != lease]
    later = [e["seq"] for e in others if e["event"]["kind"] == "lease.intended"]
    show.holds("no other credential was made before this one was gone", all(seq > closing[0]["seq"] for seq in later), later)


def ledger(stage, show):
    show.begin(
        "The ledger verifies, a tampered copy does not",
        "Everything above is in a Merkle tree with a signed head. Whoever has the public key can check a copy, offline.",
    )
    key = (stage.state / "ledger.vkey").read_text().strip()
    show.tell(f"$ cat state/ledger.vkey\n  {key}")
    show.command(stage, "countersign ledger export --out ledger.jsonl", stage.as_operator)
    offline = {name: value for name, value in stage.as_agent.items() if not name.startswith("COUNTERSIGN_")}
    verify = lambda file: show.command(
        stage, f"countersign ledger verify {file} --key {key}", offline, f"countersign ledger verify {file} --key $KEY"
    )
    good = verify("ledger.jsonl")
    show.holds("the ledger verifies", good.code == 0 and "verified" in good.said, good.said)
    other = shlex.join([sys.executable, str(ROOT / "examples/verify_ledger.py"), "ledger.jsonl", key])
    independent = show.command(stage, other, offline, "python3 examples/verify_ledger.py ledger.jsonl $KEY   (plain Python that shares no code with it)")
    show.holds("so it does with the independent verifier", independent.code == 0 and "OK" in independent.said, independent.said)

    lines = (stage.dir / "ledger.jsonl").read_text().splitlines(keepends=True)
    number, line = next((n, line) for n, line in enumerate(lines) if "review.given" in line)
    entry = json.loads(line)["seq"]
    show.tell(f"\nBen's approval is entry {entry}. One byte of it is changed, to make it somebody else's:")
    changed = line.replace('\\"subject\\":\\"ben\\"', '\\"subject\\":\\"zen\\"', 1)
    if changed == line:
        raise Failed(f"entry {entry} does not name ben: {line}")
    (stage.dir / "changed.jsonl").write_text("".join([*lines[:number], changed, *lines[number + 1 :]]))
    bad = verify("changed.jsonl")
    show.holds(f"a copy with one byte changed does not verify, and entry {entry} is named", bad.code == 1 and names(bad, entry), bad.said)
    show.tell("\nThe forger is careful and computes the hash beside it anew:")
    careful = json.loads(changed)
    careful["leaf"] = hashlib.sha256(b"\0" + careful["entry"].encode()).hexdigest()
    (stage.dir / "careful.jsonl").write_text("".join([*lines[:number], json.dumps(careful) + "\n", *lines[number + 1 :]]))
    bad = verify("careful.jsonl")
    show.holds("nor does it with the hash made to fit", bad.code == 1 and "does not verify" in bad.said, bad.said)
    show.tell("\nThe same entry is removed:")
    (stage.dir / "removed.jsonl").write_text("".join([*lines[:number], *lines[number + 1 :]]))
    bad = verify("removed.jsonl")
    show.holds(f"a copy with one entry removed does not verify, and entry {entry} is named", bad.code == 1 and names(bad, entry), bad.said)


def stay(stage, show):
    line = (
        'countersign exec customers.export --param country=fr --wait 1h --reason "Autumn letter, OPS-1311" '
        '-- psql -X -c "SELECT name, country FROM shop.customers"'
    )
    show.tell("\n=== Your turn ===\nAn agent has asked, and waits for you:\n")
    waits = show.launch(stage, line, stage.as_agent)
    request = waits.until_it_says(r"review at \S+/requests/(req_\w+)")
    show.tell(
        f"""
  open       {stage.url}/requests/{request}
  sign in as Ben or Dmitri (support leads: they may approve), or as Ana (owns the agent: she may not)
  operator   COUNTERSIGN_ADDR={stage.url} COUNTERSIGN_TOKEN_FILE={stage.state}/operator.token {stage.program} ls
  database   {stage.dir}/postgres, PostgreSQL {stage.postgres_version} on port {stage.postgres_port}
  stop       Ctrl-C here, or kill {os.getpid()}; everything is removed
"""
    )
    while True:
        signal.pause()


# --- reading what is there ---


def details(stage, request):
    answer = stage.output(["--json", "show", request], stage.as_operator)
    return json.loads(answer)


def names(ran, entry):
    return re.search(rf"\bentry {entry}\b", ran.said)


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def indent(text):
    return "\n".join(f"  {line}" for line in text.strip().splitlines())
