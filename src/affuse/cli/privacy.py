"""``--redact`` and ``--private``: what analyze and batch hide of a recording in all that they write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.errors import AffuseError, ConfigError, MediaError, TranscriptError

if TYPE_CHECKING:
    from affuse.media import Budget
    from affuse.results import Analysis

__all__ = ["Private", "Redact", "check_hiding", "content_names", "hidden", "told"]

Redact = Annotated[
    bool,
    typer.Option(
        "--redact", help="Blur faces, leave out the sound and hide words and names of speakers in all that is written."
    ),
]
Private = Annotated[
    bool,
    typer.Option(
        "--private",
        help="Write numbers alone: no pictures, words, names or paths; a recording is called by the hash of its "
        "content.",
    ),
]

_NUMBERS = ("json", "csv", "parquet", "xlsx", "html")
"""Formats of a private analysis; all others show words or are read beside the recording."""

_SHOWING = frozenset(("html", "elan", "labelstudio"))
"""Formats that show the recording, or name the file of it."""

Deliver = Callable[["Analysis", Path], None]


def check_hiding(redact: bool, private: bool, formats: Sequence[str] = ()) -> None:
    """Raise ConfigError where --redact, --private and the formats contradict each other."""
    if redact and private:
        raise ConfigError("give either --redact or --private: of a private analysis nothing is left to redact")
    wrong = [name for name in formats if name.lower() not in _NUMBERS] if private else []
    if wrong:
        raise ConfigError(
            f"--private writes numbers alone; leave out the format {wrong[0]} and use some of {', '.join(_NUMBERS)}"
        )


def content_names(files: Sequence[tuple[Path, Path | None]]) -> list[Path]:
    """Names for the results of recordings with their transcripts that say nothing of their files: content hashes."""
    from affuse.batch.sources import Item, content_key

    names = []
    for number, (path, transcript) in enumerate(files, start=1):
        try:
            names.append(Path(content_key(Item("", path, transcript))))
        except MediaError:  # said again, and better, when it is opened
            names.append(Path(f"unreadable-{number}"))
    return names


def told(failures: Sequence[AffuseError], redact: bool, private: bool) -> Sequence[AffuseError]:
    """The failures that may be written: their sentences name files, and those about transcripts quote words."""
    if private:
        return ()
    return [failure for failure in failures if not (redact and isinstance(failure, TranscriptError))]


def hidden(
    deliver: Deliver,
    redact: bool,
    private: bool,
    out: Path | None,
    report: Path | None,
    formats: Sequence[str],
    budget: Budget,
) -> Deliver:
    """A function that delivers what may be shown of an analysis."""
    if redact:
        return partial(_deliver_redacted, deliver, out, report, formats, budget)
    return partial(_deliver_private, deliver, report) if private else deliver


def _deliver_redacted(
    deliver: Deliver,
    out: Path | None,
    report: Path | None,
    formats: Sequence[str],
    budget: Budget,
    analysis: Analysis,
    stem: Path,
) -> None:
    from affuse.report.files import result_paths
    from affuse.report.page import refuse_input
    from affuse.report.redaction import redacting

    written = [] if out is None else result_paths((out / stem).parent, stem.name, formats)
    for path in (*written, *([] if report is None else [report])):
        refuse_input(path, analysis)  # asked here, since the redacted analysis knows nothing but the copy
    place = report.with_name(report.stem) if report is not None else None
    if out is not None and {name.lower() for name in formats} & _SHOWING:
        place = out / stem
    with redacting(analysis, place, budget) as shown:
        deliver(shown, stem)


def _deliver_private(deliver: Deliver, report: Path | None, analysis: Analysis, stem: Path) -> None:
    from affuse.report.page import refuse_input
    from affuse.report.redaction import without_identity

    if report is not None:
        refuse_input(report, analysis)
    deliver(without_identity(analysis, stem.name), stem)
