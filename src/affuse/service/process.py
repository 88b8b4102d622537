"""The process of a worker that analyses, what it may reach, and the folder that it reads and writes."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from affuse.service.confinement import Confinement, landlock_version, seccomp_is_known, system_paths
from affuse.service.runner import JobSpec
from affuse.service.settings import Settings

__all__ = [
    "BEAT",
    "RESULTS",
    "Runner",
    "clear_staging",
    "confinement_in_words",
    "confinement_of",
    "without_network",
]

BEAT = 1.0
"""Most seconds between two looks at a running job."""

RESULTS = "results"
"""Name of the folder that a job leaves."""

_GRACE = 4.0  # seconds that a process which was told to end has


class Runner:
    """The process that analyses, started when first needed, and again after it had to be ended.

    ``beat`` is the most seconds that `answers` waits for a line. A ``confinement`` names the files and the network that
    it may reach, where the system has the means (see `affuse.service.confinement`).
    """

    def __init__(self, beat: float = BEAT, confinement: Confinement | None = None) -> None:
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
        process = self._process  # another thread may `end` it meanwhile
        if process is None or process.poll() is not None:
            process = self._launch()
        assert process.stdin is not None
        try:
            process.stdin.write(spec.to_line())
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it ended just now, or was ended, which `answers` will say

    def _launch(self) -> subprocess.Popen[str]:
        self._process = process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self.environment,
            start_new_session=True,  # Ctrl+C in a terminal is for the server alone
        )
        self._lines = queue.Queue()
        threading.Thread(target=_collect, args=(process, self._lines), daemon=True).start()
        return process

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

    def close(self) -> None:
        """End the process for good."""
        self.end()


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


def clear_staging(staging: Path) -> None:
    """Take away the files of the job before; the folders stay, since the rights of a process are about them."""
    for path in (*(staging / "in").iterdir(), *(staging / "out").iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
