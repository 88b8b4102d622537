"""Formats by name: those of affuse, and those of other packages under the entry point group ``affuse.formats``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from affuse.errors import ConfigError, OutputError
from affuse.files import replacing
from affuse.registry import Registry
from affuse.report.formats.base import Format, Place
from affuse.report.page import refuse_input
from affuse.results import Analysis

__all__ = ["BUILT_IN", "DEFAULT_FORMATS", "FORMATS", "GROUP", "check_place", "formats_of", "write_as"]

GROUP = "affuse.formats"

BUILT_IN = {
    "audacity": "affuse.report.formats.audacity:AudacityLabels",
    "csv": "affuse.report.formats.tables:Csv",
    "elan": "affuse.report.formats.elan:Elan",
    "html": "affuse.report.formats.page:Page",
    "json": "affuse.report.formats.document:Document",
    "labelstudio": "affuse.report.formats.labelstudio:LabelStudio",
    "parquet": "affuse.report.formats.tables:Parquet",
    "srt": "affuse.report.formats.subtitles:SubRip",
    "textgrid": "affuse.report.formats.textgrid:TextGrid",
    "vtt": "affuse.report.formats.subtitles:WebVtt",
    "xlsx": "affuse.report.formats.excel:Excel",
}
"""Where every format of affuse is, as ``"module:class"``, by name."""

FORMATS = Registry("format", BUILT_IN, GROUP, extra="formats", normalise=str.lower)
"""The registry of all formats."""

DEFAULT_FORMATS = ("json", "csv", "parquet", "html")
"""What is written where nobody asks for other formats."""


def formats_of(names: Iterable[str]) -> list[Format]:
    """Formats by their names, each once.

    Parameters
    ----------
    names : iterable of str
        Names in `FORMATS`, in any case.

    Returns
    -------
    list of Format

    Raises
    ------
    ConfigError
        If a name is not registered, none is given, or two formats have the same suffix.
    MissingExtraError
        If a library is missing that a format needs.

    Examples
    --------
    >>> [form.suffix for form in formats_of(["vtt", "SRT", "srt"])]
    ['.emotions.vtt', '.emotions.srt']
    """
    chosen: dict[str, Any] = {FORMATS.canonical(name): FORMATS.make(name) for name in names}
    if not chosen:
        raise ConfigError(f"name at least one format; known: {', '.join(FORMATS.names())}")
    by_suffix: dict[str, str] = {}
    for name, form in chosen.items():
        other = by_suffix.setdefault(form.suffix.lower(), name)
        if other != name:
            raise ConfigError(f"the formats {other} and {name} write the same file *{form.suffix}; choose one of them")
    return list(chosen.values())


def check_place(form: Format, path: Path) -> None:
    """Raise OutputError where a file exists that the format must not replace."""
    try:
        foreign = path.exists() and not form.is_replaceable(path)
    except (OSError, ValueError) as error:
        foreign = not isinstance(error, PermissionError)
    if not foreign:
        return
    if type(form).is_replaceable is Format.is_replaceable:
        raise OutputError(f"{path} exists and may hold corrections; move it away or choose another folder")
    raise OutputError(f"{path} exists and was not written by affuse; move it away or choose another folder")


def write_as(analysis: Analysis, path: str | Path, format: str, language: str = "en") -> Path:
    """Write an analysis as one file of a format, whole or not at all.

    Parameters
    ----------
    analysis : Analysis
        What was found.
    path : str or Path
        The file; missing folders are made.
    format : str
        A name in `FORMATS`, such as "elan" or "srt".
    language : str
        "en" or "zh", of sentences in the file.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ConfigError
        If the format is not registered.
    OutputError
        If the file is the recording itself, cannot be written, or exists and may hold corrections.
    MissingExtraError
        If a library is missing that the format needs.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> analysis = Analyzer({"text": FakeExpert("text", {"happiness": 0.8})}).analyze_text("What a day!")
    >>> path = write_as(analysis, "day.txt", "audacity")
    >>> path.read_text()
    '0.000000\\t1.000000\\thappiness\\n'
    """
    (form,) = formats_of([format])
    path = Path(path)
    refuse_input(path, analysis)
    check_place(form, path)
    with replacing(path) as (part,):
        form.write(analysis, part, Place(path, language))
    return path
