"""What can be wrong with samples, found before anything starts."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unicodedata import east_asian_width

import numpy as np

from affuse.data.own.loaders import face_of_still, segment_of
from affuse.data.own.samples import DataOptions, Sample
from affuse.data.own.unchecked import RowProblem
from affuse.data.splits import SPLITS
from affuse.errors import AffuseError
from affuse.experts.face.crop import LARGEST_CROP
from affuse.experts.voice import level
from affuse.labels import LabelSpace
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Segment, Timeline
from affuse.weights import sha256_of

__all__ = ["FileReport", "check_files", "copies_of_held_out", "label_problems", "shared_speakers"]

_OVERHANG = 0.25  # seconds by which rounding may put an end behind the end of the recording
_STEP = 1.0  # seconds of sound that are judged at a time
# dB relative to full scale. Lower than what the voice expert calls silence: the softest clips of RAVDESS are at -56.
_SILENT = -70.0
_LONG_TEXT = 20  # columns; many people say "Oh my God!", and shorter texts than this are no copies of each other
_LEAST_ROWS = 2  # of a label in train: one to learn from, one to choose by


@dataclass
class FileReport:
    """What the files of samples showed: the samples (pictures that are crops are marked), problems and remarks."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_files(samples: Sequence[Sample], modality: str, options: DataOptions) -> FileReport:
    """Open every file once, and check what the modality needs of it."""
    by_path: dict[Path, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.path is not None and modality != "text":  # words are read without the recording they stem from
            by_path[sample.path].append(sample)
    report, framed = FileReport(), set[Path]()
    faceless, cut_off = list[str](), list[str]()
    for path, own in by_path.items():
        try:
            recording = Recording.open(path)
            if modality == "face":
                report.problems += _wrong_pictures(recording, own)
                if _is_crop(recording, options):
                    framed.add(path)
                elif recording.kind == "picture" and face_of_still(path) is None:
                    faceless.append(path.name)
            else:
                report.problems += _wrong_sounds(recording, own, options)
            cut_off += [path.name for note in recording.notes if "cut off" in note]
        except AffuseError as error:
            report.problems += [RowProblem(sample.where, str(error)) for sample in own]
    report.samples = [replace(sample, framed=True) if sample.path in framed else sample for sample in samples]
    if faceless:
        report.notes.append(f"pictures without a face, of which the centre is taken: {_some(faceless)}")
    if cut_off:
        report.notes.append(f"files that are cut off and are taken as far as they go: {_some(cut_off)}")
    return report


def _wrong_sounds(recording: Recording, samples: Sequence[Sample], options: DataOptions) -> Iterator[RowProblem]:
    if not recording.has_sound:
        yield from (RowProblem(sample.where, f"{recording.path} has no sound") for sample in samples)
        return
    heard: list[tuple[Segment, Sample]] = []
    for sample in samples:
        reason = _wrong_times(recording, sample)
        if not reason:
            segment = segment_of(sample, recording)
            if segment.duration >= options.min_seconds:
                heard.append((segment, sample))
                continue
            reason = (
                f"{recording.path} is too short: {segment.duration:.2f} s, at least {options.min_seconds:g} are needed"
            )
        yield RowProblem(sample.where, reason)
    for sample in _silent(recording, heard):
        yield RowProblem(sample.where, f"{recording.path} is silent (below {_SILENT:g} dB){_when(sample)}")


def _silent(recording: Recording, heard: list[tuple[Segment, Sample]]) -> list[Sample]:
    if len(heard) == 1:
        ((segment, sample),) = heard
        windows = Timeline.windows(recording.duration, _STEP, _STEP).crop(segment)
        return [] if any(_is_loud(sound) for sound in recording.sound(windows)) else [sample]
    heard.sort(key=lambda pair: pair[0])
    sounds = recording.sound(Timeline(tuple(segment for segment, _ in heard)))
    return [sample for (_, sample), sound in zip(heard, sounds, strict=True) if not _is_loud(sound)]


def _is_loud(sound: np.ndarray) -> bool:
    return len(sound) >= SAMPLE_RATE // 100 and level(sound) >= _SILENT


def _wrong_pictures(recording: Recording, samples: Sequence[Sample]) -> Iterator[RowProblem]:
    if not recording.has_frames:
        yield from (RowProblem(sample.where, f"{recording.path} has no picture") for sample in samples)
        return
    if recording.kind == "video":
        wrong = ((sample, _wrong_times(recording, sample)) for sample in samples)
        yield from (RowProblem(sample.where, reason) for sample, reason in wrong if reason)


def _is_crop(recording: Recording, options: DataOptions) -> bool:
    if options.crops is not None or recording.kind != "picture":
        return bool(options.crops)
    (frame,) = recording.frames([0.0])
    height, width = frame.image.shape[:2]
    return height == width <= LARGEST_CROP


def _wrong_times(recording: Recording, sample: Sample) -> str:
    late = next((t for t in (sample.end, sample.start) if t is not None and t > recording.duration + _OVERHANG), None)
    if late is None and sample.start is not None and sample.start >= recording.duration:
        late = sample.start
    return "" if late is None else f"{recording.path} lasts {recording.duration:.2f} s; the row goes to {late:.2f} s"


def _when(sample: Sample) -> str:
    return "" if sample.start is None else f" from {sample.start:g} s on"


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def shared_speakers(samples: Sequence[Sample]) -> list[RowProblem]:
    """Speakers who are in two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.speaker is not None:
            splits[sample.speaker].add(sample.split)
    return [
        RowProblem("", f"the speaker {speaker!r} is in {_listed(parts)}; a speaker belongs to one split")
        for speaker, parts in splits.items()
        if len(parts) > 1
    ]


def _listed(splits: set[str]) -> str:
    return " and ".join(split for split in SPLITS if split in splits)


def label_problems(samples: Sequence[Sample], labels: LabelSpace) -> list[RowProblem]:
    """Too few labels, or too few rows of one in train."""
    labelled = [sample for sample in samples if sample.label is not None]
    if not labelled:
        return []
    if len({sample.label for sample in labelled}) == 1:
        only = labels.labels[labelled[0].label or 0]
        return [RowProblem("", f"every row is labelled {only!r}; at least two labels are needed")]
    in_train = [sample for sample in labelled if sample.split == "train"]
    if not in_train:
        return [RowProblem("", "no row is in train; at least two rows of every label are needed there")]
    rows = np.sum([_voted(sample, len(labels)) for sample in in_train], axis=0)
    return [
        RowProblem("", f"the label {label!r} has too few rows in train ({n}); at least {_LEAST_ROWS} are needed")
        for label, n in zip(labels.labels, rows, strict=True)
        if n < _LEAST_ROWS
    ]


def _voted(sample: Sample, n_labels: int) -> np.ndarray:
    """Which labels (n_labels,) bool a row is an example of: those that somebody voted for, or its only one."""
    own = np.arange(n_labels) == sample.label
    return own if sample.distribution is None else own | (sample.distribution > 0)


def copies_of_held_out(samples: Sequence[Sample]) -> Mapping[str, Sample]:
    """Samples of train, by ``where``, whose content is in dev or test as well, with the held-out one."""
    paths = {s.path for s in samples if s.path is not None and s.path.is_file()}  # words need no recording
    sizes = Counter(path.stat().st_size for path in paths)
    keys = [_content(sample, sizes) for sample in samples]
    held_out = {key: sample for key, sample in zip(keys, samples, strict=True) if sample.split != "train"}
    return {
        sample.where: held_out[key]
        for key, sample in zip(keys, samples, strict=True)
        if sample.split == "train" and key in held_out
    }


def _content(sample: Sample, sizes: Mapping[int, int]) -> Hashable:
    """What two samples have in common if they are the same; files of a size of their own are not read for it."""
    if sample.pixels is not None:
        return hashlib.sha256(sample.pixels.tobytes()).digest()
    if sample.path is None or not sample.path.is_file():
        text = " ".join((sample.text or "").split()).casefold()
        return text if _width(text) >= _LONG_TEXT else sample.where
    size = sample.path.stat().st_size
    if sizes[size] == 1:
        return sample.path.resolve(), sample.start, sample.end
    return sha256_of(sample.path), sample.start, sample.end


def _width(text: str) -> int:
    """Columns that a text takes in a terminal: a Chinese character says as much as two Latin letters and more."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
