"""Experts from packages that look at a window as a whole: moving faces, and several blocks at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import cv2
import numpy as np

from affuse import weights
from affuse.errors import ConfigError
from affuse.experts.base import Abilities, ExpertOutput
from affuse.experts.face.detect import FaceDetector, checksums, default_detector
from affuse.experts.face.expert import NO_FACE, NO_PICTURE, STILL_DETAIL
from affuse.experts.face.pose import poses_of
from affuse.experts.face.stream import FaceStream, View
from affuse.experts.voice import why_not
from affuse.experts.words import NO_WORDS, NO_WORDS_HERE
from affuse.media import SAMPLE_RATE, Recording
from affuse.packages.columns import FeatureTable
from affuse.packages.experts import PackagedExpert
from affuse.packages.package import Package
from affuse.packages.tokens import Tokens
from affuse.timeline import Timeline

__all__ = ["READ", "Found", "PackagedWindows"]

READ = ("waveform", "images", "clips", "tokens", "columns")
"""Blocks that are found in recordings, or in the table beside them."""

_INPUT = {"waveform": "sound", "images": "frames", "clips": "frames", "tokens": "words", "columns": "table"}
"""What blocks are to `Abilities`."""

_PICTURE_RATE = 3.0  # samples a second, as of the shipped face expert
_MOST_PICTURES = 64  # held at once, so that memory stays bounded where a window is long
_LEAST_SEEN = 0.25  # share of a window in which a face must be seen to be judged by its movement
_NO_MOVEMENT = "no moving picture"
_NO_NUMBERS = "no numbers for this window"

_Inputs = dict[str, np.ndarray]


class Found(NamedTuple):
    """What one block holds in one window: inputs of the network with their weights, or the reason why there are none.

    Only a text that is too long for the network gives more than one.
    """

    inputs: tuple[tuple[float, _Inputs], ...] = ()
    reason: str = ""


class PackagedWindows(PackagedExpert):
    """A network that runs once a window and person, on one block or several.

    A joint network answers where some blocks are missing, of which it is told by its input "present"; without any, the
    window has no evidence. Where faces are read, there is an output a person; what else is read holds for all of them.

    Parameters
    ----------
    package : Package
        What the network is in.
    features : FeatureTable, optional
        The numbers that a block "columns" reads.
    detector : FaceDetector, optional
        As in `FaceExpert`.

    Raises
    ------
    ConfigError
        If a table is given that the network does not read.
    """

    def __init__(
        self, package: Package, features: FeatureTable | None = None, detector: FaceDetector | None = None
    ) -> None:
        super().__init__(package)
        self.reads = package.description.reads
        read = tuple(dict.fromkeys(_INPUT[block] for block in self.reads))
        self.abilities = Abilities(read, embeds=True, sees_persons="frames" in read)
        self.features = features
        self.detector = detector
        if features is not None and "columns" not in self.reads:
            raise ConfigError(f"{self.name} reads {', '.join(self.reads)}; a table of features means nothing to it")

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums of the files of the package, and of the detector where faces are read, by name."""
        return self.package.sha256 | (checksums(self._detector) if self._face_block else {})

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        """One output a person where faces are read and seen, else one for the whole scene."""
        return self._read_as(recording, timeline, "probabilities")

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Embeddings (n, d) of the first output; NaN where there is no evidence."""
        return self._read_as(recording, timeline, "embedding")[0].probabilities

    def _read_as(self, recording: Recording, timeline: Timeline, output: str) -> list[ExpertOutput]:
        """Outputs whose ``probabilities`` are the rows of one output of the network."""
        width = len(self.labels) if output == "probabilities" else weights.width(self._session)
        rows: dict[int | None, np.ndarray] = defaultdict(lambda: np.full((len(timeline), width), np.nan))
        stream, why_no_face = self._faces(recording, timeline)
        views: Iterator[View | None] = iter(stream or [None] * len(timeline))
        reasons = []
        windows = zip(views, self._scene(recording, timeline), strict=True)
        for i, (view, scene) in enumerate(windows):
            scene |= {self._face_block: Found(reason=why_no_face)} if self._face_block else {}
            reasons.append("; ".join(dict.fromkeys(f.reason for f in scene.values() if f.reason)))
            rows[None][i] = self._run(scene, output)
            for track, found in self._people_in(view):
                rows[track][i] = self._run(scene | found, output)
        return self._outputs(recording, stream, rows, reasons)

    def _outputs(
        self,
        recording: Recording,
        stream: FaceStream | None,
        rows: Mapping[int | None, np.ndarray],
        reasons: list[str],
    ) -> list[ExpertOutput]:
        notes = self._notes(recording)
        people = stream.people() if stream else {}
        outputs = []
        for number, (index, track) in enumerate(people.items(), start=1):
            # Where a person is not seen, what else is there still speaks.
            own = np.where(np.isnan(rows[index]), rows[None], rows[index])
            assert stream is not None  # where nobody watches, nobody is seen
            times, boxes, landmarks = stream.places(track)
            seen = ExpertOutput(own, (), times=times, boxes=boxes, landmarks=landmarks, poses=poses_of(track))
            outputs.append(replace(seen, person=f"person {number}", notes=notes))
        outputs = outputs or [ExpertOutput(rows[None], (), notes=notes)]
        return [replace(output, reasons=_where_silent(output.probabilities, reasons)) for output in outputs]

    def _notes(self, recording: Recording) -> tuple[str, ...]:
        if "columns" not in self.reads:
            return ()
        if self.features is None:
            return (f"{self.name} also reads numbers from a table of features, and none was given",)
        if not self.features.names(recording.name):
            return (
                f"{self.features.source} has no row for {recording.name} (its first is for {self.features.example}), "
                f"so that {self.name} did without it",
            )
        return ()

    # --- blocks -------------------------------------------------------------------------------------------------------

    @cached_property
    def _face_block(self) -> str | None:
        return next((block for block in self.reads if block in ("images", "clips")), None)

    @cached_property
    def _detector(self) -> FaceDetector:
        return self.detector or default_detector()

    @cached_property
    def _still_detector(self) -> FaceDetector:
        return self.detector or default_detector(STILL_DETAIL)

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens.of(self.package)

    def _faces(self, recording: Recording, timeline: Timeline) -> tuple[FaceStream | None, str]:
        """The faces, where there are any to look for, and why a window lacks them."""
        if not recording.has_frames:
            return None, NO_PICTURE
        if self._face_block is None:
            return None, ""
        if self._face_block == "images":
            rate = min(_PICTURE_RATE, _MOST_PICTURES / timeline[0].duration)
            still = recording.kind == "picture"
            return FaceStream(recording, timeline, rate, self._still_detector if still else self._detector), NO_FACE
        if recording.kind == "picture":
            return None, _NO_MOVEMENT
        rate = self._shape("clips")["frames"] / timeline[0].duration
        return FaceStream(recording, timeline, rate, self._detector), NO_FACE

    def _people_in(self, view: View | None) -> Iterator[tuple[int, dict[str, Found]]]:
        """Number of every track that is seen in a window, and its face as the network reads it."""
        if view is not None and self._face_block is not None:
            for track in view.tracks:
                yield track, {self._face_block: self._face(view, track)}

    def _face(self, view: View, track: int) -> Found:
        shape = self._shape(str(self._face_block))
        if self._face_block == "clips":
            if view.seen(track) < _LEAST_SEEN:
                return Found(reason=NO_FACE)
            clip = view.clip(track, shape["frames"], shape["size"])
            return _one(clips=clip.transpose(3, 0, 1, 2)[None].astype(np.float32))
        crop = view.middle(track, shape["size"])
        planes = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[None] if shape["channels"] == 1 else crop.transpose(2, 0, 1)
        return _one(images=planes[None].astype(np.float32))

    def _scene(self, recording: Recording, timeline: Timeline) -> Iterator[dict[str, Found]]:
        """What every window holds, whoever is in it."""
        readers: dict[str, Callable[[Recording, Timeline], Iterator[Found]]] = {
            "waveform": _sound,
            "tokens": self._words,
            "columns": self._numbers,
        }
        found = {block: readers[block](recording, timeline) for block in self.reads if block in readers}
        for _ in timeline:
            yield {block: next(windows) for block, windows in found.items()}

    def _words(self, recording: Recording, timeline: Timeline) -> Iterator[Found]:
        shared = timeline.overlaps([cue.segment for cue in recording.cues])
        for row in shared:
            text = " ".join(cue.text for cue, seconds in zip(recording.cues, row, strict=True) if seconds > 0)
            parts = self._tokens.parts(text)
            inputs = tuple((float(p.length), {"ids": p.ids, "mask": np.ones_like(p.ids)}) for p in parts)
            yield Found(inputs, "" if parts else NO_WORDS_HERE if recording.cues else NO_WORDS)

    def _numbers(self, recording: Recording, timeline: Timeline) -> Iterator[Found]:
        names = self._shape("columns")["names"]
        if self.features is None:
            values = np.full((len(timeline), len(names)), np.nan)
        else:
            values = self.features.windows(recording.name, timeline, names)
        for row in values:
            # Single gaps go to the network, which knows what is average; a row of gaps is no evidence.
            yield Found(reason=_NO_NUMBERS) if np.isnan(row).all() else _one(columns=row[None].astype(np.float32))

    def _shape(self, block: str) -> Mapping[str, Any]:
        return self.package.description.inputs[block]

    def _run(self, found: Mapping[str, Found], output: str) -> np.ndarray | float:
        """The network's row about what was found; NaN where nothing was."""
        present = np.array([[float(bool(found[block].inputs)) for block in self.reads]], dtype=np.float32)
        if not present.any():
            return np.nan
        told = {"present": present} if self.package.description.kind == "joint" else {}
        answers, shares = [], []
        for options in product(*(found[block].inputs or ((1.0, self._stand_in(block)),) for block in self.reads)):
            inputs = told | {name: value for _, part in options for name, value in part.items()}
            answers.append(self.package.run(output, **inputs)[0])
            shares.append(float(np.prod([weight for weight, _ in options])))
        return np.asarray(np.average(answers, axis=0, weights=shares))

    def _stand_in(self, block: str) -> _Inputs:
        """Inputs of the right shape for a block that is not there; "present" keeps them from the answer."""
        if block == "tokens":
            return {"ids": np.zeros((1, 1), dtype=np.int64), "mask": np.ones((1, 1), dtype=np.int64)}
        shape = self.package.description.inputs.get(block, {})
        size: tuple[int, ...] = {
            "waveform": (SAMPLE_RATE,),
            "images": (shape.get("channels", 1), shape.get("size", 1), shape.get("size", 1)),
            "clips": (3, shape.get("frames", 1), shape.get("size", 1), shape.get("size", 1)),
            "columns": (len(shape.get("names", ())),),
        }[block]
        return {block: np.zeros((1, *size), dtype=np.float32)}


def _one(**inputs: np.ndarray) -> Found:
    return Found(((1.0, inputs),))


def _sound(recording: Recording, timeline: Timeline) -> Iterator[Found]:
    for samples in recording.sound(timeline):
        reason = why_not(samples)
        yield Found(reason=reason) if reason else _one(waveform=samples[None].astype(np.float32))


def _where_silent(rows: np.ndarray, reasons: list[str]) -> tuple[str, ...]:
    """The reasons of the windows without an answer; empty for the others."""
    return tuple(reason if silent else "" for reason, silent in zip(reasons, np.isnan(rows).any(axis=1), strict=True))
