"""Worker processes, each with a thread that hands it one recording at a time and outlives its crashes."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from affuse import errors
from affuse.batch.settings import BatchSettings
from affuse.batch.worker import Job
from affuse.errors import AffuseError

__all__ = ["SOON", "Answer", "Engine", "Pool", "WorkerProcess", "raise_refusal"]

Answer = dict[str, Any]
"""What became of a job: ``windows``, ``persons`` and perhaps ``pictures``, or ``failed`` and ``reason``.

``content`` is the key of its content where it had none.
"""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "AFFUSE_THREADS")
_GRACE = 5.0  # seconds that a process has to end once it has closed its pipe
SOON = 0.2  # seconds between two looks whether a run has been stopped


class Engine(ABC):
    """What a run has its recordings analysed by, with a bounded queue of jobs before it and one of answers behind."""

    def __init__(self, workers: int) -> None:
        self._jobs: queue.Queue[Job] = queue.Queue(maxsize=workers)
        self._answers: queue.Queue[tuple[Job, Answer] | BaseException] = queue.Queue(maxsize=4 * workers)
        self._stopped = threading.Event()

    @abstractmethod
    def start(self) -> dict[str, Any]:
        """Load the experts somewhere, and say what decides about the answers. Raises what loading raised."""

    @abstractmethod
    def work(self) -> None:
        """Begin to take jobs."""

    @abstractmethod
    def stop(self) -> None:
        """Drop what is not done, and give everything back."""

    def submit(self, job: Job) -> bool:
        """Hand in a job as soon as there is room; False where the engine has been stopped."""
        return self._put(self._jobs, job)

    def fail(self, error: BaseException) -> None:
        """Have `next_answer` raise an error."""
        self._put(self._answers, error)

    def next_answer(self, timeout: float) -> tuple[Job, Answer] | None:
        """The next job that is done, with its answer; None where none is within ``timeout`` seconds.

        Raises what kept a worker from starting.
        """
        try:
            found = self._answers.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(found, BaseException):
            raise found
        return found

    def _put(self, place: queue.Queue[Any], what: Any) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                place.put(what, timeout=SOON)
                return True
        return False


def raise_refusal(line: Answer) -> None:
    """Raise what a worker says that kept it from starting; nothing where it says none."""
    if "refused" in line:
        raise getattr(errors, line["type"], AffuseError)(line["refused"])


class WorkerProcess:
    """One worker process, started when first needed, and again after it ended."""

    def __init__(self, settings: BatchSettings, cwd: str | None = None) -> None:
        self._settings = settings
        self._cwd = cwd
        self._folder = tempfile.mkdtemp(prefix="affuse-batch-")  # for copies of recordings in cloud storage
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> dict[str, Any]:
        """Load the experts; returns what decides about the answers. Raises what loading raised."""
        with self._lock:
            if self._stopped:
                raise AffuseError("the run was stopped")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "affuse.batch.worker", self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=dict.fromkeys(_ONE_THREAD, "1") | os.environ,
                cwd=self._cwd,
                start_new_session=True,  # Ctrl+C in a terminal is for the run, which ends its workers itself
            )
        line = self._exchange(self._settings.to_json() + "\n")
        if line is None:
            raise AffuseError(f"a worker process ended while it loaded the experts ({self._ending()})")
        raise_refusal(line)
        ready: dict[str, Any] = line["ready"]
        return ready

    def answer(self, job: Job, time_limit: float | None) -> Answer:
        """Have one recording analysed. Raises AffuseError where no process can be started for it."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        late = threading.Event()
        timer = None if time_limit is None else threading.Timer(time_limit, self._end_late, [late])
        if timer is not None:
            timer.daemon = True
            timer.start()
        line = self._exchange(job.to_line())
        content = {}
        if line is not None and "content" in line:
            content, line = line, self._next_line()
        if timer is not None:
            timer.cancel()
        if line is None:
            line = self._lost(job, time_limit if late.is_set() else None)
        return line | content

    def _lost(self, job: Job, time_limit: float | None) -> Answer:
        """What to answer where the process has ended; a time limit is given where that was the reason."""
        ending = self._ending()
        for left in Path(self._folder).glob("*"):
            shutil.rmtree(left, ignore_errors=True)
        if time_limit is not None:
            return {"failed": "TimeLimit", "reason": f"{job.path} took longer than {time_limit:g} s and was given up"}
        return {"failed": "Crash", "reason": f"{job.path} ended the process that analysed it ({ending})"}

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        self.kill()

    def _exchange(self, line: str) -> dict[str, Any] | None:
        """What the process answers to a line; None where it ends instead."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        with suppress(OSError, ValueError):  # it ended: a pipe is broken
            process.stdin.write(line)
            process.stdin.flush()
            return self._next_line()
        return None

    def _next_line(self) -> dict[str, Any] | None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        with suppress(OSError, ValueError):  # it ended: a pipe is broken, or a line in it is cut
            found = process.stdout.readline()
            if found.endswith("\n"):
                answer: dict[str, Any] = json.loads(found)
                return answer
        return None

    def _ending(self) -> str:
        """How the process ended, in a few words; it is reaped."""
        process = self._process
        assert process is not None
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)  # its pipe may be closed a moment before it ends
        code = self.close()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"{name}; out of memory?" if name == "SIGKILL" else name

    def kill(self) -> None:
        """End the process at once; its job is answered as a crash."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> int:
        """End the process, give its pipes back, and return how it ended; 0 where there is none."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not read by a process that ended cannot be written
                assert pipe is not None
                pipe.close()
        return process.wait()

    def stop(self) -> None:
        """End the process for good."""
        with self._lock:
            self._stopped = True
        self.kill()

    def discard(self) -> None:
        """Take away what it has left, after it was closed."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Pool(Engine):
    """Processes that analyse.

    A job that ends its process is answered with a failure, and the next one gets a new process.
    """

    def __init__(self, settings: BatchSettings, workers: int, time_limit: float | None = None) -> None:
        super().__init__(workers)
        self._processes = [WorkerProcess(settings) for _ in range(workers)]
        self._time_limit = time_limit
        self._threads: list[threading.Thread] = []

    def start(self) -> dict[str, Any]:
        """Start the first process, which says what decides about the answers. Raises what loading raised."""
        return self._processes[0].start()

    def work(self) -> None:
        """Begin to take jobs; the other processes start with their first one."""
        self._threads = [threading.Thread(target=self._serve, args=(p,), daemon=True) for p in self._processes]
        for thread in self._threads:
            thread.start()

    def _serve(self, process: WorkerProcess) -> None:
        while not self._stopped.is_set():
            try:
                job = self._jobs.get(timeout=SOON)
            except queue.Empty:
                continue
            try:
                self._put(self._answers, (job, process.answer(job, self._time_limit)))
            except BaseException as error:
                self._put(self._answers, error)

    def stop(self) -> None:
        """End all processes; whatever they were analysing is dropped."""
        self._stopped.set()
        for process in self._processes:
            process.stop()
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            process.discard()
