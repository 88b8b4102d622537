"""Many recordings in one run that may be killed at any time: a data set of Parquet files and a page about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.batch.forgetting import Forgotten, Removal, forget, log_removals, namesakes, target_of
    from affuse.batch.reading import read
    from affuse.batch.running import BatchResult, run
    from affuse.batch.settings import BatchSettings

__all__ = [
    "BatchResult",
    "BatchSettings",
    "Forgotten",
    "Removal",
    "forget",
    "log_removals",
    "namesakes",
    "read",
    "run",
    "target_of",
]

_FORGETTING = ("Forgotten", "Removal", "forget", "log_removals", "namesakes", "target_of")
_HOMES = {
    "BatchResult": ".running",
    "BatchSettings": ".settings",
    "read": ".reading",
    "run": ".running",
    **dict.fromkeys(_FORGETTING, ".forgetting"),
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
