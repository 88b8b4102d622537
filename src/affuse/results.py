"""The answer of affuse: verdicts over time with the evidence behind them, and how they become tables and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.labels import EKMAN, LabelSpace
from affuse.people.turns import Turn
from affuse.registry import Registry
from affuse.timeline import Segment

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EARLIER_SCHEMAS", "SCHEMA_ID", "Analysis", "Cue", "Evidence", "Head", "Person", "Source", "Verdict"]

SCHEMA_ID = "affuse/analysis/2"
"""Version of the JSON of an analysis."""

EARLIER_SCHEMAS = ("affuse/analysis/1",)
"""Versions whose documents are valid under the schema as well."""

# Probabilities leave affuse with this many decimals, so that the last bits of a sum never show up as a difference.
_DECIMALS = 6
# What a notebook shows; by name, since `report` is loaded only where somebody looks.
_VIEWS = Registry(
    "view", {"html": "affuse.report.notebook:as_html", "png": "affuse.report.notebook:as_png"}, extra="plot"
)

_HEAD = ("yaw", "pitch", "roll", "towards_camera")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one modality says in one window, or why it says nothing.

    Parameters
    ----------
    probabilities : array of shape (k,), optional
        Over the labels of the analysis; None where there is no evidence.
    reason : str
        Why there is none; empty exactly where there are probabilities.
    share : float, optional
        The modality's Shapley share in the fused answer, with its sign: the shares of an answer add up to the gain in
        the log-odds of its label over the prior. None where the modality is absent. An expert that judges sentiment
        only has a share without probabilities.
    points : float, optional
        The same share in the probability of the label: those of an answer add up to its probability over that of the
        prior.
    valence, arousal : float, optional
        How pleasant and how active it is, -1…1: as the expert rates it, else as its emotions imply
        (`affuse.fusion.affect`). None where there are no probabilities, or where own labels mean no emotions.

    Examples
    --------
    >>> Evidence(None, "silence").reason
    'silence'
    """

    probabilities: np.ndarray | None
    reason: str = ""
    share: float | None = None
    points: float | None = None
    valence: float | None = None
    arousal: float | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Where the head of a person is directed: the head, not the eyes, and rough (`affuse.experts.face.pose`).

    Parameters
    ----------
    yaw, pitch, roll : float
        Medians over the pictures in degrees, relative to the line of sight to the face: positive where the nose points
        to the right as seen, where it points up, and where the head is tilted clockwise as seen.
    towards_camera : float
        Share of the pictures in which yaw and pitch are within 20 degrees, 0…1. Pictures without a face do not count.

    Examples
    --------
    >>> Head(yaw=25.0, pitch=-3.0, roll=0.5, towards_camera=0.25).towards_camera
    0.25
    """

    yaw: float
    pitch: float
    roll: float
    towards_camera: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fused answer for one person and one stretch of time.

    Parameters
    ----------
    segment : Segment
        The stretch of time.
    person : str, optional
        Who it is about; None where nobody is told apart.
    evidence : mapping of str to Evidence
        By modality.
    fused : array of shape (k,), optional
        Over the labels of the analysis; None, like ``label`` and ``confidence``, where no modality has evidence.
    label : str, optional
        The most probable label.
    confidence : float, optional
        Its probability.
    sentiment : float, optional
        -1 (negative) to 1; also where an expert judges nothing but sentiment. None where nobody judges it and the
        labels imply none.
    conflict : float, optional
        Jensen-Shannon divergence between the modalities, 0…1; None with fewer than two.
    conflict_text : str
        Who disagrees with whom; empty where the conflict is unremarkable.
    prior : float, optional
        Log-odds of the label before anything was seen: together with the shares of the modalities they add up to the
        log-odds of the answer.
    speaking : float, optional
        How probable it is that the voice and the words of the window are those of the person, 0…1; 0 where others are
        heard, or nobody. None where nothing tells, and voice and words count for everybody.
    valence, arousal : float, optional
        How pleasant and how active what is expressed is, -1…1; None as in `Evidence`.
    head : Head, optional
        Where the head is directed; None where the person is not seen, or the detector of faces finds no landmarks.

    Examples
    --------
    >>> silent = Verdict(Segment(0.0, 3.0), None, {"voice": Evidence(None, "silence")}, None, None, None, None)
    >>> silent.to_dict()["evidence"]["voice"]["reason"]
    'silence'
    """

    segment: Segment
    person: str | None
    evidence: Mapping[str, Evidence]
    fused: np.ndarray | None
    label: str | None
    confidence: float | None
    sentiment: float | None
    conflict: float | None = None
    conflict_text: str = ""
    prior: float | None = None
    speaking: float | None = None
    valence: float | None = None
    arousal: float | None = None
    head: Head | None = None

    def to_dict(self, labels: LabelSpace = EKMAN) -> dict[str, Any]:
        """The verdict as plain dicts and numbers, as it stands in the JSON of an analysis.

        Parameters
        ----------
        labels : LabelSpace
            Names of the columns of ``fused``: the `Analysis.labels` of its analysis.

        Returns
        -------
        dict
        """
        return {
            "start": _rounded(self.segment.start),
            "end": _rounded(self.segment.end),
            "person": self.person,
            "label": self.label,
            "confidence": _rounded(self.confidence),
            "sentiment": _rounded(self.sentiment),
            "valence": _rounded(self.valence),
            "arousal": _rounded(self.arousal),
            "conflict": _rounded(self.conflict),
            "conflict_text": self.conflict_text,
            "prior": _rounded(self.prior),
            "speaking": _rounded(self.speaking),
            "head": None if self.head is None else _head(self.head),
            "fused": _mapping(self.fused, labels),
            "evidence": {
                name: {
                    "probabilities": _mapping(e.probabilities, labels),
                    "reason": e.reason,
                    "share": _rounded(e.share),
                    "points": _rounded(e.points),
                    "valence": _rounded(e.valence),
                    "arousal": _rounded(e.arousal),
                }
                for name, e in self.evidence.items()
            },
        }


@dataclass(frozen=True)
class Cue:
    """Words with their time, and the language that they were read in.

    Parameters
    ----------
    segment : Segment
        When they are said.
    text : str
        The words.
    language : str, optional
        Code such as "en"; None where it is not supported.
    speaker : str, optional
        Who says them, where the transcript tells.
    label, confidence, sentiment : optional
        The answer to these words by themselves, as in a `Verdict`: emotion, its probability, and sentiment (-1…1).

    Examples
    --------
    >>> Cue(Segment(0.5, 2.0), "Hello.", "en").language
    'en'
    """

    segment: Segment
    text: str
    language: str | None
    speaker: str | None = None
    label: str | None = None
    confidence: float | None = None
    sentiment: float | None = None


@dataclass(frozen=True)
class Person:
    """Somebody who is seen or heard: a face followed through time.

    Parameters
    ----------
    id : str
        How answers call the person.
    times : array of shape (m,)
        Seconds at which the face is seen; none where somebody is only heard.
    boxes : array of shape (m, 4)
        x, y, width and height at these times, as fractions of the picture; NaN where none is kept.

    Examples
    --------
    >>> Person("person 1", np.array([0.0]), np.array([[0.1, 0.2, 0.3, 0.4]])).id
    'person 1'
    """

    id: str
    times: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class Source:
    """What was analysed.

    Parameters
    ----------
    name : str
        Name of the file.
    path : Path, optional
        The file; None for bare text.
    duration : float
        Seconds; 0 for a picture or a text.
    kind : str
        "video", "audio", "picture" or "text".
    sha256 : str, optional
        Checksum of the file in hexadecimal; None for bare text, and where it is not to be told.

    Examples
    --------
    >>> Source("clip.mp4", None, 6.0, "video").kind
    'video'
    """

    name: str
    path: Path | None
    duration: float
    kind: str
    sha256: str | None = None


@dataclass(frozen=True)
class Analysis:
    """Everything that affuse found in one recording.

    Parameters
    ----------
    source : Source
        What was analysed.
    verdicts : sequence of Verdict
        One a window and person, in order of time.
    summaries : sequence of Verdict
        One a person for the whole recording, the person seen most first.
    persons : sequence of Person
        Faces that were followed.
    cues : sequence of Cue
        The words.
    modalities : sequence of str
        Names of the modalities, in the order of the experts.
    settings : mapping
        Window, hop, experts with the checksums of their weights, and the fuser.
    notes : sequence of str
        What a reader should know, one sentence each.
    labels : LabelSpace
        Names of the columns of all probabilities: `EKMAN`, or the own labels of the experts.
    turns : sequence of Turn
        Who speaks when, where something tells.

    Examples
    --------
    >>> from affuse import analyze
    >>> from affuse.testing import FakeExpert
    >>> analysis = analyze(text="Hello.", experts={"text": FakeExpert("text", {"happiness": 0.9})})
    >>> analysis.summary.label, len(analysis.verdicts)
    ('happiness', 1)
    >>> analysis.to_frame()[["start", "end", "label"]]
       start  end      label
    0    0.0  1.0  happiness
    """

    source: Source
    verdicts: Sequence[Verdict]
    summaries: Sequence[Verdict]
    persons: Sequence[Person]
    cues: Sequence[Cue]
    modalities: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    labels: LabelSpace = EKMAN
    turns: Sequence[Turn] = ()

    @property
    def summary(self) -> Verdict:
        """The answer for the whole recording (for the person seen most, where there are several)."""
        return self.summaries[0]

    def to_frame(self) -> pd.DataFrame:
        """The answers as a table.

        Returns
        -------
        pandas.DataFrame
            One row a window and person: start, end, person, face_anger, …, fused_neutral, label, conflict…
        """
        import pandas as pd  # takes a third of a second, and JSON needs none of it

        # Rows of Python numbers take ten times the space of a table's, so they are made one by one.
        first = {} if not self.verdicts else self._row(self.verdicts[0])
        in_words = ("person", "label", "conflict_text", *(f"{m}_reason" for m in self.modalities))
        words: dict[str, list[Any]] = {name: [] for name in first if name in in_words}
        numeric = [name for name in first if name not in words]
        numbers = np.empty((len(numeric), len(self.verdicts)))
        for i, verdict in enumerate(self.verdicts):
            row = self._row(verdict)
            numbers[:, i] = [row[name] for name in numeric]  # None becomes NaN
            for name, column in words.items():
                column.append(row[name])
        columns = words | dict(zip(numeric, numbers, strict=True))
        return pd.DataFrame({name: columns[name] for name in first})

    def _row(self, verdict: Verdict) -> dict[str, Any]:
        row: dict[str, Any] = {
            "start": round(verdict.segment.start, _DECIMALS),
            "end": round(verdict.segment.end, _DECIMALS),
            "person": verdict.person,
        }
        for modality in self.modalities:
            row |= _columns(modality, verdict.evidence[modality].probabilities, self.labels)
        row |= _columns("fused", verdict.fused, self.labels)
        row |= {
            "label": verdict.label,
            "confidence": _rounded(verdict.confidence),
            "sentiment": _rounded(verdict.sentiment),
            "valence": _rounded(verdict.valence),
            "arousal": _rounded(verdict.arousal),
            "conflict": _rounded(verdict.conflict),
            "conflict_text": verdict.conflict_text,
            "speaking": _rounded(verdict.speaking),
            **{f"head_{name}": value for name, value in _head(verdict.head).items()},
        }
        for modality in self.modalities:
            evidence = verdict.evidence[modality]
            row |= {
                f"{modality}_valence": _rounded(evidence.valence),
                f"{modality}_arousal": _rounded(evidence.arousal),
                f"{modality}_share": _rounded(evidence.share),
                f"{modality}_reason": evidence.reason,
            }
        return row

    def to_dict(self) -> dict[str, Any]:
        """The analysis as plain lists, dicts and numbers, valid under the published schema (`affuse.report.schema`).

        Returns
        -------
        dict
        """
        return self.header() | {"windows": list(self.windows())}

    def header(self) -> dict[str, Any]:
        """What `to_dict` holds besides the windows.

        Returns
        -------
        dict
        """
        return {
            "schema": SCHEMA_ID,
            "source": {
                "name": self.source.name,
                "kind": self.source.kind,
                "duration": round(self.source.duration, _DECIMALS),
                "sha256": self.source.sha256,
            },
            "labels": list(self.labels.labels),
            "modalities": list(self.modalities),
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "persons": [_person(p) for p in self.persons],
            "turns": [
                {
                    "start": _rounded(t.segment.start),
                    "end": _rounded(t.segment.end),
                    "speaker": t.speaker,
                    "probability": _rounded(t.probability),
                }
                for t in self.turns
            ],
            "cues": [
                {
                    "start": round(c.segment.start, _DECIMALS),
                    "end": round(c.segment.end, _DECIMALS),
                    "text": c.text,
                    "language": c.language,
                    "speaker": c.speaker,
                    "label": c.label,
                    "confidence": _rounded(c.confidence),
                    "sentiment": _rounded(c.sentiment),
                }
                for c in self.cues
            ],
            "summary": [v.to_dict(self.labels) for v in self.summaries],
        }

    def windows(self) -> Iterator[dict[str, Any]]:
        """The windows of `to_dict` one by one: all at once they take ten times the memory of the verdicts.

        Yields
        ------
        dict
        """
        return (verdict.to_dict(self.labels) for verdict in self.verdicts)

    def to_json(self, indent: int | None = None) -> str:
        """The analysis as JSON; the same input gives the same text.

        Parameters
        ----------
        indent : int, optional
            Spaces of indentation; one line where None.

        Returns
        -------
        str
        """
        return "".join(self.json_pieces(indent))

    def json_pieces(self, indent: int | None = None) -> Iterator[str]:
        """The text of `to_json` in pieces, for writing a long recording.

        Parameters
        ----------
        indent : int, optional
            As in `to_json`.

        Yields
        ------
        str
        """
        encode = json.JSONEncoder(ensure_ascii=False, indent=indent, allow_nan=False).encode
        gap = ", " if indent is None else ",\n" + 2 * indent * " "
        empty = encode(self.header() | {"windows": []})
        yield empty.removesuffix("[]}" if indent is None else "[]\n}")
        yield "[" if indent is None or not self.verdicts else "[\n" + 2 * indent * " "
        for number, window in enumerate(self.windows()):
            text = encode(window)
            yield (gap if number else "") + (text if indent is None else text.replace("\n", "\n" + 2 * indent * " "))
        yield "]}" if indent is None or not self.verdicts else "\n" + indent * " " + "]\n}"

    def _repr_html_(self) -> str:
        """What Jupyter shows: the answer, and the emotions of everybody over time."""
        return _VIEWS.find("html")(self)

    def _repr_png_(self) -> bytes | None:
        """The same as a picture, for notebooks that become PDF."""
        return _VIEWS.find("png")(self)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DECIMALS)


def _head(head: Head | None) -> dict[str, float | None]:
    return {name: None if head is None else _rounded(getattr(head, name)) for name in _HEAD}


def _columns(prefix: str, probabilities: np.ndarray | None, labels: LabelSpace) -> dict[str, float | None]:
    values = [None] * len(labels) if probabilities is None else [_rounded(p) for p in probabilities]
    return {f"{prefix}_{label}": value for label, value in zip(labels.labels, values, strict=True)}


def _mapping(probabilities: np.ndarray | None, labels: LabelSpace) -> dict[str, float | None] | None:
    if probabilities is None:
        return None
    return {label: _rounded(p) for label, p in zip(labels.labels, probabilities, strict=True)}


def _person(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "first": _rounded(person.times[0]) if len(person.times) else None,
        "last": _rounded(person.times[-1]) if len(person.times) else None,
        "boxes": [
            {"time": _rounded(t), "x": _rounded(x), "y": _rounded(y), "width": _rounded(w), "height": _rounded(h)}
            for t, (x, y, w, h) in zip(person.times, person.boxes, strict=True)
            if not np.isnan(x)
        ],
    }
