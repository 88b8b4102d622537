"""Batches whose recordings are analysed in this process, which spares the start of an interpreter and the experts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from affuse.batch import pool, worker
from affuse.batch.pool import Answer, WorkerProcess
from affuse.batch.settings import Analyzers, describe, make_analyzers
from affuse.batch.worker import Job

__all__ = ["WorkerHere", "in_this_process"]


class WorkerHere(WorkerProcess):
    """In place of a worker process: the same work by the same code, told and answering in JSON as well.

    For tests of what comes out of a batch. Those of its processes are in test_batch.py.
    """

    _analyzers: Analyzers | None = None

    def start(self) -> dict[str, Any]:
        """Load the experts; returns what decides about the answers."""
        self._analyzers = make_analyzers(self._settings)
        ready: dict[str, Any] = _through_json(describe(self._settings, self._analyzers()))
        return ready

    def answer(self, job: Job, time_limit: float | None) -> Answer:
        """Have one recording analysed."""
        if self._analyzers is None:
            self.start()
        assert self._analyzers is not None
        told: Answer = {}
        asked = Job(**json.loads(job.to_line()))
        line = worker._answer(asked, self._analyzers, Path(self._folder), lambda **said: told.update(said))
        found: Answer = _through_json(line | told)
        return found


def _through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@contextmanager
def in_this_process() -> Iterator[None]:
    """Batches have `WorkerHere` in place of processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "WorkerProcess", WorkerHere)
        patch.setattr(pool, "SOON", 0.02)
        yield
