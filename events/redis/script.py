"""Scripts on Redis, and what its errors mean."""

from collections.abc import Sequence
from hashlib import sha1
from importlib import resources
from typing import Any

from redis import exceptions

from events.redis.client import Client
from events.redis.in_loop import LoopClient

# No answer, or one that says that nothing can be written here: a demoted primary, full memory, a failing disk.
OUTAGES = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterError,
    exceptions.TryAgainError,
)
OUTAGE_TEXTS = ("MISCONF", "NOREPLICAS", "OOM", "READONLY")  # as scripts and older servers say them


def is_outage(error: BaseException) -> bool:
    """Whether an error of Redis means that claims cannot be taken there now, whoever asks and for whatever event."""
    if isinstance(error, exceptions.MaxConnectionsError):
        return False  # nobody was asked: this process has as many calls under way as it may
    return isinstance(error, OUTAGES) or str(error).startswith(OUTAGE_TEXTS)


class Script:
    """A Lua script, called by its digest, and sent in full to a server that does not know it.

    In full it is run by the same command. redis-py's own loads it first, on all nodes of a cluster, and then calls it
    again: that fails where another node is away, and where somebody flushes the scripts in between.
    """

    def __init__(self, client: Client, text: str) -> None:
        self._client = client
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def of(cls, client: Client, package: str, name: str) -> "Script":
        """The script `lua/<name>.lua` of a package."""
        return cls(client, resources.files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8"))

    def __call__(self, keys: Sequence[str], args: Sequence[str | int] = ()) -> Any:
        """Run it. One round trip; two where the server does not know it."""
        try:
            return self._client.evalsha(self.sha, len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return self._client.eval(self.text, len(keys), *keys, *args)

    async def acall(self, client: LoopClient, keys: Sequence[str], args: Sequence[str | int] = ()) -> Any:
        """The same from an event loop."""
        try:
            return await client.ask("EVALSHA", self.sha, len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return await client.ask("EVAL", self.text, len(keys), *keys, *args)
