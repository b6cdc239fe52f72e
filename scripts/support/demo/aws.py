"""The chapter about AWS: a session that can write below one prefix, and is cut off while it does."""

import json
import re
import time

from demo import cloud as setting
from demo.reading import of_lease, tell_lease
from demo.stage import until

# An agent that goes on until it is stopped, and keeps a copy of its keys.
EXPORTER = """\
import boto3, json, time
session = boto3.Session()
keys = session.get_credentials().get_frozen_credentials()
json.dump({"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key, "AWS_SESSION_TOKEN": keys.token}, open("kept.json", "w"))
s3 = session.client("s3")
for part in range(600):
    s3.put_object(Bucket="orders-exports", Key=f"daily/2026-11-22/part-{part}", Body=b"rows")
    print(f"put part {part}", flush=True)
    time.sleep(0.5)
"""

EXEC = 'countersign exec exports.write --param day=2026-11-22 --reason "nightly export"'


def aws(stage, show):
    show.begin(
        "A session of AWS is cut off while it works",
        "AWS has no call that ends one session: it runs for fifteen minutes at least. Here one may write below one prefix, and\n"
        "is denied everything the moment it is revoked. (AWS is an emulator on this machine that judges by signature and policy.)",
    )
    cloud = setting.Cloud(stage, *setting.prepare(show.say))
    try:
        cloud.set_up()
        writes_below_one_prefix(stage, show, cloud)
        revoked_while_it_writes(stage, show, cloud)
    finally:
        cloud.tear_down()


def writes_below_one_prefix(stage, show, cloud):
    (stage.dir / "orders.csv").write_text("id,amount\n1,100\n")
    copy = lambda to: show.command(stage, f"{EXEC} -- aws s3 cp --only-show-errors orders.csv s3://{to}", cloud.as_agent)
    ran = copy("orders-exports/daily/2026-11-22/orders.csv")
    show.holds("a write below the approved prefix goes through", ran.code == 0 and cloud.objects() == ["daily/2026-11-22/orders.csv"], ran.said)
    for what, where in [("another day", "orders-exports/daily/2026-11-23/"), ("a bucket of a similar name", "orders-exports-archive/daily/2026-11-22/")]:
        show.tell("")
        ran = copy(f"{where}orders.csv")
        show.holds(f"AWS refuses {what}", ran.code != 0 and "AccessDenied" in ran.said, ran.said)


def revoked_while_it_writes(stage, show, cloud):
    show.tell("\nThis one goes on and on, and keeps a copy of its keys:")
    (stage.dir / "export.py").write_text(EXPORTER)
    ran = show.launch(stage, f"{EXEC} --ttl 10s -- python export.py", cloud.as_agent)
    lease = ran.until_it_says(r"under lease (lse_\w+)")
    ran.until_it_says(r"(put part 1)")
    started = time.monotonic()
    revoked = show.command(stage, f"countersign revoke {lease}", cloud.stage.as_operator_of(cloud))
    waited = time.monotonic() - started
    show.holds(f"the revocation is seen to hold at AWS, in {waited:.0f} s", revoked.code == 0 and "cut off" in revoked.said, revoked.said)
    ran.finish()
    show.holds("the command is ended, and told why", ran.code != 0 and re.search("revoked|ended early", ran.said), ran.said)

    show.tell("\nSomebody has the copy of its keys. As far as STS is concerned they are good for a quarter of an hour:")
    kept = json.loads((stage.dir / "kept.json").read_text())
    line = "aws s3 cp --only-show-errors orders.csv s3://orders-exports/daily/2026-11-22/again.csv"
    again = show.command(stage, line, cloud.as_holder(kept))
    show.holds("a copy of its keys is worth nothing", again.code != 0 and "AccessDenied" in again.said and "explicit deny" in again.said, again.said)

    show.tell("\nThe ledger does not call it ended before it has run out:")
    kinds = lambda: [entry["event"]["kind"] for entry in of_lease(stage, lease, cloud)]
    cut = "lease.ended" not in kinds() and "lease.cut_off" in kinds()
    show.holds("the ledger says cut off first", cut, kinds())
    until("the lease has run out", lambda: "lease.ended" in kinds(), 40)
    tell_lease(stage, show, lease, cloud)
    order = kinds()
    show.holds("and ended when it has", order.index("lease.cut_off") < order.index("lease.ended"), order)
