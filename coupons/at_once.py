"""Take a unit and write its coupon in one statement: what is locked is locked while the server works, and no longer.

In several statements whoever has the event's row keeps it while answers travel, and on a busy machine while it waits
for the processor; and all others wait for that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection

from coupons.codes import new_code
from coupons.direct import Overtaken
from coupons.errors import UnknownUser
from coupons.locks import drain_lock
from coupons.models import Coupon
from events.models import Event

# The next number on the event's row. The guard of the first promise is in it, whatever else is asked.
TAKE = """
    UPDATE events_event SET issued = issued + 1, version = version + 1,
        last_number = greatest(last_number, coalesce(%(number)s::bigint, last_number + 1))
    WHERE id = %(event)s AND issued < quantity
        AND (%(accepted)s OR (status = 'published' AND stock_mode = %(mode)s AND epoch = %(epoch)s))
        AND (%(version)s::bigint IS NULL OR version = %(version)s)
        AND (%(fence)s::bigint IS NULL OR last_number < %(fence)s)
    RETURNING coalesce(%(number)s::bigint, last_number) AS number
"""
# Of a statement that takes a unit and returns its number. No conflict is passed over, as in `rows.issue`: it must take
# the unit back with it.
ISSUE = """
WITH taken AS ({take}), issued AS (
    INSERT INTO coupons_coupon (
        event_id, user_id, ordinal, code, status, epoch, sequence, place, units, request, claimed_at, issued_at
    )
    SELECT %(event)s, %(user)s, %(ordinal)s, %(code)s, 'issued', %(epoch)s, number, 1, 1, %(request)s, %(claimed)s,
        %(now)s
    FROM taken
    RETURNING sequence, event_id || '-' || epoch || '-' || sequence AS claim_id
), told AS (
    INSERT INTO notifications_notification (user_id, kind, key, data, created_at)
    SELECT %(user)s, 'coupon_issued', 'coupon_issued:' || claim_id,
        jsonb_build_object('event_id', %(event)s::bigint, 'claim_id', claim_id, 'code', %(code)s::text), %(now)s
    FROM issued
    ON CONFLICT (key) DO NOTHING
    RETURNING id
), outbox AS (
    INSERT INTO notifications_outbox (notifications) SELECT array_agg(id) FROM told HAVING count(*) > 0
)
SELECT sequence FROM issued
"""


def issue(
    event: Event,
    user_id: int,
    request: str,
    now: datetime,
    *,
    ordinal: int = 1,
    number: int | None = None,
    claimed_at: datetime | None = None,
    version: int | None = None,
    fence: int | None = None,
    accepted: bool = False,
    statements: str = ISSUE.format(take=TAKE),
) -> Coupon:
    """One coupon, of one unit, counted; with the next number unless one is given.

    `Overtaken` where the event is not on as it stood, has no unit left, or the user has this coupon by another request;
    also where its version is another, or its last number not below `fence`, if these are given. What was `accepted`
    is issued whether or not the event is still on. `UnknownUser` where the user is gone. Other `statements` take the
    unit otherwise; they are sent as one message, and so are one transaction, and the last of them is `ISSUE`.
    """
    values: dict[str, Any] = {
        "event": event.pk,
        "drain_lock": drain_lock(event.pk),
        "mode": event.stock_mode,
        "epoch": event.epoch,
        "user": user_id,
        "ordinal": ordinal,
        "code": new_code(),
        "request": request,
        "claimed": claimed_at or now,
        "now": now,
        "number": number,
        "version": version,
        "fence": fence,
        "accepted": accepted,
    }
    with _blamed(user_id), connection.cursor() as cursor:
        cursor.execute(statements, values)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
    if row is None:
        raise Overtaken
    return Coupon(
        event=event,
        user_id=user_id,
        ordinal=ordinal,
        code=values["code"],
        epoch=event.epoch,
        sequence=row[0],
        request=request,
        claimed_at=values["claimed"],
        issued_at=now,
    )


@contextmanager
def _blamed(user_id: int) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) == "coupon_once_a_user":
            raise Overtaken from None
        if not get_user_model().objects.filter(pk=user_id).exists():
            raise UnknownUser from None
        raise
