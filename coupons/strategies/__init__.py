"""Every known way to hand out N coupons: one module each, one class, one contract (`base.Strategy`)."""

from coupons.strategies.base import ClaimResult, Result, Strategy
from coupons.strategies.conditional_update import ConditionalUpdate
from coupons.strategies.distributed_lock import DistributedLock
from coupons.strategies.list_queue import ListQueue
from coupons.strategies.lua_async import LuaAsync
from coupons.strategies.lua_sync import LuaSync
from coupons.strategies.optimistic import Optimistic
from coupons.strategies.redis_counter import RedisCounter
from coupons.strategies.redis_set import RedisSet
from coupons.strategies.row_lock import RowLock, RowLockInstead
from coupons.strategies.skip_locked import SkipLocked
from events.catalogue import KnownEvent

__all__ = ["STRATEGIES", "WITHOUT_REDIS", "ClaimResult", "Result", "Strategy", "of"]

STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Optimistic(),
        RowLock(),
        ConditionalUpdate(),
        SkipLocked(),
        RedisSet(),
        RedisCounter(),
        DistributedLock(),
        ListQueue(),
        LuaSync(),
        LuaAsync(),
    )
}
WITHOUT_REDIS = RowLockInstead()


def of(event: KnownEvent) -> Strategy:
    """The way that the event's claims go now: its own, or the row lock while Redis is lost."""
    own = STRATEGIES[event.strategy]
    return WITHOUT_REDIS if event.sells_from_database and own.needs_redis else own
