"""What a drain writes for each coupon: no index twice, and none lost on the way there."""

from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model

from coupons.issuing import issue_claims
from coupons.models import Coupon
from coupons.stock.store import StockStore
from events.models import Event
from notifications.models import Notification
from tests.factories import make_users
from tests.sales import reserve

BEFORE = [("coupons", "0002_requests_and_reasons"), ("notifications", "0001_initial")]

INDEXES = """
SELECT class.relname, index.indisunique, array_agg(key.attnum ORDER BY key.place)
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid
CROSS JOIN unnest(index.indkey) WITH ORDINALITY AS key (attnum, place)
WHERE index.indrelid = %s::regclass
GROUP BY class.relname, index.indisunique
"""


def redundant(model: type[Model]) -> list[str]:
    """The indexes that another one begins with; a unique one says something besides."""
    with connection.cursor() as cursor:
        cursor.execute(INDEXES, [model._meta.db_table])
        indexes = cursor.fetchall()
    return [
        name
        for name, is_unique, columns in indexes
        if not is_unique and any(other[: len(columns)] == columns for one, _, other in indexes if one != name)
    ]


@pytest.mark.parametrize("model", [Coupon, Notification])
def test_no_index_is_the_beginning_of_another(transactional_db: None, model: type[Model]) -> None:
    assert redundant(model) == []


def test_a_database_with_coupons_loses_the_redundant_indexes_and_nothing_else(
    sale: Callable[..., Event], store: StockStore
) -> None:
    event = sale(quantity=3)
    reserve(store, event, *make_users(3))
    issue_claims(event.id, store)
    rows = [list(model.objects.order_by("id").values()) for model in (Coupon, Notification)]
    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    try:
        MigrationExecutor(connection).migrate(BEFORE)
        assert (len(redundant(Coupon)), len(redundant(Notification))) == (3, 2), "else there would be nothing to drop"
    finally:
        MigrationExecutor(connection).migrate(newest)
    assert redundant(Coupon) + redundant(Notification) == []
    assert [list(model.objects.order_by("id").values()) for model in (Coupon, Notification)] == rows
    for model, field in ((Coupon, "code"), (Notification, "key")):
        first, second, _ = model.objects.order_by("id")
        setattr(second, field, getattr(first, field))
        with pytest.raises(IntegrityError), transaction.atomic():
            second.save()
