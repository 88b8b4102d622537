"""The jobs of a service on the machines of a Ray cluster, while its own store stays the only truth about them.

A worker of the service claims a job, keeps its lease and ends it as on one machine; what differs is where the process
that analyses runs. It runs under an actor, which brings it its files piece by piece, keeps it confined as it is kept on
the machine of the service, and hands over what it says. Whatever is lost with a machine of the cluster, the job is not:
it is begun again under another actor, or, where the worker of the service is lost, by another worker.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from affuse.batch.cluster import connect, first_difference
from affuse.batch.settings import versions
from affuse.errors import AffuseError, ConfigError
from affuse.service.confinement import seccomp_is_known
from affuse.service.process import RESULTS, Runner, clear_staging, confinement_in_words, confinement_of
from affuse.service.runner import JobSpec
from affuse.service.settings import Settings
from affuse.service.storage import Storage, staging_folder

__all__ = ["ClusterRunner", "JobActor", "joined_cluster"]

_LOG = logging.getLogger("affuse.service")

_PIECE = 16_000_000  # bytes of a file that pass the object store at once
_LOSSES = 3  # actors that a job may be lost with before its attempt counts as failed
_GOODBYE = 3.0  # seconds that an actor has to take its folder away
_TOKEN = "AFFUSE_TOKEN"  # the name of a variable


@contextmanager
def joined_cluster(settings: Settings) -> Iterator[Settings]:
    """The settings for the workers of a server, whose cluster answers; one that is started here ends with the block.

    Raises MissingExtraError without Ray, and ConfigError where no cluster answers.
    """
    if settings.ray is None:
        yield settings
        return
    hidden = os.environ.pop(_TOKEN, None)  # processes of the cluster inherit the environment, and need no token
    try:
        ray, started = connect(settings.ray)
    finally:
        if hidden is not None:
            os.environ[_TOKEN] = hidden
    try:
        address = settings.ray
        if address == "local":
            address = str(ray.get_runtime_context().gcs_address)
        elif started:  # it answers: that is all that the server itself wants of it
            ray.shutdown()
        yield replace(settings, ray=address)
    finally:
        if started:
            ray.shutdown()


class JobActor:
    """What an actor is on its machine: the confined process that analyses, and a folder with its files.

    Parameters
    ----------
    values : dict
        Settings of the service in JSON, without its token.
    beat : float
        Seconds between two looks at a job.
    """

    def __init__(self, values: dict[str, Any], beat: float) -> None:
        self._closing = ExitStack()
        self._settings = replace(Settings.from_json(values), folder=_own_folder())
        self._settings.staging.mkdir(mode=0o700, exist_ok=True)
        self._staging = self._closing.enter_context(staging_folder(Storage(self._settings)))
        for name in ("in", "out"):
            (self._staging / name).mkdir(0o700)
        self._cleaner = _cleaner_of(self._staging)
        # Without local sockets, since Ray has some by which recordings of others can be reached.
        self._runner = Runner(beat, replace(confinement_of(self._settings, self._staging), local=False))
        self._answers: Iterator[dict[str, Any] | None] = iter(())

    def ready(self) -> dict[str, Any]:
        """What this machine is called, what it answers by, and what holds a job in its place there."""
        return {"machine": os.uname().nodename, "versions": versions(), "confined": self._in_words()}

    def _in_words(self) -> str:
        local = "nor" if seccomp_is_known() else "but"
        return f"{confinement_in_words(self._settings)}, {local} local sockets, by which they could speak to Ray"

    def clear(self) -> None:
        """Take away the files of the job before."""
        clear_staging(self._staging)

    def write(self, name: str, piece: bytes) -> None:
        """Add a piece to a file that the job is to read."""
        with (self._staging / "in" / Path(name).name).open("ab") as file:
            file.write(piece)

    def start(self, spec: JobSpec) -> None:
        """Begin a job whose files are there."""
        inside = self._staging / "in"
        here = replace(spec, results=str(self._staging / "out" / RESULTS), upload=str(inside / Path(spec.upload).name))
        if spec.transcript is not None:
            here = replace(here, transcript=str(inside / Path(spec.transcript).name))
        self._runner.start(here)
        self._answers = self._runner.answers()

    def look(self) -> dict[str, Any]:
        """What the job has said since the last look, after a beat at most; ``ended`` where its process has."""
        try:
            line = next(self._answers)
        except StopIteration:
            return {"ended": True, "late": self._runner.ran_out_of_time()}
        return {"line": line, "memory": self._runner.memory()}

    def results(self) -> dict[str, int]:
        """Names and bytes of the files of results."""
        return {path.name: path.stat().st_size for path in (self._staging / "out" / RESULTS).iterdir()}

    def read(self, name: str, start: int) -> bytes:
        """A piece of a file of results."""
        with (self._staging / "out" / RESULTS / Path(name).name).open("rb") as file:
            file.seek(start)
            return file.read(_PIECE)

    def end(self) -> None:
        """End the process at once, and take away its files."""
        self._runner.end()
        self.clear()

    def close(self) -> None:
        """End the process, and leave nothing on this machine."""
        self._runner.end()
        self._closing.close()
        assert self._cleaner.stdin is not None
        self._cleaner.stdin.close()


def _cleaner_of(folder: Path) -> subprocess.Popen[bytes]:
    """Have a folder removed as soon as this process ends, however it ends: its end of a pipe closes then.

    Who waits for that is no child of this process, since Ray ends the children of its own.
    """
    script = 'exec 3<&0; (cat <&3 >/dev/null; rm -rf -- "$0") &'
    cleaner = subprocess.Popen(["/bin/sh", "-c", script, str(folder)], stdin=subprocess.PIPE, start_new_session=True)
    cleaner.wait()  # the one that starts it; the pipe stays open
    return cleaner


def _own_folder() -> Path:
    """A folder of this user's for all actors on a machine. Raises ConfigError where it is somebody else's."""
    place = Path(tempfile.gettempdir()) / f"affuse-cluster-{os.getuid()}"
    with suppress(FileExistsError):
        place.mkdir(0o700)
    found = place.lstat()
    if place.is_symlink() or not place.is_dir() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{place} on {os.uname().nodename} belongs to somebody else; jobs cannot be kept there")
    return place


class ClusterRunner:
    """Does for a worker of the service what `affuse.service.process.Runner` does, on a machine of a cluster.

    Parameters
    ----------
    settings : Settings
        Those of the service; ``ray`` is the address of the cluster.
    beat : float
        The most seconds that `answers` waits for a line.

    Raises
    ------
    MissingExtraError
        If Ray is not installed.
    ConfigError
        If no cluster answers at the address.
    """

    def __init__(self, settings: Settings, beat: float) -> None:
        assert settings.ray is not None
        self._ray, self._started = connect(settings.ray)
        # Two calls at a time, so that a job can be ended while somebody waits for what it says.
        self._remote = self._ray.remote(num_cpus=1, max_restarts=0, max_concurrency=2)(JobActor)
        self._values = replace(settings, token=None, host="127.0.0.1", ray=None).to_json()
        self.beat = beat
        self._actor: Any = None
        self._greeted: set[str] = set()
        self._spec: JobSpec | None = None
        self._memory, self._late, self._closed = 0, False, False

    def start(self, spec: JobSpec) -> None:
        """Note what to do; `answers` does it, since a cluster may have no free core for long."""
        self._spec = spec

    def answers(self) -> Iterator[dict[str, Any] | None]:
        """Lines of the answer as they come; None at least every ``beat`` seconds. Ends with the process.

        A job that is lost with its actor is begun again under another one, some times.
        """
        spec = self._spec
        assert spec is not None
        self._memory, self._late = 0, False
        for lost in range(1, _LOSSES + 1):
            try:
                yield from self._work(spec)
                return
            except self._ray.exceptions.RayError as error:
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                _LOG.warning("a job was lost with its actor on the Ray cluster, %d of %d times: %s", lost, _LOSSES, why)
                self._drop()
            if self._closed:
                return

    def _work(self, spec: JobSpec) -> Iterator[dict[str, Any] | None]:
        if self._actor is None:
            self._actor = self._remote.remote(self._values, self.beat)
        actor = self._actor
        self._greet((yield from self._waited(actor.ready.remote())))
        yield from self._waited(actor.clear.remote())
        for path in (spec.upload, spec.transcript):
            if path is not None:
                yield from self._sent(actor, Path(path))
        yield from self._waited(actor.start.remote(spec))
        while True:
            look = yield from self._waited(actor.look.remote())
            if "ended" in look:
                self._late = look["late"]
                yield from self._waited(actor.clear.remote())
                return
            line, self._memory = look["line"], look["memory"]
            if line is not None and "done" in line:
                yield from self._brought(actor, Path(spec.results))
            if line is not None and ("done" in line or "error" in line):
                yield from self._waited(actor.clear.remote())  # nothing of a recording stays after its job
            yield line

    def _waited(self, call: Any) -> Generator[None, None, Any]:
        """Wait for a call, and return what it gives; says None every beat."""
        while not self._ray.wait([call], timeout=self.beat)[0]:
            yield None
        return self._ray.get(call)

    def _sent(self, actor: Any, path: Path) -> Generator[None, None, None]:
        """Copy a file to the actor; says None after every piece."""
        with path.open("rb") as file:
            piece = file.read(_PIECE)
            while True:  # an empty file is one as well
                yield from self._waited(actor.write.remote(path.name, piece))
                yield None
                piece = file.read(_PIECE)
                if not piece:
                    return

    def _brought(self, actor: Any, folder: Path) -> Generator[None, None, None]:
        """Copy the results to where the worker looks for them."""
        shutil.rmtree(folder, ignore_errors=True)  # of an actor that was lost on the way
        folder.mkdir(0o700)
        sizes = yield from self._waited(actor.results.remote())
        for name, size in sizes.items():
            with (folder / Path(name).name).open("wb") as file:
                while file.tell() < size:
                    file.write((yield from self._waited(actor.read.remote(name, file.tell()))))
                    yield None

    def _greet(self, told: dict[str, Any]) -> None:
        """Say once of every machine what holds jobs there. Raises ConfigError where it would answer differently."""
        machine = told["machine"]
        if machine in self._greeted:
            return
        if told["versions"] != versions():
            what = first_difference(versions(), told["versions"])
            self._drop()
            raise ConfigError(
                f"the machine {machine} of the Ray cluster would answer differently ({what}); install the same "
                "versions on all machines"
            )
        self._greeted.add(machine)
        _LOG.warning("on %s of the Ray cluster, %s", machine, told["confined"])

    def _drop(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            with suppress(Exception):  # it may have gone with its machine
                self._ray.kill(actor)

    def ran_out_of_time(self) -> bool:
        """Whether the system has ended the process since it took more time of the processor than its job may."""
        return self._late

    def memory(self) -> int:
        """Bytes of memory that the process held at the last look."""
        return self._memory

    def end(self) -> None:
        """End the process at once; the next job starts another."""
        if self._actor is not None:
            with suppress(AffuseError, self._ray.exceptions.RayError):
                self._ray.get(self._actor.end.remote(), timeout=_GOODBYE)
                return
            self._drop()

    def close(self) -> None:
        """End the process and its actor, which takes its folder away, and leave the cluster."""
        self._closed = True
        if self._actor is not None:
            with suppress(self._ray.exceptions.RayError):
                self._ray.get(self._actor.close.remote(), timeout=_GOODBYE)
        self._drop()
        if self._started:
            self._ray.shutdown()
            self._started = False
