"""The app's entry in INSTALLED_APPS."""

from django.apps import AppConfig


class CouponsConfig(AppConfig):
    """The `coupons` app. It is the stock that `events` asks for."""

    name = "coupons"

    def ready(self) -> None:
        """Hand the stock to `events`, which is below and cannot import it."""
        from coupons.keeper import RedisStockKeeper
        from events import stock

        stock.register(RedisStockKeeper())
