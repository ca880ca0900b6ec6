"""When Redis counts as lost to a sale, which then goes on from the database. One rule for claims and for visits."""

from django.utils import timezone

from events.catalogue import KnownEvent
from events.models import Event
from events.redis import servers


def is_lost(event: KnownEvent) -> bool:
    """Whether Redis has been silent to this process for as long as the event bears.

    A sale that nobody can claim from has time: one that is paused, or not open yet, stays where it is, and is moved by
    the first who asks afterwards. Only what failed since this process heard of the event's epoch counts: a breaker may
    still be open from an outage that is over, and the sale back.
    """
    failing_for = servers.hot().breaker(event.id).failing_for(since=event.heard_at)
    is_open = event.status == Event.Status.PUBLISHED and event.opens_at <= timezone.now()
    return is_open and failing_for > 0 and failing_for >= event.redis_lost_after
