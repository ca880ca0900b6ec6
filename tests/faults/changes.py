"""What an operator does to the product while its holds live, by the services that the admin uses.

Faults of a part of their own, for sales with holds only: they do not come up in random rounds. The buyers hear of a
new quantity, for they go when all of it is sold.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from coupons.rush import evidence
from coupons.rush.buyers import Buyers
from events import services
from events.errors import InvalidChange, Unavailable
from events.models import Event
from tests.faults.faults import Scene, fault, persistently, repeatedly
from tests.sales import change

PRODUCT = "product"
GROWS_BY = 10  # units, when the fault begins, and again when it ends
SHRINKS_EVERY = 0.05  # seconds


def resize(scene: Scene, quantity: int) -> None:
    """Have the product be of another quantity, and the buyers hear of it."""
    change(scene.event_id, quantity=quantity)
    if isinstance(scene.crowd, Buyers):
        scene.crowd.resized(quantity)


def quantity_of(scene: Scene) -> int:
    """The units that the product has now."""
    return Event.objects.values_list("quantity", flat=True).get(pk=scene.event_id)


@fault("the product grows", part=PRODUCT)
def grows(scene: Scene) -> Iterator[None]:
    quantity = quantity_of(scene)
    persistently(lambda: resize(scene, quantity + GROWS_BY))
    yield
    persistently(lambda: resize(scene, quantity + 2 * GROWS_BY))


def shrink(scene: Scene) -> None:
    """By half of what nobody has claimed at the moment, be it one unit. Holds that have just ended are among it."""
    level = evidence.level_of(scene.event_id)
    try:
        if level is not None and level.stock:
            # Refused where units were claimed since, or are on their way back.
            with suppress(InvalidChange, Unavailable, DatabaseError):
                resize(scene, max(1, quantity_of(scene) - (level.stock + 1) // 2))
    finally:
        connection.close()


@fault("the product shrinks", part=PRODUCT, lasts=(2.0, 3.0))
def shrinks(scene: Scene) -> Iterator[None]:
    before = quantity_of(scene)
    with repeatedly(lambda: shrink(scene), every=SHRINKS_EVERY):
        yield
    assert quantity_of(scene) < before


@fault("the product is paused and resumed", part=PRODUCT)
def paused(scene: Scene) -> Iterator[None]:
    persistently(lambda: services.pause(event_id=scene.event_id))
    yield
    persistently(lambda: services.resume(event_id=scene.event_id))


def close_earlier(*, event_id: int) -> Event:
    """End the sale by its closing time."""
    return change(event_id, closes_at=timezone.now())


@fault("the product is closed", part=PRODUCT, close=services.close)
@fault("the product closes earlier", part=PRODUCT, close=close_earlier)
def closed(scene: Scene, *, close: Callable[..., Event]) -> Iterator[None]:
    """It ends no hold: some of them are paid for afterwards."""
    persistently(lambda: close(event_id=scene.event_id))
    closed_at = timezone.now()
    yield
    assert evidence.first_issued_at(scene.event_id, since=closed_at)
