"""A process that analyses one recording after another, told and answering in lines of JSON on its standard streams.

Its argument is a folder for copies of recordings in cloud storage. The first line in holds the settings, and the first
line out says that the experts are loaded, with what decides about the answers. Then a line in is a job (see `Job`) and
a line out its answer; before it, a line says the key of the content where the job does not. A process of its own can be
ended at once, takes nothing with it when it crashes, and, started as a command, works from any script or notebook.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from affuse.batch.moments import picture_columns
from affuse.batch.rows import person_columns, window_columns
from affuse.batch.settings import Analyzers, BatchSettings, describe, make_analyzers
from affuse.batch.sources import Item, content_key
from affuse.batch.storage import fetch, is_remote
from affuse.errors import AffuseError

__all__ = ["Job", "main"]


@dataclass(frozen=True)
class Job:
    """A recording to analyse, under the key of its content, which is empty where the worker is to find it out.

    ``number`` is that of the item, for whoever asks; the worker does not use it.
    """

    key: str
    path: str
    transcript: str | None = None
    language: str | None = None
    number: int = 0

    def to_line(self) -> str:
        """The job as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def main() -> None:
    """Read jobs until the standard input ends."""
    code = 1
    try:
        _work()
        code = 0
    except SystemExit as error:  # of an expert, say
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    os._exit(code)  # at once: the end of the interpreter would wait for the thread that reads


def _work() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    requests = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the answers
    sys.stdin = io.StringIO()  # nor may one wait for, or close, what the jobs come through
    _offer_to_the_oom_killer()
    jobs: list[Job] = []
    arrived = threading.Semaphore(0)
    settings, folder = BatchSettings(**json.loads(requests.readline())), Path(sys.argv[1])
    threading.Thread(target=_listen, args=(requests, jobs, arrived, folder), daemon=True).start()

    def say(**line: Any) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    try:
        analyzers = make_analyzers(settings)
        say(ready=describe(settings, analyzers()))
    except AffuseError as error:
        say(refused=str(error), type=type(error).__name__)
        return
    _use_one_thread()
    while True:
        arrived.acquire()
        say(**_answer(jobs.pop(0), analyzers, folder, say))


def _listen(requests: IO[str], jobs: list[Job], arrived: threading.Semaphore, folder: Path) -> None:
    for line in requests:
        jobs.append(Job(**json.loads(line)))
        arrived.release()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # the run has ended or was killed: whatever is being analysed, nobody waits for it


def _offer_to_the_oom_killer() -> None:
    """Where memory runs out, Linux is to end this process, whose loss costs one recording, and not the run."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _use_one_thread() -> None:
    """Workers share the cores; threads of their own would only wait for each other."""
    if "cv2" in sys.modules:
        import cv2

        cv2.setNumThreads(1)


def _answer(job: Job, analyzers: Analyzers, folder: Path, say: Callable[..., None]) -> dict[str, Any]:
    try:
        with _fetched(job, folder) as here:
            try:
                if not here.key:
                    here = replace(here, key=_key(here))
                    say(content=here.key)
                return _analyse(here, analyzers)
            except AffuseError as error:
                return {"failed": type(error).__name__, "reason": _readable(str(error), here, job)}
    except AffuseError as error:
        return {"failed": type(error).__name__, "reason": str(error)}
    except MemoryError:
        return {"failed": "MemoryError", "reason": f"{job.path} needs more memory than this machine has"}
    except Exception as error:  # a defect of ours, or of an expert, must cost this recording only, and be told
        traceback.print_exc()
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return {
            "failed": type(error).__name__,
            "reason": f"{job.path} could not be analysed: an internal error ({what})",
        }


@contextmanager
def _fetched(job: Job, folder: Path) -> Iterator[Job]:
    """The job with copies of its files on this machine in place of those in cloud storage, which go afterwards."""
    with ExitStack() as copies:
        places: dict[str, str | None] = {"path": job.path, "transcript": job.transcript}
        for name, place in places.items():
            if place is not None and is_remote(place):
                own = folder / name  # a transcript may have the name of its recording
                own.mkdir(parents=True, exist_ok=True)
                places[name] = str(copies.enter_context(fetch(place, own)))
        yield replace(job, path=str(places["path"]), transcript=places["transcript"])


def _key(job: Job) -> str:
    transcript = None if job.transcript is None else Path(job.transcript)
    return content_key(Item(job.path, Path(job.path), transcript, job.language))


def _readable(reason: str, copy: Job, job: Job) -> str:
    """A reason that speaks of the files that were asked for, and not of their copies."""
    for own, asked in ((copy.path, job.path), (copy.transcript, job.transcript)):
        if own is not None and asked is not None:
            reason = reason.replace(own, asked)
    return reason


def _analyse(job: Job, analyzers: Analyzers) -> dict[str, Any]:
    from affuse.analyzer.adaptation import adapted_analyzers
    from affuse.media import Recording

    analyzer, settings = analyzers(job.language), analyzers.settings
    recording = Recording.open(job.path, job.transcript, budget=analyzers.budget)
    found = analyzer.observe(recording, speakers=settings.speakers)
    (own,) = adapted_analyzers(analyzer, [found], [""], settings.adapt)
    analysis = own.answer(found)
    pictures = picture_columns(analysis, job.key) if settings.keeps_pictures else {}
    if settings.redact or settings.private:
        from affuse.report.redaction import redact, without_identity  # brings the report, which others spare

        analysis = redact(analysis) if settings.redact else without_identity(analysis, job.key)
    answer = {"windows": window_columns(analysis, job.key), "persons": person_columns(analysis, job.key)}
    return {**answer, "pictures": pictures} if pictures and pictures["key"][1] else answer


if __name__ == "__main__":
    main()
