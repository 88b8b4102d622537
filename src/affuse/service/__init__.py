"""The service: analyses as jobs over HTTP, fusion of anybody's predictions, and live streams.

`serve` is what ``affuse serve`` runs; `create_app` and `Worker` are its two halves, for a server or a process manager
of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from affuse.service.settings import Settings
from affuse.service.store import Job, JobStore

if TYPE_CHECKING:
    from affuse.service.app import create_app
    from affuse.service.server import serve
    from affuse.service.worker import Worker

__all__ = ["Job", "JobStore", "Settings", "Worker", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    """What needs the extra ``serve``, loaded when it is first asked for (PEP 562)."""
    from importlib import import_module

    from affuse.errors import MissingExtraError

    homes = {"Worker": "worker", "create_app": "app", "serve": "server"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"affuse.service.{homes[name]}"), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
