"""The recordings of a batch on the machines of a Ray cluster.

Plain actors, and not ``map_batches`` of Ray Data. Ray Data starts a row again for as long as it ends its worker, so
that one recording that crashes a decoder holds up a run for ever; it has no time limit for a row; and what is finished
would be known per block, where a batch knows it per recording. An actor here is a thin supervisor of the worker process
that `affuse.batch.pool` uses as well. A recording that ends that process is answered as a crash, as on one machine. An
actor that is lost with its machine, or was ended by Ray, is no fault of the recording: it is given to another actor.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from affuse.batch.pool import SOON, Answer, Engine, WorkerProcess, raise_refusal
from affuse.batch.settings import BatchSettings
from affuse.batch.storage import told
from affuse.batch.worker import Job
from affuse.errors import AffuseError, ConfigError
from affuse.lazy import needs_extra

__all__ = ["RayPool", "Supervisor", "connect", "first_difference"]

LOSSES = 3  # of the actors that a recording may be at before it counts as their reason
_KNOCK_SECONDS = 10.0  # that an address has to answer
_CORE_SECONDS = 600.0  # that a first core of the cluster is waited for

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""A cluster that is started here reports its use to nobody."""


class Supervisor:
    """What an actor is on its machine: a worker process that loads the experts once, and outlives its crashes.

    Parameters
    ----------
    settings : BatchSettings
        How recordings are analysed.
    folder : str
        Where relative paths begin, where that folder is there.
    """

    def __init__(self, settings: BatchSettings, folder: str) -> None:
        self._process = WorkerProcess(settings, folder if Path(folder).is_dir() else None)

    def start(self) -> dict[str, Any]:
        """Load the experts: ``ready`` says what decides about the answers, or ``refused`` why there are none."""
        try:
            return {"ready": self._process.start(), "machine": os.uname().nodename if os.name != "nt" else ""}
        except AffuseError as error:
            return {"refused": str(error), "type": type(error).__name__}

    def answer(self, job: Job, time_limit: float | None) -> Answer:
        """Have one recording analysed; ``refused`` says why the experts could not be loaded again."""
        try:
            return self._process.answer(job, time_limit)
        except AffuseError as error:
            return {"refused": str(error), "type": type(error).__name__}


class RayPool(Engine):
    """Actors of a Ray cluster.

    Parameters
    ----------
    settings : BatchSettings
        How recordings are analysed.
    workers : int
        Actors, of which each takes a core; 0 is one for each core of the cluster. Those for which there is no core yet
        begin as soon as there is one.
    time_limit : float or None
        Seconds after which a recording is given up.
    address : str
        "auto", "local", or as ``ray.init`` takes it.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    ConfigError
        If no cluster answers at the address.
    """

    def __init__(self, settings: BatchSettings, workers: int, time_limit: float | None, address: str) -> None:
        self._ray, self._started = connect(address)
        self._remote = self._ray.remote(num_cpus=1, max_restarts=0)(Supervisor)
        self._settings, self._time_limit, self._address = settings, time_limit, address
        self._workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 0)))
        super().__init__(self._workers)
        self._thread: threading.Thread | None = None
        self._again: deque[Job] = deque()  # were lost with their actors
        self._losses: dict[int, int] = {}  # by number of the job
        self._failed_starts = 0  # since an actor was ready
        self._description: dict[str, Any] = {}
        self._calls: dict[Any, tuple[Any, Job | None]] = {}  # actor and job by what is waited for; None while loading
        self._idle: list[Any] = []
        self._with_core = time.monotonic()  # when an actor was last at work or ready for it

    def start(self) -> dict[str, Any]:
        """Start the first actor, which says what decides about the answers. Raises what loading raised."""
        while not self._description:
            actor = self._remote.remote(self._settings, str(Path.cwd()))
            call = actor.start.remote()
            if not self._ray.wait([call], timeout=_CORE_SECONDS)[0]:
                raise AffuseError(_no_core(self._address))
            self._take_start(call, actor)
        return self._description

    def work(self) -> None:
        """Begin to take jobs; the other actors start."""
        for _ in range(self._workers - 1):
            self._start_actor()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End all actors; whatever they were analysing is dropped."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        for actor in [*self._idle, *(actor for actor, _ in self._calls.values())]:
            with suppress(Exception):  # it may have gone with its machine
                self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    # --- the thread that hands out ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._stopped.is_set():
                self._hand_out()
                self._check_cores()
                if not self._calls:
                    self._stopped.wait(SOON)
                    continue
                ready, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=SOON)
                for call in ready:
                    self._take(call)
        except BaseException as error:
            self.fail(error)

    def _check_cores(self) -> None:
        """Raise where the cluster has had no core for any actor for long."""
        if self._idle or any(job is not None for _, job in self._calls.values()):
            self._with_core = time.monotonic()
        elif time.monotonic() - self._with_core > _CORE_SECONDS:
            raise AffuseError(_no_core(self._address))

    def _hand_out(self) -> None:
        while self._idle:
            try:
                job = self._again.popleft() if self._again else self._jobs.get_nowait()
            except queue.Empty:
                return
            actor = self._idle.pop()
            self._calls[actor.answer.remote(job, self._time_limit)] = actor, job

    def _take(self, call: Any) -> None:
        actor, job = self._calls.pop(call)
        if job is None:
            self._take_start(call, actor)
            return
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayActorError:
            self._start_actor()
            self._take_loss(job)
            return
        raise_refusal(answer)
        self._losses.pop(job.number, None)
        self._idle.append(actor)
        self._put(self._answers, (job, answer))

    def _take_loss(self, job: Job) -> None:
        """Give a job to another actor, or give it up where it was lost with several."""
        lost = self._losses[job.number] = self._losses.get(job.number, 0) + 1
        if lost < LOSSES:
            self._again.append(job)
            return
        reason = f"{job.path} was lost with its worker {lost} times (out of memory on its machine?)"
        self._put(self._answers, (job, {"failed": "Crash", "reason": reason}))

    def _start_actor(self) -> None:
        actor = self._remote.remote(self._settings, str(Path.cwd()))
        self._calls[actor.start.remote()] = actor, None

    def _take_start(self, call: Any, actor: Any) -> None:
        """Take in an actor that is ready, or start another. Raises where that leads to nothing."""
        try:
            line = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts > LOSSES + self._workers:
                raise AffuseError(f"no worker starts on the Ray cluster {self._address}: {told(error)}") from error
            if self._description:
                self._start_actor()
            return
        raise_refusal(line)
        self._failed_starts = 0
        self._description = self._description or line["ready"]
        if line["ready"] != self._description:
            what = first_difference(self._description, line["ready"])
            raise ConfigError(
                f"the machine {line['machine']} of the Ray cluster would answer differently ({what}); install the same "
                "versions and weights on all machines"
            )
        self._idle.append(actor)


def _no_core(address: str) -> str:
    return f"the Ray cluster {address} has had no free core for {_CORE_SECONDS:g} s; run it again when it has one"


def connect(address: str) -> tuple[Any, bool]:
    """Ray, connected to a cluster, and whether it is ours to disconnect. Raises MissingExtraError or ConfigError."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with needs_extra("cluster"):
        import ray
    if ray.is_initialized():
        return ray, False
    _knock(address)
    options: dict[str, Any] = {} if address != "local" else {"include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        if address == "auto" and isinstance(error, ConnectionError):
            raise ConfigError(
                "no Ray cluster was found; start one by ray start --head, or give --ray local or an address"
            ) from error
        raise ConfigError(f"no Ray cluster answers at {address}: {told(error)}") from error
    return ray, True


def _knock(address: str) -> None:
    """Raise ConfigError where nobody listens at an address with a port; Ray itself would try for minutes."""
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({(error.strerror or str(error)).lower()})") from error


def first_difference(one: Any, other: Any, name: str = "") -> str:
    """The first difference of two descriptions, such as "libraries numpy: 2.1.0, elsewhere 2.2.0"."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if one.get(key) != other.get(key):
                return first_difference(one.get(key), other.get(key), f"{name} {key}".strip())
    return f"{name}: {other}, elsewhere {one}"
