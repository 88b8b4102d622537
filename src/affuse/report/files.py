"""The files of results: STEM.json, STEM.csv, STEM.parquet and STEM.html, or those of other formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from affuse.files import replacing
from affuse.report.formats.base import Place
from affuse.report.formats.registry import DEFAULT_FORMATS, check_place, formats_of
from affuse.report.page import refuse_input
from affuse.results import Analysis

__all__ = ["check_results", "result_paths", "write_results"]


def write_results(
    analysis: Analysis,
    folder: str | Path,
    stem: str,
    language: str = "en",
    formats: Sequence[str] = DEFAULT_FORMATS,
) -> list[Path]:
    """Write STEM.json, STEM.csv, STEM.parquet and STEM.html into a folder, or other formats; all or none.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    folder : str or Path
        Is made where it does not exist. Earlier results of affuse are replaced, but never files of annotation tools,
        which may hold corrections.
    stem : str
        What the names of the files begin with.
    language : str
        "en" or "zh", of the page; tables and JSON are the same in every language.
    formats : sequence of str
        Names in `affuse.report.FORMATS`.

    Returns
    -------
    list of Path
        The files, in the order of ``formats``.

    Raises
    ------
    OutputError
        If the folder cannot be written, or if a file of one of these names is the recording itself, was not written by
        affuse, or may hold corrections.
    ConfigError
        If the language or a format is unknown.
    MissingExtraError
        If a library is missing that a format needs.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> [path.name for path in write_results(analysis, "out", "day")]
    ['day.json', 'day.csv', 'day.parquet', 'day.html']
    >>> [path.name for path in write_results(analysis, "out", "day", formats=["srt"])]
    ['day.emotions.srt']
    """
    chosen = formats_of(formats)
    paths = result_paths(folder, stem, formats)
    for form, path in zip(chosen, paths, strict=True):
        refuse_input(path, analysis)
        check_place(form, path)
    with replacing(*paths) as parts:
        for form, part, path in zip(chosen, parts, paths, strict=True):
            form.write(analysis, part, Place(path, language))
    return paths


def result_paths(folder: str | Path, stem: str, formats: Sequence[str] = DEFAULT_FORMATS) -> list[Path]:
    """The files that `write_results` writes."""
    return [Path(folder) / f"{stem}{form.suffix}" for form in formats_of(formats)]


def check_results(folder: str | Path, stem: str, formats: Sequence[str] = DEFAULT_FORMATS) -> None:
    """Raise OutputError where `write_results` would have to refuse: asked before an hour of work and not after it."""
    for form, path in zip(formats_of(formats), result_paths(folder, stem, formats), strict=True):
        check_place(form, path)
