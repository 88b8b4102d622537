"""What is known of every job, in SQLite: the one truth that survives the end of any process."""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["FINAL", "LEASE", "Job", "Store"]

LEASE = 10.0
"""Seconds after its worker's last sign of life at which a running job counts as abandoned."""

FINAL = ("done", "failed")

# A job that ends its runner fails at once; one whose worker vanishes this often is not tried again.
_MAX_ATTEMPTS = 10

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    name TEXT NOT NULL,
    upload TEXT NOT NULL,
    transcript TEXT,
    options TEXT NOT NULL,
    stage TEXT NOT NULL DEFAULT '',
    progress REAL NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    worker TEXT,
    lease REAL,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created);
"""


@dataclass(frozen=True)
class Job:
    """A job as it stands; times in seconds since 1970.

    ``upload`` (a recording or, where ``options`` say so, a text) and ``transcript`` are names of files in the folder of
    uploads, ``options`` what the analysis is told; ``name`` is what the client called its recording and is only shown.
    """

    id: str
    state: str
    created: float
    started: float | None
    finished: float | None
    name: str
    upload: str
    transcript: str | None
    options: Mapping[str, Any]
    stage: str
    progress: float
    error: str
    attempts: int


_COLUMNS = ", ".join(field.name for field in fields(Job))


class Store:
    """Jobs in an SQLite file that any number of processes may use at once.

    Every method is one transaction. A claimed job belongs to its worker until the lease runs out, so what a killed
    worker leaves behind is taken up again, and never by two at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(self._connection()) as db:
            db.execute("PRAGMA journal_mode=WAL")  # of the file, for good: readers and a writer do not wait
            db.executescript(_TABLE)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connection()) as db:
            db.execute("BEGIN IMMEDIATE")
            yield db  # closing rolls back what is not committed
            db.commit()

    def _connection(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        db.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
        return db

    def add(
        self, name: str, options: Mapping[str, Any], upload: str, transcript: str | None = None, room: float = math.inf
    ) -> Job | None:
        """Accept a job: once this returns, it will be done whatever happens. None where ``room`` jobs wait already."""
        job_id = secrets.token_hex(16)
        with self._transaction() as db:
            (waiting,) = db.execute("SELECT COUNT(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= room:
                return None
            db.execute(
                "INSERT INTO jobs (id, state, created, name, upload, transcript, options)"
                " VALUES (?, 'queued', ?, ?, ?, ?, ?)",
                (job_id, time.time(), name, upload, transcript, json.dumps(dict(options))),
            )
            return _one(db, job_id)

    def get(self, job_id: str) -> Job | None:
        """The job of that name, if there is one."""
        with self._transaction() as db:
            return _found(db, job_id)

    def recent(self, limit: int, offset: int) -> list[Job]:
        """Jobs, the newest first."""
        with self._transaction() as db:
            query = f"SELECT {_COLUMNS} FROM jobs ORDER BY created DESC, id LIMIT ? OFFSET ?"
            return [_job(row) for row in db.execute(query, (limit, offset))]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._transaction() as db:
            found = dict(db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state"))
        return {state: found.get(state, 0) for state in ("queued", "running", *FINAL)}

    def claim(self, worker: str) -> Job | None:
        """Take the job that has waited longest, if any, for ``worker``."""
        with self._transaction() as db:
            query = "SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, id LIMIT 1"
            row = db.execute(query).fetchone()
            if row is None:
                return None
            now = time.time()
            db.execute(
                "UPDATE jobs SET state = 'running', worker = ?, lease = ?, started = ?, attempts = attempts + 1,"
                " stage = '', progress = 0 WHERE id = ?",
                (worker, now + LEASE, now, row[0]),
            )
            return _one(db, row[0])

    def renew(self, job_id: str, worker: str, stage: str, progress: float) -> bool:
        """Say that ``worker`` is still at it; False where the job is not its own any more, or was deleted."""
        with self._transaction() as db:
            cursor = db.execute(
                "UPDATE jobs SET lease = ?, stage = ?, progress = ? WHERE id = ? AND worker = ? AND state = 'running'",
                (time.time() + LEASE, stage, progress, job_id, worker),
            )
            return cursor.rowcount == 1

    def finish(self, job_id: str, worker: str, error: str = "") -> bool:
        """Mark a job of ``worker`` as done, or as failed with one sentence; False where it is not its own any more."""
        with self._transaction() as db:
            cursor = db.execute(
                "UPDATE jobs SET state = ?, error = ?, finished = ?, lease = NULL, stage = '', progress = ?"
                " WHERE id = ? AND worker = ? AND state = 'running'",
                ("failed" if error else "done", error, time.time(), 0.0 if error else 1.0, job_id, worker),
            )
            return cursor.rowcount == 1

    def release(self, job_id: str, worker: str) -> None:
        """Give a job back that ``worker`` did not begin for good, because it is told to stop."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = 'queued', worker = NULL, lease = NULL, attempts = attempts - 1"
                " WHERE id = ? AND worker = ? AND state = 'running'",
                (job_id, worker),
            )

    def recover(self) -> list[Job]:
        """Queue again what killed workers left behind; a job that keeps ending its worker fails and is returned."""
        with self._transaction() as db:
            now = time.time()
            lost = "state = 'running' AND lease < ?"
            query = f"SELECT {_COLUMNS} FROM jobs WHERE {lost} AND attempts >= ?"
            given_up = [_job(row) for row in db.execute(query, (now, _MAX_ATTEMPTS))]
            sentence = f"the analysis ended its worker {_MAX_ATTEMPTS} times and was given up"
            db.executemany(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ?, lease = NULL WHERE id = ?",
                [(sentence, now, job.id) for job in given_up],
            )
            db.execute(f"UPDATE jobs SET state = 'queued', worker = NULL, lease = NULL WHERE {lost}", (now,))
            return given_up

    def delete(self, job_id: str) -> Job | None:
        """Forget a job, whatever its state, and return what it was; a worker that is at it will notice."""
        with self._transaction() as db:
            job = _found(db, job_id)
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        with closing(self._connection()) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log of changes held its name until now
        return job

    def finished_before(self, moment: float) -> list[Job]:
        """Jobs that ended before ``moment``."""
        with self._transaction() as db:
            query = f"SELECT {_COLUMNS} FROM jobs WHERE finished < ? AND state IN ('done', 'failed')"
            return [_job(row) for row in db.execute(query, (moment,))]

    def uploads(self) -> set[str]:
        """Names of the files that belong to a job."""
        return self._uploads("true")

    def spent_uploads(self) -> set[str]:
        """Names of the files whose job has ended."""
        return self._uploads("state IN ('done', 'failed')")

    def _uploads(self, condition: str) -> set[str]:
        with self._transaction() as db:
            rows = db.execute(f"SELECT upload, transcript FROM jobs WHERE {condition}").fetchall()
        return {name for row in rows for name in row if name}

    def ids(self) -> set[str]:
        """Names of all jobs."""
        with self._transaction() as db:
            return {row[0] for row in db.execute("SELECT id FROM jobs")}

    def mean_seconds(self) -> float:
        """How long the last hundred finished jobs took on average; 5 s where none has finished."""
        with self._transaction() as db:
            query = "SELECT finished - started FROM jobs WHERE state = 'done' ORDER BY finished DESC LIMIT 100"
            took = [row[0] for row in db.execute(query)]
        return sum(took) / len(took) if took else 5.0


def _found(db: sqlite3.Connection, job_id: str) -> Job | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else _job(row)


def _one(db: sqlite3.Connection, job_id: str) -> Job:
    job = _found(db, job_id)
    assert job is not None
    return job


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip((field.name for field in fields(Job)), row, strict=True))
    return Job(**{**values, "options": json.loads(values["options"])})
