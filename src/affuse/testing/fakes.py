"""An expert that answers what it was told, and a package with a network of a few numbers."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from affuse.experts.base import Abilities, Expert, ExpertOutput
from affuse.labels import EKMAN, LabelSpace
from affuse.media import Recording
from affuse.packages import PackageDescription, write_package
from affuse.timeline import Timeline

__all__ = ["FakeExpert", "write_toy_package"]

# ONNX: probabilities are the softmax of 10 and -10 times the mean absolute value of a waveform, which is the embedding.
_TOY = base64.b64decode(
    "CAk6twIKFQoId2F2ZWZvcm0SBGxvdWQiA0Ficwo0CgRsb3VkCgRheGVzEgllbWJlZGRpbmciClJlZHVjZU1lYW4qDwoIa2VlcGRpbXMYAaABAgog"
    "CgllbWJlZGRpbmcKBmxhZGRlchIGbG9naXRzIgNNdWwKLQoGbG9naXRzEg1wcm9iYWJpbGl0aWVzIgdTb2Z0bWF4KgsKBGF4aXMYAaABAhIDdG95"
    "KhgIAQgCEAFCBmxhZGRlckoIAAAgQQAAIMEqFAgBEAdCBGF4ZXNKCAEAAAAAAAAAWiIKCHdhdmVmb3JtEhYKFAgBEhAKAxIBbgoJEgdzYW1wbGVz"
    "YiAKDXByb2JhYmlsaXRpZXMSDwoNCAESCQoDEgFuCgIIAmIcCgllbWJlZGRpbmcSDwoNCAESCQoDEgFuCgIIAUIECgAQEg=="
)


class FakeExpert(Expert):
    """An expert that answers what it was told, needs no weights, and reads the recording no further than its headers.

    Parameters
    ----------
    modality : str
        Such as "face".
    answers : mapping of str to float
        Probability by label; the rest is shared evenly.
    silent : sequence of int
        Indices of windows without evidence.
    reason : str
        Why these say nothing.
    persons : sequence of str or None
        One output for each; None is the whole scene.
    labels : LabelSpace
        Its labels; the seven emotions by default.
    sentiment : sequence of 3 float, optional
        What it judges of the sentiment: negative, neutral, positive.

    Examples
    --------
    >>> from affuse import Recording, Segment, Timeline
    >>> expert = FakeExpert("face", {"happiness": 0.7}, silent=[1])
    >>> P = expert.predict(Recording.from_text("Hi."), Timeline((Segment(0, 1), Segment(1, 2))))
    >>> P[:, expert.labels.index("happiness")]
    array([0.7, nan])
    """

    def __init__(
        self,
        modality: str,
        answers: Mapping[str, float],
        silent: Sequence[int] = (),
        reason: str = "told to be silent",
        persons: Sequence[str | None] = (None,),
        labels: LabelSpace = EKMAN,
        sentiment: Sequence[float] | None = None,
    ) -> None:
        self.name = f"fake-{modality}"
        self.modality = modality
        self.answers = answers
        self.silent = silent
        self.reason = reason
        self.persons = persons
        self.labels = labels
        self.judged = sentiment
        # It answers about any recording, as an expert does that reads a table beside it.
        self.abilities = Abilities(("table",), judges_sentiment=sentiment is not None, sees_persons=None not in persons)

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        return [self._output(person, timeline) for person in self.persons]

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        return super().sentiment(texts) if self.judged is None else np.tile(np.array(self.judged), (len(texts), 1))

    def _output(self, person: str | None, timeline: Timeline) -> ExpertOutput:
        rest = (1 - sum(self.answers.values())) / max(1, len(self.labels) - len(self.answers))
        P = np.tile([self.answers.get(label, rest) for label in self.labels.labels], (len(timeline), 1))
        silent = np.isin(np.arange(len(timeline)), self.silent)
        P[silent] = np.nan
        sentiment = None if self.judged is None else np.tile(np.array(self.judged), (len(timeline), 1))
        if sentiment is not None:
            sentiment[silent] = np.nan
        output = ExpertOutput(P, tuple(self.reason if quiet else "" for quiet in silent), sentiment)
        if person is None:
            return output
        boxes = np.tile([0.3, 0.2, 0.3, 0.4], (len(timeline), 1))
        return replace(output, person=person, times=timeline.starts, boxes=boxes)


def write_toy_package(
    folder: str | Path,
    labels: LabelSpace | None = None,
    name: str = "toy",
    prior: tuple[float, float] = (0.5, 0.5),
) -> Path:
    """Write a package for the voice whose network takes loud speech for its first label and quiet speech for both.

    Parameters
    ----------
    folder : str or Path
        Where to write.
    labels : LabelSpace, optional
        Two labels; happiness and sadness by default.
    name : str
        How the expert is called.
    prior : tuple of 2 float
        Label frequencies under which its answers are said to be calibrated.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> from affuse.packages import load_package
    >>> own = LabelSpace("study", ("engaged", "frustrated"))
    >>> load_package(write_toy_package("mine", own)).labels.labels
    ('engaged', 'frustrated')
    """
    two = LabelSpace("two", ("happiness", "sadness")) if labels is None else labels
    description = PackageDescription(name, "voice", two, ("waveform",), prior, licence="Apache-2.0")
    return write_package(folder, description, {"model.onnx": _TOY})
