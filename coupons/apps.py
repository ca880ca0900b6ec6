"""The app's entry in INSTALLED_APPS."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CouponsConfig(AppConfig):
    """The `coupons` app. It is the stock that `events` asks for."""

    name = "coupons"
    verbose_name = _("Coupons")

    def ready(self) -> None:
        """Hand the stock to `events`, which is below and cannot import it."""
        # Models can be imported only now.
        from coupons.keeper import RedisStockKeeper  # noqa: PLC0415
        from events import stock  # noqa: PLC0415

        stock.register(RedisStockKeeper())
