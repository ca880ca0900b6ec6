"""The two lanes side by side: the same conversation with each, on events of their own that are alike."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework_simplejwt.tokens import RefreshToken

from coupons import failures, modes
from coupons.issuing import issue_claims
from coupons.models import FailedClaim
from coupons.stock import keys
from coupons.stock.store import bulk_store
from events import services
from events.models import Event
from events.tokens import FIRST_LANE
from events.waiting_room.records import Visit
from events.waiting_room.store import Rules, bulk_room_store
from tests.api_kit import forge, token_of
from tests.contract.corpus import Case
from tests.factories import make_event, make_user
from tests.sales import reserve
from tests.web import until_read
from tests.wire import PROBE, Connection, Reply

# Not compared: what the server adds (whether it hangs up is), and what only pages need.
IGNORED = {"date", "server", "connection", "x-frame-options", "referrer-policy", "cross-origin-opener-policy"}
FIRST_STRANGER = 1_000_000  # users from here on are in no database; a token is all that the claim path knows of one
MEMBERS = 12  # users who are in the database, and have claimed nothing

PROBLEM = "application/problem+json"

_NAME = re.compile(rb"<(\w+)>")
_REQUEST_ID = re.compile(rb"(?im)^x-request-id:[ \t]*(.*?)[ \t]*\r$")
_MOMENT = r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"'
_VARIES = [
    (
        re.compile(rf'"(opens_at|closes_at|claimed_at|issued_at|pass_expires_at|hold_expires_at)":{_MOMENT}'),
        r'"\1":"a moment"',
    ),
    (re.compile(r'"(server_time|sequence|event_id|eta_seconds|poll_after_ms|waiting)":\d+'), r'"\1":"a number"'),
    (re.compile(r'"(seed|seed_hash)":"[0-9a-f]+"'), r'"\1":"drawn"'),
    (re.compile(r'\{"code":"[^"]+","event_id"'), '{"code":"a code","event_id"'),
]


@dataclass(frozen=True, slots=True)
class Lane:
    """A server, and what the names of the corpus stand for there."""

    name: str
    port: int
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a lane said, with what must differ made alike."""

    answers: Sequence[str]
    told: Sequence[Mapping[str, Any]]
    closed: bool


class Lanes:
    """All lanes. Made where the database may be asked."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        owner, other = make_user(), make_user()
        self._tokens = {"owner": token_of(owner), "other": token_of(other), **_odd_tokens(owner)}
        self._members = iter([token_of(make_user()) for _ in range(MEMBERS)])
        self._strangers = itertools.count(FIRST_STRANGER)
        self.lanes = [Lane(name, port, _events(owner.pk, other.pk)) for name, port in ports.items()]
        last = services.publish(event_id=make_event().id)
        for lane in self.lanes:
            until_read(lane.port, last)

    def compare(self, case: Case) -> None:
        """Have the conversation with all; they must say the same, and what the case says."""
        first, *others = self.converse(case)
        assert (list(first.answers), first.closed) == (list(case.answers), case.closes)
        for other in others:
            assert other == first

    def converse(self, case: Case, lanes: Sequence[Lane] = ()) -> list[Conversation]:
        """What each lane says. All meet the same callers."""
        sent = b"".join(case.messages)
        callers = {"token": forge(user_id=next(self._strangers)), **self._tokens}
        if b"<member>" in sent:
            callers["member"] = next(self._members)
        return [_converse(lane, case, {**lane.names, **callers}) for lane in lanes or self.lanes]


def _converse(lane: Lane, case: Case, names: dict[str, str]) -> Conversation:
    replies: list[Reply] = []
    with Connection(lane.port) as connection:
        for message in case.messages:
            connection.send(_filled(message, names))
            reply = connection.receive(of_head=message.startswith(b"HEAD "))
            if reply is None:
                break
            replies.append(reply)
            names |= _named_by(reply)
        connection.send(PROBE)
        while (reply := connection.receive()) is not None:
            replies.append(reply)
    closed = not replies or replies[-1].body != b'{"status":"ok"}'
    if not closed:
        del replies[-1]
    sent_id = _REQUEST_ID.search(b"".join(case.messages))
    tell = _Teller(lane.names.values(), sent_id[1].decode("latin-1") if sent_id else "")
    return Conversation([_summary(one) for one in replies], [tell(one) for one in replies], closed)


def _filled(message: bytes, names: Mapping[str, str]) -> bytes:
    return _NAME.sub(lambda found: names[found[1].decode()].encode(), message)


def _named_by(reply: Reply) -> dict[str, str]:
    """What later messages may call by name."""
    named = {"claim": (reply.header("location") or "").rpartition("/")[2], "etag": reply.header("etag") or ""}
    return {name: value for name, value in named.items() if value}


def _summary(reply: Reply) -> str:
    code = re.search(rb'"code":"(\w+)"', reply.body) if reply.header("content-type") == PROBLEM else None
    return f"{reply.status} {code[1].decode()}" if code else str(reply.status)


class _Teller:
    """Tells answers with what must differ made alike. Claims are numbered as they come up: the same stays the same."""

    def __init__(self, ids: Any, request_id: str) -> None:
        self._request_id = request_id
        events = "|".join(sorted({one for one in ids if one.isdigit()}, key=len, reverse=True))
        self._claim = re.compile(rf"\b({events})-\d+-\d+\b")
        self._event = re.compile(rf"/events/({events})(?=/)")
        self._claims: dict[str, str] = {}

    def __call__(self, reply: Reply) -> dict[str, Any]:
        headers = {}
        for name, value in reply.headers:
            if name not in IGNORED:
                assert name not in headers, f"twice: {name}"
                headers[name] = self._header(name, value, reply)
        body = self._plain(reply.body.decode("utf-8"))
        for pattern, alike in _VARIES:
            body = pattern.sub(alike, body)
        return {"status": reply.status, "headers": headers, "body": body}

    def _header(self, name: str, value: str, reply: Reply) -> str:
        match name:
            case "content-length":
                assert not reply.body or len(reply.body) == int(value)
                return "named"
            case "etag":
                return "W/" if value.startswith("W/") else "named"
            case "retry-after":
                return value if value == "1" else "later"
            case "x-request-id":
                return "echoed" if value == self._request_id else "ours"
        return self._plain(value)

    def _plain(self, text: str) -> str:
        text = self._claim.sub(lambda found: self._claims.setdefault(found[0], f"claim {len(self._claims) + 1}"), text)
        return self._event.sub("/events/an event", text)


def _odd_tokens(user: Any) -> dict[str, str]:
    good = forge(user_id=user.pk)
    head, payload, signature = good.split(".")
    return {
        "expired": forge(exp=timezone.now().timestamp() - 60),
        "endless": forge(exp=None),
        "tampered": f"{head}.{payload[:-4]}AAAA.{signature}",
        "unsigned": forge(algorithm="none"),
        "stripped": f"{head}.{payload}.",
        "of_another_key": forge(key="another-key-" + "y" * 40),
        "of_another_algorithm": forge(algorithm="HS384"),
        "refresh": str(RefreshToken.for_user(user)),
        "of_tomorrow": forge(nbf=timezone.now().timestamp() + 86400),
        "of_nobody": forge(user_id=None),
        "of_zero": forge(user_id=0),
        "of_minus_one": forge(user_id=-1),
        "of_too_many": forge(user_id=2**63),
        "of_true": forge(user_id=True),
        "of_text": forge(user_id="admin"),
    }


def _events(owner: int, other: int) -> dict[str, str]:
    """The events of a lane and the claims on them, by their names in the corpus."""
    now, hour = timezone.now(), timedelta(hours=1)

    def published(name: str, **fields: Any) -> Event:
        # The same title in each lane: it is told with a coupon.
        return services.publish(event_id=make_event(**{"title": name, "quantity": 100_000, **fields}).id)

    events = {
        "open": published("open"),
        "slow": published("slow", rate_per_second=1, burst=1),
        "sold_out": published("sold out", quantity=1),
        "not_open": published("not open", opens_at=now + hour, closes_at=now + 2 * hour),
        "paused": published("paused"),
        "closed": published("closed"),
        "over": published("over"),
        "database": published("database"),
        "database_too": published("database, and nobody claims"),
        "history": published("history", per_user_limit=3),
        "holds": published("holds", hold_seconds=3600),
        "several": published("several units", per_user_limit=3),
        "draft": make_event(title="draft"),
        **_rooms(published),
    }
    store = bulk_store()
    reserve(store, events["sold_out"], other)
    let_in = Visit("join", other, FIRST_LANE)
    for name in ("room", "room_sold_out"):
        bulk_room_store().visit(events[name].id, Rules(rate=50, max_active=1, pass_ttl=30_000, grace=120), [let_in])
    reserve(store, events["room_sold_out"], other)
    for name in ("paused", "room_paused"):
        services.pause(event_id=events[name].id)
    for name in ("closed", "room_closed"):
        services.close(event_id=events[name].id)
    Event.objects.filter(pk=events["over"].pk).update(opens_at=now - 2 * hour, closes_at=now - hour)
    for name in ("database", "database_too", "room_database"):
        modes.sell_from_database(events[name].id, store)
    return {**{name: str(event.id) for name, event in events.items()}, **dict(_claims(events, owner, other))}


def _rooms(published: Callable[..., Event]) -> dict[str, Event]:
    """Sales with a waiting room: in `room` one holds the only pass, and all others wait."""
    later = {"opens_at": timezone.now() + timedelta(hours=1), "closes_at": timezone.now() + timedelta(hours=2)}
    narrow = {"waiting_room": True, "max_active": 1, "pass_ttl": 30_000}
    return {
        "room": published("room", **narrow),
        "wide": published("wide", waiting_room=True, admission_rate=10_000, max_active=10_000),
        "room_sold_out": published("room, sold out", quantity=1, **narrow),
        "room_not_open": published("room, not open", **narrow, **later),
        "shuffled": published("room, shuffled", entry_order="shuffle", **narrow, **later),
        "room_paused": published("room, paused", **narrow),
        "room_closed": published("room, closed", **narrow),
        "room_database": published("room, database", **narrow),
    }


def _claims(events: Mapping[str, Event], owner: int, other: int) -> Iterator[tuple[str, str]]:
    """Claims of each kind on the event `history`: `owner` has three, and `other` one."""
    store, event = bulk_store(), events["history"]
    (before,) = reserve(store, event, owner)
    issue_claims(event.id, store)
    for key in store.client.scan_iter(keys.issued(event.id, 0)[:-1] + "*"):
        store.client.delete(key)  # it is told by the database now, as after a minute
    (issued,), (foreign,) = reserve(store, event, owner), reserve(store, event, other)
    issue_claims(event.id, store)
    (rejected,) = reserve(store, event, owner)
    failures.reject(event.id, [rejected], FailedClaim.Reason.ERROR)
    store.release(event.id, [rejected])
    for name in ("holds", "several"):
        store.reserve(events[name].id, epoch=1, claims=[(owner, "", 1 if name == "holds" else 3)])
        issue_claims(events[name].id, store)
        yield f"of_{name}", f"{events[name].id}-1-1"
    found = {"issued_before": before, "issued": issued, "foreign": foreign, "rejected": rejected}
    for name, entry in found.items():
        yield name, f"{event.id}-{entry.entry_id}"
