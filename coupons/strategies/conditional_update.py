"""One guarded `UPDATE`: the check and the decrement are one statement, and the database sees to the rest."""

from coupons import at_once
from coupons.direct import Sale
from coupons.selectors import ClaimView, as_written
from coupons.strategies.database import DatabaseStrategy
from events.models import Event


class ConditionalUpdate(DatabaseStrategy):
    """`UPDATE … SET issued = issued + 1 WHERE issued < quantity … RETURNING`: a row changed is a unit taken.

    For: nothing is locked while anything is looked at, no claim is in vain as long as units last, and the coupon is
    written by the same statement, so that the row is locked for no longer than the server works. The best of those
    without Redis. Against: there all pass one after another all the same, as fast as commits do; each who comes costs
    the database a look, also when all is gone; and under `REPEATABLE READ` it would fail instead of waiting.
    """

    name = Event.Strategy.CONDITIONAL_UPDATE

    def issue(self, sale: Sale, user_id: int, request: str) -> ClaimView:
        """All in one. No row: the sale has changed, and another look says how."""
        return as_written(at_once.issue(sale.event, user_id, request, sale.now, ordinal=sale.free_ordinal))
