"""Folders of files that are labelled by the names of folders or files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from affuse.data.own.samples import DataOptions, Sample
from affuse.data.own.unchecked import RowProblem, UncheckedData
from affuse.data.splits import find_split
from affuse.errors import DataError, TranscriptError
from affuse.labels import recognise
from affuse.media import Recording

__all__ = ["read_folder"]

_SOUND = [".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff", ".amr", ".au"]
_VIDEO = [".mp4", ".mov", ".mkv", ".avi", ".mpg", ".mpeg", ".webm", ".m4v", ".3gp", ".flv", ".wmv"]
_PICTURE = [".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm", ".avif"]
_SUFFIXES = {
    "voice": (*_SOUND, *_VIDEO),
    "face": (*_PICTURE, *_VIDEO),
    "text": (".txt",),
    "joint": (*_SOUND, *_VIDEO),
}
_KINDS = {"voice": "sound or video", "face": "picture or video", "text": "text", "joint": "sound or video"}

# "speaker_03", "Actor 7", "spk12" anywhere in a name; the short "s3" and "p12" only between separators.
_SPEAKER = re.compile(
    r"(?<![a-z])(?:(?:speaker|spk|actor|subject|subj|participant|person|proband|sprecher)[ _-]?\d+"
    r"|[sp]\d{1,4}(?![a-z0-9]))",
    re.IGNORECASE,
)
_LEAST_SPEAKERS = 3  # other folders are taken for speakers from this many on: a folder or two say "raw" or "clean"


def read_folder(folder: Path, modality: str, options: DataOptions) -> UncheckedData:
    """Read the files of a folder and what is under it; labels are subfolders or, failing these, words of file names.

    A level of folders named train, dev or test gives the splits. Raises DataError where there are no such files or
    nothing in their names can be a label.
    """
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(folder)))
    paths = [p for p in found if p.suffix.lower() in _SUFFIXES[modality]]
    if not paths:
        raise DataError(f"{folder} holds no {_KINDS[modality]} files ({', '.join(_SUFFIXES[modality])})")
    data = UncheckedData(folder.resolve().name)
    kinds = Counter(p.suffix.lower() or p.name for p in found if p.suffix.lower() not in _SUFFIXES[modality])
    if kinds:
        data.notes.append(f"files of other kinds were left alone: {', '.join(f'{n} {k}' for k, n in kinds.items())}")
    names = [_Name.of(path.relative_to(folder)) for path in paths]
    depth = _depth_of_emotions(names)
    in_files = depth is None and any(_words(name.stem) for name in names)
    if depth is None and not in_files and options.unlabelled == "refuse":
        depth = _depth_of_other_labels(names)
    if depth is None and not in_files and options.unlabelled == "refuse":
        raise DataError(
            f"{folder}: no folder and no file name tells a label; put the files into a folder a label "
            "(angry/clip.wav), name emotions in file names, or list the files in a table"
        )
    for path, name in zip(paths, names, strict=True):
        _add(data, path, name, depth, modality)
    _speakers_from_folders(data, names, depth)
    return data


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


@dataclass(frozen=True)
class _Name:
    """A file's place under its root: the folder that names a split, the other folders and the name without suffix."""

    split: str
    folders: tuple[str, ...]
    stem: str

    @classmethod
    def of(cls, path: Path) -> _Name:
        splits = [find_split(part) for part in path.parts[:-1]]
        others = tuple(part for part, split in zip(path.parts[:-1], splits, strict=True) if split is None)
        return cls(next((split for split in splits if split), ""), others, path.stem)


def _depth_of_emotions(names: Sequence[_Name]) -> int | None:
    """The level of folders that names most different emotions."""
    found: dict[int, list[str]] = defaultdict(list)
    for name in names:
        for depth, part in enumerate(name.folders):
            if label := recognise(_label(part)):
                found[depth].append(label)
    return max(found, key=lambda depth: (len(set(found[depth])), len(found[depth])), default=None)


def _depth_of_other_labels(names: Sequence[_Name]) -> int | None:
    """The last level of folders that all files have, if there are several of them and they are no speakers."""
    last = min(len(name.folders) for name in names) - 1
    labels = {name.folders[last] for name in names if last >= 0}
    return last if len(labels) > 1 and not all(_SPEAKER.fullmatch(label) for label in labels) else None


def _label(folder: str) -> str:
    """The one emotion that a folder's name tells ("OAF_angry"), or the name itself."""
    words = _words(folder)
    return words[0] if len(words) == 1 else folder


def _words(name: str) -> list[str]:
    """The words in a name that name different emotions."""
    found = {recognise(word): word for word in re.findall(r"[^\W\d_]+", name) if recognise(word)}
    return list(found.values())


def _add(data: UncheckedData, path: Path, name: _Name, depth: int | None, modality: str) -> None:
    where = str(path)
    words = _words(name.stem) if depth is None else [_label(part) for part in name.folders[depth : depth + 1]]
    if len(words) > 1:
        data.problems.append(RowProblem(where, f"the file name names {len(words)} labels: {', '.join(words)}"))
    if modality == "text":
        sample = Sample(where, text=_text(path, data), split=name.split, speaker=_speaker(name, depth))
    else:
        sample = Sample(where, path, split=name.split, speaker=_speaker(name, depth))
    data.samples.append(sample)
    data.words.append(words[0] if words else "")


def _text(path: Path, data: UncheckedData) -> str | None:
    if path.stat().st_size == 0:
        return None
    try:
        return " ".join(cue.text for cue in Recording.open(path).cues)
    except TranscriptError as error:
        data.problems.append(RowProblem(str(path), str(error)))
        return None


def _speaker(name: _Name, depth: int | None) -> str | None:
    parts = (name.stem, *(part for i, part in enumerate(name.folders) if i != depth))
    matches = (_SPEAKER.search(part) for part in parts)
    return next((match.group().casefold() for match in matches if match), None)


def _speakers_from_folders(data: UncheckedData, names: Sequence[_Name], depth: int | None) -> None:
    """Say where speakers come from; where no name tells them, folders beside those of the labels are speakers."""
    if speakers := {sample.speaker for sample in data.samples if sample.speaker}:
        data.notes.append(f"{len(speakers)} speakers were read from names: {_some(speakers)}")
        return
    others = ["/".join(part for i, part in enumerate(name.folders) if i != depth) for name in names]
    if len(set(others)) >= _LEAST_SPEAKERS and all(others):
        data.samples = [replace(sample, speaker=other) for sample, other in zip(data.samples, others, strict=True)]
        data.notes.append(f"{len(set(others))} folders were taken for speakers: {_some(others)}")


def _some(names: Iterable[str]) -> str:
    distinct = sorted(set(names))
    return ", ".join(distinct[:3]) + (", …" if len(distinct) > 3 else "")
