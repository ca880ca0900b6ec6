"""What is asked of a sale with holds beside the promises of every sale."""

from collections.abc import Iterable

from coupons.rush.checker import Database, Name, Verdict, parse
from coupons.rush.history import Exchange


def check_holds(exchanges: Iterable[Exchange], database: Database) -> Verdict:
    """A hold ends once: what was confirmed is issued, what was cancelled or came too late is not, and has a reason."""
    issued = {(row.user_id, row.claim) for row in database.coupons if not row.held}
    ends: dict[Name, set[str]] = {}
    for one in exchanges:
        name = (one.user_id, parse(one.claim_id))
        if one.kind in ("confirm", "cancel", "poll") and one.state in ("issued", "rejected"):
            ends.setdefault(name, set()).add(one.state)
    both = sum(len(states) > 1 for states in ends.values())
    denied = sum(states == {"issued"} and name not in issued for name, states in ends.items())
    kept_back = sum(states == {"rejected"} and name in issued for name, states in ends.items())
    confirmed = sum(states == {"issued"} for states in ends.values())
    text = f"a hold ends once, and as told: {confirmed} confirmed, {len(ends) - confirmed} ended otherwise"
    for number, what in ((both, "both"), (denied, "told issued and are not"), (kept_back, "told ended and are issued")):
        if number:
            text += f", {number} {what}"
    numbers = {"confirmed": confirmed, "ended": len(ends) - confirmed, "both": both, "denied": denied}
    return Verdict("H1", not (both or denied or kept_back), text, numbers | {"kept_back": kept_back})
