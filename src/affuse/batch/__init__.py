"""Many recordings in one run that may be killed at any time: a data set of Parquet files and a page about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.batch.reading import read
    from affuse.batch.running import BatchResult, run
    from affuse.batch.settings import BatchSettings

__all__ = ["BatchResult", "BatchSettings", "read", "run"]

_HOMES = {"BatchResult": ".running", "BatchSettings": ".settings", "read": ".reading", "run": ".running"}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
