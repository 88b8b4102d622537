"""A worker: claims jobs, has them analysed by a `runner`, and ends those that take too long or too much memory."""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any
from weakref import finalize

import psutil

from affuse.errors import AffuseError
from affuse.service.confinement import Confinement, landlock_version, seccomp_is_known, system_paths
from affuse.service.notifier import JobNotifier
from affuse.service.runner import JobSpec
from affuse.service.settings import Settings
from affuse.service.storage import open_storage, staging_folder
from affuse.service.store import Job, JobStore

__all__ = [
    "Runner",
    "Worker",
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
_BEAT = 1.0  # most seconds between two looks at a running job
_BEATS = 5  # heartbeats that fit into a lease, so that a slow disk or a stall of the machine costs no job
_GRACE = 4.0  # seconds that the thread of a worker has to end
_RESULTS = "results"  # name of the folder that a job leaves
_ORPHAN = 3600.0  # seconds after which an upload that no job knows was left by a server that died while receiving it


class Runner:
    """The process that analyses, started when first needed, and again after it had to be ended.

    ``beat`` is the most seconds that `answers` waits for a line. A ``confinement`` names the files and the network that
    it may reach, where the system has the means (see `affuse.service.confinement`).
    """

    def __init__(self, beat: float = _BEAT, confinement: Confinement | None = None) -> None:
        self.beat = beat
        self.command = [sys.executable, "-P", "-m", "affuse.service.runner"]  # -P: not from the folder it is started in
        self.environment = {name: value for name, value in os.environ.items() if name != "AFFUSE_TOKEN"}
        if confinement is not None:
            apart = [] if confinement.network else without_network()
            self.command = [*apart, *self.command, json.dumps(asdict(confinement))]
            self.environment |= {"TMPDIR": confinement.write[0]}
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def start(self, spec: JobSpec) -> None:
        """Begin a job."""
        if self._process is None or self._process.poll() is not None:
            self._launch()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(spec.to_line())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended just now, which `answers` will say

    def _launch(self) -> None:
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self.environment,
            start_new_session=True,  # Ctrl+C in a terminal is for the server alone
        )
        self._lines = queue.Queue()
        threading.Thread(target=_collect, args=(self._process, self._lines), daemon=True).start()

    def answers(self) -> Iterator[dict[str, Any] | None]:
        """Lines of the answer as they come; None at least every ``beat`` seconds. Ends with the process."""
        while True:
            try:
                line = self._lines.get(timeout=self.beat)
            except queue.Empty:
                yield None
                continue
            if line is None:
                return
            yield line

    def ran_out_of_time(self) -> bool:
        """Whether the system has ended the process since it took more time of the processor than its job may."""
        process = self._process
        if process is None:
            return False
        with suppress(subprocess.TimeoutExpired):  # it has closed its output and will end
            process.wait(_GRACE)
        return process.returncode == -signal.SIGXCPU

    def memory(self) -> int:
        """Bytes of memory that the process holds now."""
        process = self._process
        try:
            return 0 if process is None else int(psutil.Process(process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def end(self) -> None:
        """End the process at once; the next job starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


def confinement_of(settings: Settings, staging: Path) -> Confinement:
    """What a job of a service may reach.

    Parameters
    ----------
    settings : Settings
    staging : Path
        The worker's folder, with a folder ``in`` to read and a folder ``out`` to write.

    Returns
    -------
    Confinement
    """
    from affuse.weights import cache_folder

    # Only the weights of speech recognition may still have to be fetched.
    fetches = settings.transcribe and settings.asr_model is None
    own = (settings.package, settings.fuser, settings.prior, settings.asr_model, *settings.readable)
    named = (os.environ.get(name) for name in ("AFFUSE_MODELS", "AFFUSE_WHISPER"))
    needed = [path for path in (*own, *named, cache_folder()) if path]
    return Confinement(
        write=(str(staging / "out"), *((str(_hub_folder()),) if fetches else ())),
        read=(*system_paths(needed, settings.folder), str(staging / "in")),
        devices=_devices(),
        network=fetches,
    )


def _hub_folder() -> Path:
    """Where weights from the hub are kept; it is made, since only what is there can be allowed."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    folder = Path(os.environ.get("HF_HUB_CACHE") or home)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _devices() -> tuple[str, ...]:
    """Files of /dev that drivers need; no shared memory, in which others' data may lie."""
    with suppress(OSError):
        own = (path for path in Path("/dev").iterdir() if path.name not in ("shm", "mqueue"))
        return tuple(str(path) for path in own if not path.is_symlink())  # links lead to files of other processes
    return Confinement.devices


def confinement_in_words(settings: Settings) -> str:
    """What holds jobs of a service in their place on this system, and what does not.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    str
        A sentence.
    """
    files = (
        f"read nothing but the system and their own recording, and write nothing but their own results (Landlock "
        f"{landlock_version()})"
        if landlock_version()
        else "read and write whatever this user may, since this kernel has no Landlock"
    )
    means = [*(["user namespace"] if without_network() else []), *(["seccomp"] if seccomp_is_known() else [])]
    if settings.transcribe and settings.asr_model is None:
        network = "reach the network, to fetch weights; give --asr-model, and they do not"
    elif means:
        network = f"have no network ({', '.join(means)})"
    else:
        network = "can reach the network, since this system has neither user namespaces nor seccomp for them"
    return f"jobs {files}, and {network}"


@cache
def without_network() -> tuple[str, ...]:
    """What to put before a command that is to run in a network of its own, which leads nowhere; empty where that fails.

    It is ``unshare`` of util-linux, which needs user namespaces. Some systems and containers forbid them.

    Returns
    -------
    tuple of str
    """
    prefix = ("unshare", "--user", "--map-current-user", "--net", "--")
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        allowed = False
    return prefix if allowed else ()


def _collect(process: subprocess.Popen[str], lines: queue.Queue[dict[str, Any] | None]) -> None:
    assert process.stdout is not None
    try:
        with process.stdout:
            for line in process.stdout:
                lines.put(json.loads(line))
    except ValueError:
        pass  # killed in the middle of a line
    finally:
        lines.put(None)


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
        self.runner = Runner(min(_BEAT, settings.lease_seconds / _BEATS), confinement_of(settings, self.staging))
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
            self.runner.end()  # in case it was started just then
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
            self._clear_staging()
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
        self._clear_staging()
        self._bring(job)
        self.runner.start(self._spec(job))
        stage, progress = "", 0.0
        opening: float | None = None  # since when
        for line in self.runner.answers():
            if line is not None and "done" in line:
                self.storage.keep_results(self.staging / "out" / _RESULTS, job.id)
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

    def _clear_staging(self) -> None:
        for path in (*(self.staging / "in").iterdir(), *(self.staging / "out").iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _spec(self, job: Job) -> JobSpec:
        inside = self.staging / "in"
        return JobSpec(
            name=job.name,
            results=str(self.staging / "out" / _RESULTS),
            upload=str(inside / job.upload),
            transcript=None if job.transcript is None else str(inside / job.transcript),
            limits=asdict(self.settings.budget),
            private=self.settings.private,
            pictures=self.settings.keep_uploads,  # elsewhere nothing of the recording outlives its job
            package=self.settings.package,
            fuser=self.settings.fuser,
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
