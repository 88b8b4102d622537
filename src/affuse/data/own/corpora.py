"""The known corpora as people's own data, in the splits that their readers define."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from affuse.data.corpora import SPLITS, Dataset, load
from affuse.data.own.samples import Sample
from affuse.data.own.unchecked import UncheckedData
from affuse.errors import DataError
from affuse.tables import read_table

__all__ = ["read_corpus"]

_BROKEN = (OSError, ValueError, LookupError, EOFError, BadZipFile, zlib.error)  # what readers meet in damaged files
_FACE_UNITS = "face_action_units.csv"


def read_corpus(name: str, folder: Path, modality: str) -> UncheckedData:
    """Read all splits of a corpus that lie in ``folder``; RAVDESS for a joint model has action units besides its voice.

    Raises DataError where none is there or the corpus has another modality.
    """
    parts, missing = _parts(name, folder)
    own = parts["train"].modality if "train" in parts else next(iter(parts.values())).modality
    if modality not in (own, "joint") or (modality == "joint" and own != "voice"):
        raise DataError(f"{name} is data for the modality {own}, not {modality}")
    labels = next(iter(parts.values())).labels
    notes = [f"{name} has no {split} split here: {why}" for split, why in missing]
    data = UncheckedData(name, labels=labels, notes=notes)
    for split, dataset in parts.items():
        data.samples += _samples(dataset, split, _speakers(parts, split))
    if modality == "joint":
        _join_columns(data, folder)
    return data


def _parts(name: str, folder: Path) -> tuple[dict[str, Dataset], list[tuple[str, DataError]]]:
    parts, missing = {}, []
    for split in SPLITS:
        try:
            parts[split] = load(name, folder, split)
        except DataError as error:
            missing.append((split, error))
        except _BROKEN as error:
            reason = str(error) or type(error).__name__
            raise DataError(f"the {split} part of {name} in {folder} is damaged: {reason}") from error
    if not parts:
        raise missing[0][1]
    return parts, missing


def _speakers(parts: dict[str, Dataset], split: str) -> Sequence[str | None]:
    """Groups as names; none where every row is its own. Numbers that begin anew in every split carry its name."""
    groups = [str(group) for group in parts[split].groups]
    if len(set(groups)) == len(groups):
        return [None] * len(groups)
    others = {str(group) for other, part in parts.items() if other != split for group in part.groups}
    return [f"{split}/{group}" for group in groups] if others & set(groups) else groups


def _samples(dataset: Dataset, split: str, speakers: Iterable[str | None]) -> Iterable[Sample]:
    votes = [None] * len(dataset) if dataset.votes is None else dataset.votes
    for i, (item, target, speaker, vote) in enumerate(
        zip(dataset.inputs, dataset.targets, speakers, votes, strict=True)
    ):
        sample = Sample(
            f"{dataset.name} {split}, row {i + 1}", label=int(target), distribution=vote, speaker=speaker, split=split
        )
        if isinstance(item, Path):
            yield replace(sample, where=str(item), path=item)
        elif isinstance(item, str):
            yield replace(sample, text=item)
        else:
            yield replace(sample, pixels=item, framed=True)


def _join_columns(data: UncheckedData, folder: Path) -> None:
    """Add the action units of a clip's video (01-01-…) to its sound (03-01-…)."""
    path = next((p for p in (folder / _FACE_UNITS, folder / data.name / _FACE_UNITS) if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder} holds no {_FACE_UNITS}; a joint model needs features beside the voice")
    table = read_table(path, ["name"])
    data.column_names = tuple(name for name in table.columns if re.fullmatch(r"AU\d\d_[rc]", name))
    values = table[list(data.column_names)].astype(float).to_numpy()
    by_clip = {name.partition("-")[2]: row for name, row in zip(table["name"], values, strict=True)}
    unknown = np.full(len(data.column_names), np.nan)
    clips = [sample.path.stem.partition("-")[2] for sample in data.samples if sample.path is not None]
    data.samples = [
        replace(sample, columns=by_clip.get(clip, unknown)) for sample, clip in zip(data.samples, clips, strict=True)
    ]
    if lacking := sum(clip not in by_clip for clip in clips):
        data.notes.append(f"{path.name} has no row for {lacking} of {len(clips)} clips; their columns are missing")
