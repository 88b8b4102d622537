"""From corrected files to a manifest that `affuse evaluate`, `adapt` and `train` take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from affuse.budget import budget_in_use
from affuse.data.corrections.elan import read_elan
from affuse.data.corrections.labelstudio import read_label_studio
from affuse.data.corrections.tiers import CorrectedRecording
from affuse.errors import ConfigError, DataError, OutputError
from affuse.tables import TABLE_SUFFIXES, write_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["import_corrections"]

_SUFFIXES = (".eaf", ".json")


def import_corrections(
    files: Sequence[str | Path],
    out: str | Path,
    recording: str | Path | None = None,
    tier: str = "emotion",
    fps: float | None = None,
) -> pd.DataFrame:
    """Turn labels that people corrected in ELAN or Label Studio into a manifest.

    Parameters
    ----------
    files : sequence of str or Path
        ELAN files (.eaf), folders of them, or projects that Label Studio exported as JSON. Of a task in Label Studio
        the annotation marked as ground truth counts, else the one changed last; predictions never count.
    out : str or Path
        The manifest: a CSV, TSV, Parquet or Excel table.
    recording : str or Path, optional
        The recording, where the files are about a single one, or the folder in which the recordings are found by their
        names. By default they lie where the files say, or beside them.
    tier : str
        What the tiers with the labels are called before "@", or the name of the labels in Label Studio.
    fps : float, optional
        The frameRate of Label Studio's Video tag, needed for its TimelineLabels alone.

    Returns
    -------
    pandas.DataFrame
        One row a labelled stretch: path (relative to the manifest's folder), start and end (s), label, and where there
        are some speaker and text.

    Raises
    ------
    DataError
        If a file is no such file, an annotation has no label or no length, a recording is not found, or files, labels
        or times exceed `affuse.budget.budget_in_use`.
    ConfigError
        If ``out`` is no table, or ``fps`` is not above 0.
    OutputError
        If ``out`` is one of the inputs or cannot be written.
    MissingExtraError
        If pympi-ling is not installed, which reads ELAN files.

    Examples
    --------
    >>> region = {"id": "a", "from_name": "emotion", "value": {"start": 0, "end": 2.5, "labels": ["anger"]}}
    >>> tasks = [{"id": 1, "data": {"recording": "clip.wav"}, "annotations": [{"result": [region]}]}]
    >>> import json
    >>> _ = Path("corrected.json").write_text(json.dumps(tasks))
    >>> _ = Path("clip.wav").write_bytes(b"")
    >>> import_corrections(["corrected.json"], "manifest.csv").to_dict("records")
    [{'path': 'clip.wav', 'start': 0.0, 'end': 2.5, 'label': 'anger'}]
    """
    import pandas as pd  # takes a third of a second, and --help does without

    out = Path(out)
    if out.suffix.lower() not in TABLE_SUFFIXES:
        raise ConfigError(f"the manifest must end in {', '.join(TABLE_SUFFIXES)}; got {out}")
    if fps is not None and not fps > 0:
        raise ConfigError(f"fps must be above 0; got {fps:g}")
    paths = [path for file in files for path in _files(Path(file))]
    if not paths:
        raise ConfigError("give at least one file: .eaf of ELAN or .json of Label Studio")
    found = [(path, about) for path in paths for about in _read(path, tier, fps)]
    given = None if recording is None else Path(recording)
    single = given is not None and not given.is_dir()
    if single and len(found) > 1:
        raise DataError(
            f"{given} is a single recording, but the files are about {len(found)}; give their folder instead"
        )
    rows = []
    for path, about in found:
        medium = _medium(path, about, given)
        if out.exists() and any(out.samefile(other) for other in (path, medium)):
            raise OutputError(f"{out} is one of the inputs; choose another place for the manifest")
        rows += _rows(about, medium, out)
        if why := budget_in_use().excess("max_rows", len(rows)):
            raise DataError(f"{path}: {len(rows):,} labelled stretches up to here are too many; {why}")
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: no labelled stretch in it")
    table = pd.DataFrame(rows)
    empty = [name for name in ("speaker", "text") if not table[name].any()]
    table = table.drop(columns=empty)
    write_table(table, out)
    return table


def _files(path: Path) -> list[Path]:
    """A file, or the ELAN files of a folder and of all folders in it."""
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob("*.eaf"))
    if not found:
        raise DataError(f"{path} is a folder without ELAN files (.eaf)")
    return found


def _read(path: Path, tier: str, fps: float | None) -> list[CorrectedRecording]:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(f"{path} must end in {' (ELAN) or '.join(_SUFFIXES)} (Label Studio)")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    size = path.stat().st_size
    if why := budget_in_use().excess("max_text", size):
        raise DataError(f"{path} has {size:,} bytes; {why}")
    return read_elan(path, tier) if suffix == ".eaf" else read_label_studio(path, tier, fps)


def _medium(path: Path, about: CorrectedRecording, given: Path | None) -> Path:
    """The recording that a file is about. Raises DataError where it is not found."""
    if given is not None and not given.is_dir():
        if not given.is_file():
            raise DataError(f"{given} does not exist")
        return given
    if not about.media:
        raise DataError(f"{about.where} names no recording; say where it is by --recording")
    names = [_name(medium) for medium in about.media]
    if given is None:
        stated = [place for medium in about.media for place in _stated(path.parent, medium)]
        folder = path.parent
        places = [*stated, *(folder / name for name in names)]
    else:
        folder = given
        places = [folder / name for name in names]
    for place in places:
        if place.is_file():
            return place
    shown = " or ".join(dict.fromkeys(names))
    raise DataError(f"{about.where}: its recording {shown} is not in {folder}; say where it is by --recording")


def _name(medium: str) -> str:
    return unquote(urlsplit(medium.replace("\\", "/")).path).rpartition("/")[2] or medium


def _stated(folder: Path, medium: str) -> list[Path]:
    """Where the recording lies as the file says: a path relative to it, or a ``file:`` address."""
    if medium.startswith("file:"):
        path = unquote(urlsplit(medium).path)
        return [Path(path), Path(path.lstrip("/"))]  # the second one on Windows: file:///C:/clip.mp4
    return [] if "://" in medium else [folder / medium, folder / unquote(medium)]


def _rows(about: CorrectedRecording, medium: Path, out: Path) -> list[dict[str, str | float]]:
    rows: list[dict[str, str | float]] = []
    budget = budget_in_use()
    if why := budget.excess("max_cues", len(about.annotations)):
        raise DataError(f"{about.where} has {len(about.annotations):,} labels; {why}")
    for a in about.annotations:
        if not 0 <= a.start < a.end:
            raise DataError(f"{about.where}: a label from {a.start:g} s to {a.end:g} s; it must end after it starts")
        if why := budget.excess("max_duration", a.end):
            raise DataError(f"{about.where}: a label ends at {a.end:,.0f} s; {why}")
        cell = _relative(medium, out.parent)
        times = {"start": round(a.start, 3), "end": round(a.end, 3)}
        rows.append({"path": cell, **times, "label": a.label, "speaker": a.speaker, "text": a.text})
    return rows


def _relative(medium: Path, folder: Path) -> str:
    try:
        path = Path(os.path.relpath(medium.resolve(), folder.resolve())).as_posix()
        return path if path[0].isalnum() or path.startswith("../") else f"./{path}"  # "=1.wav" is no formula
    except ValueError:  # on another drive
        return medium.resolve().as_posix()
