"""Reading what a broker has written down."""

import json


def entries(stage, broker=None):
    """The whole ledger, as a broker gives it to its operator; the stage's own broker if none is named."""
    lines = stage.output(["ledger", "export"], stage.as_operator_of(broker or stage)).splitlines()
    found = [json.loads(line) for line in lines]
    return [json.loads(line["entry"]) for line in found if "entry" in line]


def of_lease(stage, lease, broker=None):
    return [entry for entry in entries(stage, broker) if entry["event"].get("lease") == lease]


def tell_lease(stage, show, lease, broker=None):
    for entry in of_lease(stage, lease, broker):
        event = entry["event"]
        facts = {name: event[name] for name in ("cause", "mint_until", "expires", "until", "outcome", "proof") if name in event}
        facts = ", ".join(f"{name} {' '.join(value) if isinstance(value, list) else value}" for name, value in facts.items())
        show.tell(f"  {entry['seq']:4}  {entry['time']}  {event['kind']:17}  {facts}")
