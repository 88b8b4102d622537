"""A worker: claims jobs, has them analysed by a `runner`, and ends those that take too long or too much memory."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from affuse.errors import AffuseError
from affuse.service.notifier import JobNotifier
from affuse.service.process import (
    BEAT,
    RESULTS,
    Runner,
    clear_staging,
    confinement_in_words,
    confinement_of,
    without_network,
)
from affuse.service.runner import JobSpec
from affuse.service.settings import Settings
from affuse.service.storage import open_storage, staging_folder
from affuse.service.store import Job, JobStore
from affuse.weight_sets import chosen_set

if TYPE_CHECKING:
    from affuse.service.cluster import ClusterRunner

__all__ = [
    "Runner",
    "Worker",
    "clear_staging",
    "confinement_in_words",
    "confinement_of",
    "discard_results",
    "discard_uploads",
    "sweep",
    "without_network",
]

_LOG = logging.getLogger("affuse.service")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TRIES = 2  # of one job by one worker: a machine short of memory may end the wrong process once
_BEATS = 5  # heartbeats that fit into a lease, so that a slow disk or a stall of the machine costs no job
_GRACE = 4.0  # seconds that the thread of a worker has to end
_ORPHAN = 3600.0  # seconds after which an upload that no job knows was left by a server that died while receiving it


def _runner_of(settings: Settings, staging: Path) -> Runner | ClusterRunner:
    beat = min(BEAT, settings.lease_seconds / _BEATS)
    if settings.ray is None:
        return Runner(beat, confinement_of(settings, staging))
    from affuse.service.cluster import ClusterRunner  # an extra

    return ClusterRunner(settings, beat)


class Worker:
    """Does the jobs of a service, one at a time.

    Any number of workers may share a folder. Whatever ends a worker, its job is taken by another one, or by itself when
    it is back, and a finished job is never done twice.

    Parameters
    ----------
    settings : Settings
        Those of the server; the folder must be the same.
    notifier : JobNotifier or None
        Wakes the worker when a job comes; without one it looks at the store every ``settings.poll_seconds``.

    Raises
    ------
    ConfigError
        If the folder cannot hold the jobs.

    Examples
    --------
    >>> worker = Worker(Settings(Path("jobs")))
    >>> worker.work()  # nothing waits
    False
    """

    def __init__(self, settings: Settings, notifier: JobNotifier | None = None) -> None:
        settings.make_folders()
        self.settings = settings
        self.storage = open_storage(settings)
        self.store = JobStore(settings.folder / "jobs.db", settings.lease_seconds, self.storage)
        self.notifier = notifier or JobNotifier()
        folders = ExitStack()
        self.staging = folders.enter_context(staging_folder(self.storage))
        self.close = finalize(self, folders.close)  # called at the latest when the process ends
        for folder in (self.staging / "in", self.staging / "out"):
            folder.mkdir(0o700)
        self.runner = _runner_of(settings, self.staging)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._current: Job | None = None
        self._stopping = threading.Event()

    def run(self) -> None:
        """Work until a signal (SIGINT, SIGTERM, SIGHUP) ends the process."""
        working = threading.Thread(target=self._loop, daemon=True)
        threading.Thread(target=self._sweep, daemon=True).start()
        for number in _SIGNALS:
            signal.signal(number, lambda *_: sys.exit(0))
        working.start()
        try:
            threading.Event().wait()
        finally:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            self.stop(working)

    def stop(self, working: threading.Thread | None = None) -> None:
        """Give the current job back and end its process.

        Parameters
        ----------
        working : Thread or None
            The thread that works, which is waited for.
        """
        self._stopping.set()
        self.notifier.notify()
        self.runner.end()
        if working is not None:
            working.join(_GRACE)
        self.runner.close()  # in case it was started just then
        if self._current is not None:
            self.store.release(self._current.id, self.name)
        self.close()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self.work()
            except Exception:  # a full disk or a locked store must not end the worker for good
                _LOG.exception("a job could not be taken or ended; it is tried again")
                busy = False
            if not busy:
                self.notifier.wait(self.settings.poll_seconds)

    def _sweep(self) -> None:
        while not self._stopping.is_set():
            try:
                if sweep(self.store, self.settings):
                    self.notifier.notify()
            except Exception:
                _LOG.exception("looking for abandoned jobs failed; it is tried again")
            self._stopping.wait(self.settings.sweep_seconds)

    def work(self) -> bool:
        """Do the job that has waited longest.

        Returns
        -------
        bool
            Whether there was one.
        """
        job = self.store.claim(self.name)
        if job is None:
            return False
        self._current = job
        try:
            # Results without the mark of an end: the worker before us was killed between the two.
            error = "" if (self.settings.results / job.id).is_dir() else self._analyse(job)
        except BaseException:
            self.runner.end()  # what it might still say is about a job that is nobody's now
            raise
        finally:
            _discard_parts(job, self.settings)
            clear_staging(self.staging)
        if not self._stopping.is_set():
            self._end(job, error)
        return True

    def _end(self, job: Job, error: str | None) -> None:
        """Note the end of a job, unless it is another worker's by now, and delete what must not be kept."""
        ours = error is not None and self.store.finish(job.id, self.name, error)
        self._current = None
        if self.store.get(job.id) is None:  # deleted meanwhile: whatever came out of it goes as well
            discard_uploads((job.upload, job.transcript), self.settings)
            discard_results(job, self.settings)
        elif ours and not self.settings.keep_uploads:
            discard_uploads((job.upload, job.transcript), self.settings)

    def _analyse(self, job: Job) -> str | None:
        """The sentence with which the job failed, empty where it did not; None where it is ours no more."""
        began = time.monotonic()
        for _ in range(_TRIES):
            if self._stopping.is_set():
                return None
            try:
                return self._attempt(job, began)
            except ChildProcessError:
                self.runner.end()
        if self._stopping.is_set():
            return None
        return f"{job.name} could not be analysed: its process ended unexpectedly, {_TRIES} times"

    def _attempt(self, job: Job, began: float) -> str | None:
        clear_staging(self.staging)
        self._bring(job)
        self.runner.start(self._spec(job))
        stage, progress = "", 0.0
        opening: float | None = None  # since when
        for line in self.runner.answers():
            if line is not None and "done" in line:
                self.storage.keep_results(self.staging / "out" / RESULTS, job.id)
                return ""
            if line is not None and "error" in line:
                return str(line["error"])
            if line is not None and "opening" in line:
                opening = time.monotonic() if line["opening"] else None
            elif line is not None:
                stage, progress = line["stage"], line["progress"]
            if not self.store.renew(job.id, self.name, stage, progress):
                self.runner.end()
                return None
            excess = self._excess(job, began, opening)
            if excess:
                self.runner.end()
                return excess
        if self.runner.ran_out_of_time():
            return self._too_long(job)
        raise ChildProcessError

    def _excess(self, job: Job, began: float, opening: float | None) -> str:
        now = time.monotonic()
        if now - began > self.settings.job_seconds:
            return self._too_long(job)
        if opening is not None and now - opening > self.settings.probe_seconds:
            return (
                f"{job.name} could not be measured in {self.settings.probe_seconds:g} s, the most that this service "
                "allows; it may be damaged, or no recording"
            )
        if self.runner.memory() > self.settings.job_memory:
            return f"{job.name} took more than {self.settings.job_memory / 1e9:.2g} GB of memory, the most allowed here"
        return ""

    def _too_long(self, job: Job) -> str:
        return f"{job.name} took longer than {self.settings.job_seconds:.0f} s, the most that this service allows"

    def _bring(self, job: Job) -> None:
        for name in (job.upload, job.transcript):
            if name is not None:
                self.storage.bring(name, self.staging / "in" / name)

    def _spec(self, job: Job) -> JobSpec:
        inside = self.staging / "in"
        return JobSpec(
            name=job.name,
            results=str(self.staging / "out" / RESULTS),
            upload=str(inside / job.upload),
            transcript=None if job.transcript is None else str(inside / job.transcript),
            limits=asdict(self.settings.budget),
            private=self.settings.private,
            pictures=self.settings.keep_uploads,  # elsewhere nothing of the recording outlives its job
            package=self.settings.package,
            fuser=self.settings.fuser,
            weights=chosen_set(self.settings.weights),
            prior=self.settings.prior,
            transcribe=self.settings.transcribe,
            asr_model=self.settings.asr_model,
            purpose=self.settings.purpose,
            exemption=self.settings.exemption,
            memory=self.settings.job_memory,
            seconds=self.settings.job_seconds,
            **job.options,
        )


def discard_uploads(names: Iterable[str | None], settings: Settings) -> None:
    """Delete recordings and transcripts by the names that they have in the folder of uploads."""
    for name in names:
        if name is not None:
            (settings.uploads / name).unlink(missing_ok=True)


def discard_results(job: Job, settings: Settings) -> None:
    """Delete the results of a job."""
    shutil.rmtree(settings.results / job.id, ignore_errors=True)


def _discard_parts(job: Job, settings: Settings) -> None:
    """Delete what a runner that was killed had begun to write."""
    for part in settings.results.glob(f".{job.id}.*.part"):
        shutil.rmtree(part, ignore_errors=True)


def sweep(store: JobStore, settings: Settings) -> bool:
    """Queue abandoned jobs again, and delete what is old or belongs to nobody; whether a job waits then."""
    store.recover()
    for job in store.finished_before(time.time() - settings.keep_seconds):
        store.delete(job.id)
        discard_uploads((job.upload, job.transcript), settings)
        discard_results(job, settings)
    if not settings.keep_uploads:  # left by workers that were killed right after the end of a job
        discard_uploads(store.spent_uploads() & {path.name for path in settings.uploads.iterdir()}, settings)
    _delete_orphans(settings.uploads, store.uploads())
    _delete_orphans(settings.results, store.ids())
    return store.counts()["queued"] > 0


def _delete_orphans(folder: Path, known: set[str]) -> None:
    for path in folder.iterdir():
        try:
            old = path.lstat().st_mtime < time.time() - _ORPHAN
        except FileNotFoundError:
            continue  # another worker was faster
        if path.name in known or not old:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def main() -> None:
    """A worker of the server that started this process, which tells settings and jobs by the standard input."""
    values = json.loads(sys.stdin.readline())
    notifier = JobNotifier()
    threading.Thread(target=_follow, args=(notifier,), daemon=True).start()
    try:
        Worker(Settings.from_json(values), notifier).run()
    except AffuseError as error:
        sys.exit(f"affuse: {error}")


def _follow(notifier: JobNotifier) -> None:
    """Pass every line of the server on as the sign that a job waits, and end with the server."""
    for _ in sys.stdin:
        notifier.notify()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
