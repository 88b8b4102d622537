"""The service: analyses as jobs over HTTP, fusion of anybody's predictions, and live streams.

`serve` is what ``affuse serve`` runs; `create_app` and `Worker` are its two halves, for a server or a process manager
of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names
from affuse.service.settings import Settings
from affuse.service.store import Job, JobStore

if TYPE_CHECKING:
    from affuse.service.app import create_app
    from affuse.service.forgetting import forget_jobs
    from affuse.service.server import serve
    from affuse.service.worker import Worker

__all__ = ["Job", "JobStore", "Settings", "Worker", "create_app", "forget_jobs", "serve"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {"Worker": ".worker", "create_app": ".app", "forget_jobs": ".forgetting", "serve": ".server"},
    extra="serve",
)
