"""A lock in cloud storage, where none ends with the process that holds it.

The holder writes a number into an object every few seconds. Who finds the object waits whether the number changes:
then the holder lives, and else it was killed, and the lock is taken over. No clocks are compared.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from affuse.batch.storage import told
from affuse.errors import OutputError

__all__ = ["leased"]

BEAT = 5.0  # seconds between two numbers
PATIENCE = 20.0  # seconds without a new one after which the holder counts as killed


@contextmanager
def leased(path: Path) -> Iterator[None]:
    """Hold the lock at an object. Raises OutputError where another run holds it, or it cannot be written."""
    own = uuid.uuid4().hex
    try:
        _wait_for_the_killed(path)
        path.write_text(f"{own} 0", encoding="utf-8")
        if not _read(path).startswith(own):
            raise OutputError(_taken(path))
    except OutputError:
        raise
    except Exception as error:  # every kind of storage has its own errors
        raise OutputError(f"{path.parent} cannot be written: {told(error)}") from error
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, own, over), daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()
        with suppress(Exception):  # left behind, it is taken over by the next run
            path.unlink()


def _taken(path: Path) -> str:
    return f"another run writes to {path.parent}; wait for its end, or choose another folder"


def _wait_for_the_killed(path: Path) -> None:
    """Return at once where nobody holds the lock, or after some seconds where its holder is gone."""
    before = _read(path)
    if not before:
        return
    threading.Event().wait(PATIENCE)
    now = _read(path)
    if now and now != before:
        raise OutputError(_taken(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _beat(path: Path, own: str, over: threading.Event) -> None:
    number = 0
    while not over.wait(BEAT):
        number += 1
        with suppress(Exception):  # the network may be away for a while; the work itself tells where it stays so
            path.write_text(f"{own} {number}", encoding="utf-8")
