"""What is known of every job, in SQLite: the one record that survives the end of any process.

Workers need `JobStore.claim`, `renew`, `finish` and `release`; the server needs the rest. Nothing else in the service
touches the file, so that a store for several machines only has to offer the same methods.
"""

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
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.service.storage import Storage

__all__ = ["FINAL", "LEASE", "Job", "JobStore"]

LEASE = 10.0
"""Seconds without a heartbeat of its worker after which a running job counts as abandoned."""

FINAL = ("done", "failed")
"""States that a job does not leave."""

# A job that ends its runner fails at once; one whose worker vanishes this often is not tried again.
_MAX_ATTEMPTS = 10

_VERSION = 1  # of the table; 0 is the same, as affuse 0.1.0 left it

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
    """A job as it stands.

    Attributes
    ----------
    id : str
        32 hexadecimal digits.
    state : str
        "queued", "running", "done" or "failed".
    created, started, finished : float or None
        Seconds since 1970.
    name : str
        What the client called its recording; only shown.
    upload, transcript : str or None
        Names of files in the folder of uploads: a recording (or a text, where ``options`` say so) and its transcript.
    options : mapping
        What the analysis is told.
    stage, progress : str, float
        What is being read now, and the share of the work that is done (0 to 1).
    error : str
        One sentence where the job failed, else empty.
    attempts : int
        How often a worker has begun it.

    Examples
    --------
    >>> job = JobStore(Path("jobs.db")).add("clip.mp4", {"language": "en"}, upload="a1.mp4")
    >>> job.state, job.name, job.attempts
    ('queued', 'clip.mp4', 0)
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


class JobStore:
    """Jobs in an SQLite file that any number of processes may use at once.

    Every method is one transaction. A claimed job belongs to its worker until the lease runs out, so what a killed
    worker leaves behind is taken again, and never by two at a time.

    Parameters
    ----------
    path : Path
        The file; it is made where it does not exist. Its folder must be on a disk of this machine.
    lease : float
        Seconds without a heartbeat (`renew`) after which a running job counts as abandoned.
    storage : Storage or None
        Encrypts names, options and errors; they stay as they are where None.

    Raises
    ------
    ConfigError
        If the file is no store, or was written by a newer affuse.

    Examples
    --------
    >>> store = JobStore(Path("jobs.db"))
    >>> job = store.add("clip.mp4", {}, upload="a1.mp4")
    >>> store.claim("worker 1").id == job.id
    True
    >>> store.claim("worker 2") is None  # nothing waits any more
    True
    >>> store.finish(job.id, "worker 1")
    True
    >>> store.counts()
    {'queued': 0, 'running': 0, 'done': 1, 'failed': 0}
    """

    def __init__(self, path: Path, lease: float = LEASE, storage: Storage | None = None) -> None:
        self.path, self.lease, self.storage = path, lease, storage
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{path} cannot be used as the store of jobs ({error}); choose another folder") from error

    def _open(self) -> None:
        with closing(self._connection()) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise ConfigError(
                    f"{self.path} was written by a newer affuse; choose another folder, or upgrade affuse"
                )
            if version < _VERSION:
                db.execute("PRAGMA journal_mode=WAL")  # of the file, for good: readers and a writer do not wait
                db.executescript(_TABLE)
                db.execute(f"PRAGMA user_version={_VERSION}")

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
        """Accept a job: once this returns, it will be done whatever happens.

        Parameters
        ----------
        name : str
            What the client calls its recording.
        options : mapping
            What the analysis is told.
        upload : str
            Name of a file in the folder of uploads.
        transcript : str or None
            Name of another one.
        room : float
            Jobs that may wait.

        Returns
        -------
        Job or None
            None where ``room`` jobs wait already.
        """
        job_id = secrets.token_hex(16)
        with self._transaction() as db:
            (waiting,) = db.execute("SELECT COUNT(*) FROM jobs WHERE state = 'queued'").fetchone()
            if waiting >= room:
                return None
            db.execute(
                "INSERT INTO jobs (id, state, created, name, upload, transcript, options)"
                " VALUES (?, 'queued', ?, ?, ?, ?, ?)",
                (
                    *(job_id, time.time(), self._sealed(name, job_id), upload, transcript),
                    self._sealed(json.dumps(dict(options)), job_id),
                ),
            )
            job = self._found(db, job_id)
            assert job is not None
            return job

    def get(self, job_id: str) -> Job | None:
        """Find a job.

        Parameters
        ----------
        job_id : str
            Of the job.

        Returns
        -------
        Job or None
            None where there is none of this id.
        """
        with self._transaction() as db:
            return self._found(db, job_id)

    def recent(self, limit: int, offset: int) -> list[Job]:
        """List jobs, the newest first.

        Parameters
        ----------
        limit : int
            Most jobs to list.
        offset : int
            Jobs to leave out before them.

        Returns
        -------
        list of Job
        """
        with self._transaction() as db:
            query = f"SELECT {_COLUMNS} FROM jobs ORDER BY created DESC, id LIMIT ? OFFSET ?"
            return [self._job(row) for row in db.execute(query, (limit, offset))]

    def counts(self) -> dict[str, int]:
        """Count the jobs in each state.

        Returns
        -------
        dict of str to int
        """
        with self._transaction() as db:
            found = dict(db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state"))
        return {state: found.get(state, 0) for state in ("queued", "running", *FINAL)}

    def claim(self, worker: str) -> Job | None:
        """Take the job that has waited longest.

        Parameters
        ----------
        worker : str
            Who takes it; a name that no other worker has.

        Returns
        -------
        Job or None
            None where no job waits.
        """
        with closing(self._connection()) as db:
            if db.execute("SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1").fetchone() is None:
                return None  # idle workers only read, so that they hold up nobody who writes
            now = time.time()
            rows = db.execute(
                "UPDATE jobs SET state = 'running', worker = ?, lease = ?, started = ?, attempts = attempts + 1,"
                " stage = '', progress = 0"
                " WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, id LIMIT 1)"
                f" RETURNING {_COLUMNS}",
                (worker, now + self.lease, now),
            ).fetchall()
            return self._job(rows[0]) if rows else None

    def renew(self, job_id: str, worker: str, stage: str, progress: float) -> bool:
        """Say that a worker is still at its job, and how far it is.

        Parameters
        ----------
        job_id : str
            Of the job.
        worker : str
            Who claimed it.
        stage : str
            What is being read now.
        progress : float
            Share of the work that is done, 0 to 1.

        Returns
        -------
        bool
            False where the job is not this worker's any more, or was deleted.
        """
        with self._transaction() as db:
            cursor = db.execute(
                "UPDATE jobs SET lease = ?, stage = ?, progress = ? WHERE id = ? AND worker = ? AND state = 'running'",
                (time.time() + self.lease, stage, progress, job_id, worker),
            )
            return cursor.rowcount == 1

    def finish(self, job_id: str, worker: str, error: str = "") -> bool:
        """Mark a job as done or failed.

        Parameters
        ----------
        job_id : str
            Of the job.
        worker : str
            Who claimed it.
        error : str
            One sentence where it failed.

        Returns
        -------
        bool
            False where the job is not this worker's any more.
        """
        with self._transaction() as db:
            cursor = db.execute(
                "UPDATE jobs SET state = ?, error = ?, finished = ?, lease = NULL, stage = '', progress = ?"
                " WHERE id = ? AND worker = ? AND state = 'running'",
                (
                    *("failed" if error else "done", self._sealed(error, job_id), time.time()),
                    *(0.0 if error else 1.0, job_id, worker),
                ),
            )
            return cursor.rowcount == 1

    def release(self, job_id: str, worker: str) -> None:
        """Give a job back whose worker is told to stop; it waits again.

        Parameters
        ----------
        job_id : str
            Of the job.
        worker : str
            Who claimed it.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = 'queued', worker = NULL, lease = NULL, attempts = attempts - 1"
                " WHERE id = ? AND worker = ? AND state = 'running'",
                (job_id, worker),
            )

    def recover(self) -> list[Job]:
        """Queue abandoned jobs again; a job that keeps ending its workers fails.

        Returns
        -------
        list of Job
            Those that failed.
        """
        with self._transaction() as db:
            now = time.time()
            lost = "state = 'running' AND lease < ?"
            query = f"SELECT {_COLUMNS} FROM jobs WHERE {lost} AND attempts >= ?"
            given_up = [self._job(row) for row in db.execute(query, (now, _MAX_ATTEMPTS))]
            sentence = f"the analysis ended its worker {_MAX_ATTEMPTS} times and was given up"
            db.executemany(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ?, lease = NULL WHERE id = ?",
                [(self._sealed(sentence, job.id), now, job.id) for job in given_up],
            )
            db.execute(f"UPDATE jobs SET state = 'queued', worker = NULL, lease = NULL WHERE {lost}", (now,))
            return given_up

    def delete(self, job_id: str) -> Job | None:
        """Forget a job, whatever its state; a worker that is at it will notice.

        Parameters
        ----------
        job_id : str
            Of the job.

        Returns
        -------
        Job or None
            What it was.
        """
        with self._transaction() as db:
            job = self._found(db, job_id)
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        with closing(self._connection()) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log of changes held its name until now
        return job

    def finished_before(self, moment: float) -> list[Job]:
        """List the jobs that ended before some time.

        Parameters
        ----------
        moment : float
            Seconds since 1970.

        Returns
        -------
        list of Job
        """
        with self._transaction() as db:
            query = f"SELECT {_COLUMNS} FROM jobs WHERE finished < ? AND state IN ('done', 'failed')"
            return [self._job(row) for row in db.execute(query, (moment,))]

    def uploads(self) -> set[str]:
        """Names of the files that belong to a job.

        Returns
        -------
        set of str
        """
        return self._uploads("true")

    def spent_uploads(self) -> set[str]:
        """Names of the files whose job has ended.

        Returns
        -------
        set of str
        """
        return self._uploads("state IN ('done', 'failed')")

    def _uploads(self, condition: str) -> set[str]:
        with self._transaction() as db:
            rows = db.execute(f"SELECT upload, transcript FROM jobs WHERE {condition}").fetchall()
        return {name for row in rows for name in row if name}

    def ids(self) -> set[str]:
        """Ids of all jobs.

        Returns
        -------
        set of str
        """
        with self._transaction() as db:
            return {row[0] for row in db.execute("SELECT id FROM jobs")}

    def mean_seconds(self) -> float:
        """Mean time that the last hundred finished jobs took; 5 s where none has finished.

        Returns
        -------
        float
            Seconds.
        """
        with self._transaction() as db:
            query = "SELECT finished - started FROM jobs WHERE state = 'done' ORDER BY finished DESC LIMIT 100"
            took = [row[0] for row in db.execute(query)]
        return sum(took) / len(took) if took else 5.0

    def _found(self, db: sqlite3.Connection, job_id: str) -> Job | None:
        row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else self._job(row)

    def _job(self, row: tuple[Any, ...]) -> Job:
        values = dict(zip((field.name for field in fields(Job)), row, strict=True))
        opened = {name: self._opened(values[name], values["id"]) for name in ("name", "options", "error")}
        return Job(**{**values, **opened, "options": json.loads(opened["options"])})

    def _sealed(self, text: str, job_id: str) -> str:
        return self.storage.seal(text, job_id) if self.storage is not None and text else text

    def _opened(self, text: str, job_id: str) -> str:
        return self.storage.unseal(text, job_id) if self.storage is not None and text else text
