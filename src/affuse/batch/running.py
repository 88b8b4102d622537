"""A batch: every recording once, whatever happens to the process in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.batch.consent import Ledger
from affuse.batch.pool import Answer, Engine, Pool
from affuse.batch.progress import BatchProgress, ProgressReport
from affuse.batch.rows import Columns
from affuse.batch.settings import BatchSettings, fingerprint
from affuse.batch.sources import FOLDER, Item, Source, content_key, find_items, named_by_content
from affuse.batch.storage import as_path, told
from affuse.batch.store import Store, arrow_table, refuse_foreign
from affuse.batch.summary import summarise
from affuse.batch.worker import Job
from affuse.errors import AffuseError, ConfigError, MediaError

if TYPE_CHECKING:
    from arro3.core import Table

__all__ = ["BatchResult", "run"]

_LANGUAGES = ("en", "zh")  # of the page
_SOON = 0.5  # seconds that an answer is waited for before a look at the clock

_WORDLESS = frozenset(("MediaError", "TimeLimit", "Crash", "MemoryError"))
"""Kinds of errors whose reasons name the file and quote neither words nor people."""

_PLAIN_REASONS = {
    "ConsentError": "consent to the purpose is missing",
    "Crash": "it ended the process that analysed it",
    "TimeLimit": "it took too long and was given up",
    "TranscriptError": "the transcript cannot be read or does not fit",
}


@dataclass(frozen=True)
class BatchResult:
    """What a run of a batch did.

    Parameters
    ----------
    folder : Path
        The data set; `affuse.batch.read` reads it.
    configuration : str
        Fingerprint of the settings, versions and weights that the answers come from.
    total : int
        Rows of the manifest, or recordings.
    analyzed : int
        Recordings that this run analysed. The same content in two places counts once.
    earlier : int
        Rows that earlier runs had finished, or had found to fail.
    failed : int
        Rows that could not be analysed, now or earlier; the table "errors" says why.
    skipped : int
        Files in the folders that are no recordings.
    seconds : float
        How long the run took.
    notes : tuple of str
        What could not be written, in sentences: no summary.xlsx where the library for it is not installed.

    Examples
    --------
    >>> BatchResult(Path("study"), "0" * 16, 12, 12, 0, 1, 0, 8.5).failed
    1
    """

    folder: Path
    configuration: str
    total: int
    analyzed: int
    earlier: int
    failed: int
    skipped: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, as ``affuse batch --json`` prints it.

        Returns
        -------
        dict
        """
        return {**asdict(self), "folder": str(self.folder), "notes": list(self.notes)}


def run(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: BatchSettings | None = None,
    *,
    workers: int = 1,
    retry_errors: bool = False,
    time_limit: float | None = None,
    part_recordings: int = 8,
    part_seconds: float = 5.0,
    by: str | Sequence[str] = (),
    unit: str | None = None,
    language: str = "en",
    progress: BatchProgress | None = None,
    consent: str | Path | None = None,
    ray: str | None = None,
) -> BatchResult:
    """Analyse many recordings into a data set; started again after it was killed, it goes on where it was.

    Parameters
    ----------
    source : str, Path or sequence of them
        A manifest (CSV, TSV, Parquet or Excel with a column "path"); a folder, with all folders in it; a pattern such
        as ``"clips/**/*.mp4"``; or recordings. Addresses such as ``s3://bucket/clips`` name cloud storage.
    out : str or Path
        Folder of the data set; is made where it does not exist, and added to where it holds one. It may be an address.
    settings : BatchSettings, optional
        How recordings are analysed.
    workers : int
        Processes that analyse, each with its own copy of the weights. With ``ray``, 0 means one for each core of the
        cluster.
    retry_errors : bool
        Try again what failed in an earlier run.
    time_limit : float, optional
        Seconds after which a recording is given up.
    part_recordings, part_seconds
        A part is written as soon as it is about so many recordings, or its first one was finished so long ago. That
        much work, and what the workers are at, is lost at most when the run is killed.
    by : str or sequence of str
        Columns of the manifest, or "folder", by which the page and groups.csv show means with intervals.
    unit : str, optional
        Column whose values are drawn as wholes for the intervals, such as the participant; recordings where None.
    language : str
        "en" or "zh", of the page.
    progress : callable, optional
        Called with a `ProgressReport` after every recording.
    consent : str or Path, optional
        A ledger (`affuse.batch.consent`). A recording for which somebody's consent to the purpose of the settings is
        missing, has ended or was withdrawn is not analysed: it becomes a row of the table "errors" and has no answer
        in the summaries, also where an earlier run analysed it.
    ray : str, optional
        Address of a Ray cluster whose machines analyse: "auto" for the one that this machine belongs to, "local" for
        one that is started on this machine, or as ``ray.init`` takes it. Processes of this machine where None.

    Returns
    -------
    BatchResult

    Raises
    ------
    ConfigError, DataError, MediaError
        If a setting does not fit, the manifest cannot be read or there are no recordings. A recording that cannot be
        analysed raises nothing; it becomes a row of the table "errors".
    OutputError
        If the folder cannot be written, holds something else, or another run writes there.
    MissingExtraError
        If Ray, or the library of a kind of cloud storage, is not installed.

    Examples
    --------
    >>> Path("said").mkdir()
    >>> _ = Path("said/words.srt").write_text("1\\n00:00:00,000 --> 00:00:02,000\\nI am so happy!\\n")
    >>> done = run(["said/words.srt"], "study", BatchSettings(experts={"text": "text"}))
    >>> done.analyzed, done.failed
    (1, 0)
    """
    _check(workers if ray is None else max(workers, 1), time_limit, part_recordings, part_seconds)
    folder = as_path(out)
    refuse_foreign(folder)
    found = find_items(source, folder)
    settings = settings or BatchSettings()
    by = (by,) if isinstance(by, str) else tuple(by)
    if settings.private:
        _check_private(by, unit)
        found = named_by_content(found)
    _check_page(language, by, unit, found.columns)  # refused now, and not after hours of work
    ledger = None if consent is None else Ledger(Path(consent), settings.purpose)
    pool = _engine(settings, workers, time_limit, ray)
    try:
        description = pool.start()
        store = Store(folder, fingerprint(description))
        with store.opened(description):
            buffer = _Buffer(store, part_recordings, part_seconds)
            batch = _Batch(found, store, pool, buffer, progress, ledger, settings)
            batch.forget_errors(retry_errors)
            with _flushed(batch.buffer):
                batch.work()
            pool.stop()  # the tables and the page want the memory that the workers hold
            done = batch.finish()
            from affuse.batch.overview import write_overview  # brings the report, which a run that is killed spares

            pictures = store if settings.keeps_pictures else None
            notes = write_overview(store.folder, batch.summaries, batch.own, language, by, unit, pictures)
            return replace(done, notes=notes)
    finally:
        pool.stop()


def _engine(settings: BatchSettings, workers: int, time_limit: float | None, ray: str | None) -> Engine:
    if ray is None:
        return Pool(settings, workers, time_limit)
    from affuse.batch.cluster import RayPool  # an extra

    return RayPool(settings, workers, time_limit, ray)


def _check(workers: int, time_limit: float | None, part_recordings: int, part_seconds: float) -> None:
    if workers < 1:
        raise ConfigError(f"a batch needs at least one worker; got {workers}")
    if time_limit is not None and not time_limit > 0:
        raise ConfigError(f"the time limit must be above 0 seconds; got {time_limit:g}")
    if part_recordings < 1 or not part_seconds >= 0:
        raise ConfigError(
            f"a part is of at least one recording and 0 seconds; got {part_recordings} and {part_seconds:g}"
        )


def _check_private(by: Sequence[str], unit: str | None) -> None:
    if by or unit is not None:
        option = "--by" if by else "--group"
        raise ConfigError(f"--private keeps no columns of the manifest and no names of folders; leave out {option}")


def _check_page(language: str, by: Sequence[str], unit: str | None, columns: Sequence[str]) -> None:
    if language not in _LANGUAGES:
        raise ConfigError(f"no texts in the language {language!r}; known: {', '.join(_LANGUAGES)}")
    for option, name in (*(("--by", name) for name in by), ("--group", unit)):
        if name is not None and name != FOLDER and name not in columns:
            known = ", ".join((*columns, FOLDER))
            raise ConfigError(f"{option} {name}: the manifest has no such column; known: {known}")


@contextmanager
def _flushed(buffer: _Buffer) -> Iterator[None]:
    """Write what is finished also where the work is interrupted."""
    try:
        yield
    finally:
        buffer.flush()


class _Buffer:
    """Finished recordings that are not written yet."""

    def __init__(self, store: Store, recordings: int, seconds: float) -> None:
        self._store, self._recordings, self._seconds = store, recordings, seconds
        self._windows: list[Table] = []
        self._persons: list[Table] = []
        self._pictures: list[Table] = []
        self._errors: list[dict[str, str]] = []
        self._contents: list[dict[str, str]] = []
        self._since = time.monotonic()

    def add(self, answer: Answer) -> None:
        self._begin()
        self._windows.append(arrow_table(answer["windows"]))
        self._persons.append(arrow_table(answer["persons"]))
        if "pictures" in answer:
            self._pictures.append(arrow_table(answer["pictures"]))

    def add_error(self, path: str, key: str, error: str, reason: str) -> None:
        self._begin()
        self._errors.append({"path": path, "key": key, "error": error, "reason": reason})

    def add_content(self, path: str, version: str, key: str) -> None:
        self._contents.append({"path": path, "version": version, "key": key})

    def _begin(self) -> None:
        if not self._persons and not self._errors:
            self._since = time.monotonic()

    def flush_if_due(self) -> None:
        waiting = len(self._persons) + len(self._errors)
        if waiting >= self._recordings or (waiting and time.monotonic() - self._since >= self._seconds):
            self.flush()

    def flush(self) -> None:
        windows, persons, errors = self._windows, self._persons, self._errors
        self._windows, self._persons, self._errors = [], [], []
        contents, self._contents = self._contents, []
        pictures, self._pictures = self._pictures, []
        self._store.add(windows, persons, errors, contents, pictures)


@dataclass
class _Plan:
    """What the thread that reads the content of the recordings has found out.

    Of those in cloud storage, which workers read, the thread that writes adds keys, rows and what is missing.
    """

    keys: dict[int, str] = field(default_factory=dict)  # by number of the item
    rows: dict[str, int] = field(default_factory=dict)  # items by key, whose analysis was asked for
    missing: dict[int, tuple[str, str]] = field(default_factory=dict)  # kind of error and reason by number of the item
    asked: int = 0  # jobs
    known: int = 0
    bytes_known: int = 0
    complete: bool = False


class _Batch:
    """One run."""

    def __init__(
        self, source: Source, store: Store, pool: Engine, buffer: _Buffer, progress: BatchProgress | None,
        ledger: Ledger | None, settings: BatchSettings,
    ) -> None:  # fmt: skip
        self.ledger, self.settings = ledger, settings
        self.source, self.store, self.pool, self.buffer, self.progress = source, store, pool, buffer, progress
        self.started = time.monotonic()
        self.plan = _Plan()
        self.finished = store.finished()
        self.failed_earlier: dict[str, dict[str, str]] = {}  # rows of the errors by key
        self.reasons: dict[str, tuple[str, str]] = {}  # kind and reason by key
        self.summaries: Columns = {}
        self.own: dict[str, str] = {}  # names of the user's columns in them
        self.analyzed = 0
        self.failed_now = 0
        self.repeated = 0  # fetched, and then found to be known
        self.unread = 0  # could not be fetched
        self.contents = store.contents() if any(item.is_remote for item in source.items) else {}
        self.sizes = [_size(item) for item in source.items]
        self.bytes_done = 0

    def forget_errors(self, all_of_them: bool) -> None:
        """Keep the errors of earlier runs that are still about a recording of this one, or none."""
        names = {item.name for item in self.source.items}
        before = self.store.errors()
        kept = [] if all_of_them else [r for r in before if r["path"] in names and r["key"] not in self.finished]
        if len(kept) < len(before):
            self.store.replace_errors(kept)
        self.failed_earlier = {row["key"]: row for row in kept if row["key"]}

    # --- the thread that reads the content ----------------------------------------------------------------------------

    def _read_content(self) -> None:
        try:
            for number, item in enumerate(self.source.items):
                if not self._read_one(number, item):
                    return
            self.plan.complete = True
        except BaseException as error:
            self.pool.fail(error)

    def _read_one(self, number: int, item: Item) -> bool:
        """Find out whether a recording is to be analysed, and ask for it; False where the run has been stopped."""
        plan = self.plan
        try:
            if self.ledger is not None:
                self.ledger.check(item.path)
            key = self._key(item)
        except AffuseError as error:
            kind = type(error).__name__
            plan.missing[number] = kind, self._told(kind, str(error))
            return True
        if not key:
            return self._ask(number, item, "")
        plan.keys[number] = key
        if key in self.finished or key in self.failed_earlier or key in plan.rows:
            plan.known += 1
            plan.bytes_known += self.sizes[number]
            return True
        plan.rows[key] = number
        return self._ask(number, item, key)

    def _key(self, item: Item) -> str:
        """The key of a content; empty where a worker is to find it out, which fetches the recording anyway."""
        if not item.is_remote:
            return content_key(item)
        if not self._reads_remote:
            return self.contents.get((item.name, item.version), "")
        try:
            return content_key(item)
        except AffuseError:
            raise
        except Exception as error:  # every kind of storage has its own errors
            raise MediaError(f"{item.path} could not be downloaded: {told(error)}") from error

    @property
    def _reads_remote(self) -> bool:
        """Whether contents must be known before a worker has fetched them: names, or consent, depend on them."""
        return self.ledger is not None or self.settings.private

    def _ask(self, number: int, item: Item, key: str) -> bool:
        self.plan.asked += 1
        transcript = None if item.transcript is None else str(item.transcript)
        return self.pool.submit(Job(key, str(item.path), transcript, item.language, number))

    # --- the thread that writes ---------------------------------------------------------------------------------------

    def work(self) -> None:
        """Analyse what is not finished, and write it part by part."""
        self.pool.work()
        reader = threading.Thread(target=self._read_content, daemon=True)
        reader.start()
        while not self.plan.complete or self.analyzed + self.failed_now + self.repeated + self.unread < self.plan.asked:
            found = self.pool.next_answer(_SOON)
            if found is not None:
                self._take(*found)
            self.buffer.flush_if_due()
            self._report()
        reader.join()

    def _take(self, job: Job, answer: Answer) -> None:
        number, item = job.number, self.source.items[job.number]
        self.bytes_done += self.sizes[number]
        key = job.key or answer.get("content", "")
        kind = answer.get("failed", "")
        reason = self._told(kind, answer["reason"]) if kind else ""
        if not key:  # it could not be fetched
            self.unread += 1
            self.plan.missing[number] = kind, reason
        elif not job.key and not self._learn(number, item, key):
            self.repeated += 1
        elif kind:
            self.failed_now += 1
            self.reasons[key] = kind, reason
            self.buffer.add_error(item.name, key, kind, reason)
        else:
            self.analyzed += 1
            self.buffer.add(answer)

    def _learn(self, number: int, item: Item, key: str) -> bool:
        """Take in the key that a worker has found; False where all about it is known already."""
        self.plan.keys[number] = key
        if item.version:
            self.contents[item.name, item.version] = key
            self.buffer.add_content(item.name, item.version, key)
        if key in self.finished or key in self.failed_earlier or key in self.plan.rows:
            return False
        self.plan.rows[key] = number
        return True

    def _told(self, kind: str, reason: str) -> str:
        """The reason of a failure as it may be written: it may quote words, and names files and people."""
        if self.settings.private or (self.settings.redact and kind not in _WORDLESS):
            return _PLAIN_REASONS.get(kind, "it could not be analysed")
        return reason

    def _report(self) -> None:
        if self.progress is None:
            return
        now = self.analyzed + self.failed_now
        seconds = time.monotonic() - self.started
        left = max(0, sum(self.sizes) - self.plan.bytes_known - self.bytes_done)
        speed = self.bytes_done / seconds
        self.progress(
            ProgressReport(
                total=len(self.source.items),
                done=self.plan.known + len(self.plan.missing) + self.repeated + now,
                failed=len(self.plan.missing) + len(self.reasons) + len(self.failed_earlier),
                earlier=self.plan.known,
                seconds=seconds,
                share=1 - left / max(1, sum(self.sizes)),
                rate=60 * now / seconds,
                seconds_left=left / speed if speed else None,
            )
        )

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> BatchResult:
        """Bring the errors up to date, merge the parts and write the summaries."""
        errors = self._errors()
        self.store.replace_errors(errors)
        if self.contents:
            self.store.replace_contents(self._current_contents())
        self.store.merge()
        keys = [self.plan.keys.get(number, "") for number in range(len(self.source.items))]
        reasons = {(row["path"], row["key"]): row["reason"] for row in errors}
        self.summaries, self.own = summarise(self.store, self.source, keys, reasons)
        return BatchResult(
            folder=self.store.folder,
            configuration=self.store.configuration,
            total=len(keys),
            analyzed=self.analyzed,
            earlier=sum(key in self.finished or key in self.failed_earlier for key in keys),
            failed=sum((item.name, key) in reasons for item, key in zip(self.source.items, keys, strict=True)),
            skipped=self.source.skipped,
            seconds=time.monotonic() - self.started,
        )

    def _current_contents(self) -> dict[tuple[str, str], str]:
        """Without older versions of the recordings of this run."""
        versions = {item.name: item.version for item in self.source.items}
        return {place: key for place, key in self.contents.items() if versions.get(place[0], place[1]) == place[1]}

    def _errors(self) -> list[dict[str, str]]:
        """One row for each recording that failed: the same content in another place fails for the same reason."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for number, item in enumerate(self.source.items):
            key = self.plan.keys.get(number, "")
            if number in self.plan.missing:
                kind, reason = self.plan.missing[number]
            elif key in self.reasons:
                kind, reason = self.reasons[key]
                reason = reason.replace(str(self.source.items[self.plan.rows[key]].path), str(item.path))
            elif key in self.failed_earlier:
                kind, reason = self.failed_earlier[key]["error"], self.failed_earlier[key]["reason"]
            else:
                continue
            found[item.name, key] = {"path": item.name, "key": key, "error": kind, "reason": reason}
        return list(found.values())


def _size(item: Item) -> int:
    if item.is_remote:
        return item.size  # as listings told
    try:
        return item.path.stat().st_size
    except OSError:
        return 0
