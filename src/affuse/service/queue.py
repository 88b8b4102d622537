"""The queue that wakes workers: Huey over SQLite, or over Redis where a URL is given.

A message says no more than "there is a job"; which one it is, the `Store` says, so a message that is lost with a
killed worker, or sent twice, does no harm: `top_up` sends as many as there are jobs that wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey import Huey, RedisHuey, SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

from affuse.errors import ConfigError

__all__ = ["JsonSerializer", "WakeUps", "open_queue"]


class JsonSerializer(Serializer):
    """Messages as JSON: what comes out of a queue that others may reach must never be a pickle."""

    def _serialize(self, data: Any) -> bytes:
        return json.dumps(data._asdict() if isinstance(data, Message) else data).encode()

    def _deserialize(self, data: bytes) -> Any:
        values = json.loads(data)
        return Message(**values) if isinstance(values, dict) else values


def open_queue(folder: Path, redis: str | None) -> Huey:
    """The queue of a service. Raises ConfigError where Redis does not answer."""
    if redis is None:
        return SqliteHuey("affuse", filename=str(folder / "queue.db"), results=False, serializer=JsonSerializer())
    from redis.exceptions import RedisError

    queue = RedisHuey("affuse", url=redis, results=False, serializer=JsonSerializer())
    try:
        queue.storage.conn.ping()
    except RedisError as error:
        raise ConfigError(f"no Redis server answers at {redis} ({error})") from error
    return queue


class WakeUps:
    """Sends messages to workers, and is where a worker says what to do on one."""

    def __init__(self, queue: Huey, work: Callable[[], None] = lambda: None) -> None:
        self.queue = queue

        @queue.task(name="work")  # server and worker register the same name; only the worker's consumer ever calls it
        def wake() -> None:
            work()

        self._task = wake

    def send(self) -> None:
        """Wake one worker."""
        self._task()

    def top_up(self, n_waiting: int) -> None:
        """See to it that there is a message for every job that waits."""
        for _ in range(n_waiting - self.queue.pending_count()):
            self.send()
