"""The backend `config.postgresql`: Django's own, but for the way it takes a connection from its pool."""

from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import PoolTimeout

from config.postgresql.connection import BoundedConnection, breaker, current_patience
from events.redis.breaker import BreakerOpen


class DatabaseWrapper(base.DatabaseWrapper):
    """Hands out bounded connections that live, and none while the breaker is open."""

    def __init__(self, settings_dict: dict[str, Any], alias: str = "default") -> None:
        super().__init__(settings_dict, alias)
        # Here and not in the settings, which are not there yet when the class reads them.
        if pool := settings_dict["OPTIONS"].get("pool"):
            pool["connection_class"] = BoundedConnection
            # A server that refuses to be connected to is away, however long the callers are willing to wait.
            pool["reconnect_failed"] = lambda _: breaker.failed()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """A connection from the pool; `psycopg.OperationalError` while PostgreSQL is not asked, or has none in time."""
        if not self.pool:  # Django's own, to make and to drop the database of the tests
            return super().get_new_connection(conn_params)
        try:
            breaker.admit()
        except BreakerOpen as refused:
            raise psycopg.OperationalError(str(refused)) from refused
        probing = not breaker.is_closed()
        connection = self._take_living(conn_params)
        if probing:
            # A statement of the caller's may wait for a lock, or compute: it would tell nothing of the server.
            self._ask(connection)
        return connection

    def _take_living(self, conn_params: dict[str, Any]) -> BoundedConnection[Any]:
        """The pool waits as long as a request does; for whoever has more patience it is asked again."""
        caller = current_patience()
        patience = caller.left
        while True:
            try:
                with caller.waiting():
                    return self._next_living(conn_params)
            except PoolTimeout:
                if caller.left > 0 and breaker.is_closed():
                    continue
                breaker.failed()
                waited = f"{patience - caller.left:.1f} s"
                raise psycopg.OperationalError(
                    f"no connection to PostgreSQL within {waited}: it cannot be connected to, or all are in use"
                ) from None

    def _next_living(self, conn_params: dict[str, Any]) -> BoundedConnection[Any]:
        """Pass over those that the server ended while they lay in the pool: after a restart all of them."""
        connection: BoundedConnection[Any] = super().get_new_connection(conn_params)
        while connection.is_lost():
            self.pool.putconn(connection)
            connection = super().get_new_connection(conn_params)
        return connection

    def _ask(self, connection: BoundedConnection[Any]) -> None:
        try:
            connection.execute("")
        except psycopg.Error:
            self.pool.putconn(connection)
            raise
