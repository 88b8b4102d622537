"""Asking all experts about one recording, and what they found."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affuse.analyzer.speech import Speech
from affuse.errors import AffuseError
from affuse.experts.base import NO_WORDS, Expert, ExpertOutput, FaceObserver
from affuse.media import Frame, Recording
from affuse.progress import Progress
from affuse.timeline import Timeline

__all__ = [
    "NOT_SEEN",
    "Observation",
    "RecordingWithProgress",
    "mean_of_windows",
    "read_all",
    "return_memory",
    "seen_modality",
    "without_words",
]

NOT_SEEN = "not seen"
"""Why there is no face of somebody who is heard only."""


@dataclass(frozen=True)
class Observation:
    """What the experts found in one recording, before it is fused.

    Attributes
    ----------
    recording : Recording
        What was read.
    timeline : Timeline
        The n windows.
    outputs : mapping of str to list of ExpertOutput
        By modality, one output a person.
    speech : Speech, optional
        Whose voice and whose words are heard; None where nothing tells.
    one_voice : bool
        Whether everything that is heard was taken for one voice, since nobody is seen and nobody said how many speak.

    Examples
    --------
    >>> from affuse import Analyzer, Recording
    >>> from affuse.testing import FakeExpert
    >>> found = Analyzer({"text": FakeExpert("text", {"anger": 0.6})}).observe(Recording.from_text("No!"))
    >>> float(found.outputs["text"][0].probabilities[0, 0])
    0.6
    """

    recording: Recording
    timeline: Timeline
    outputs: Mapping[str, list[ExpertOutput]]
    speech: Speech | None = None
    one_voice: bool = False

    def people(self) -> Sequence[Mapping[str, ExpertOutput]]:
        """The outputs about every person: their own, and those that hold for the whole scene.

        Returns
        -------
        sequence of mapping of str to ExpertOutput
            By modality, for one person after the other.
        """
        seen = seen_modality(self.outputs)
        scene = {m: own[0] for m, own in self.outputs.items()}
        people = [{**scene, seen: person} for person in self.outputs[seen]] if seen else []
        if self.speech is None:
            return people or [scene]
        heard = dict(self.speech.outputs)
        together = [{**own, **heard.pop(str(own[seen].person), {})} for own in people if seen]
        return [*together, *(self._unseen(scene, name, own) for name, own in heard.items())] or [scene]

    def own(self, person: str | None) -> np.ndarray | None:
        """How probable it is, window by window, that the voice and the words are those of a person.

        Parameters
        ----------
        person : str or None
            Whom `people` holds outputs about.

        Returns
        -------
        array of shape (n,), or None
            None where nothing tells, so that they count for everybody.
        """
        speech = self._speech_with(person)
        return None if speech is None else speech.own(str(person), self.timeline)

    def heard(self, person: str | None) -> np.ndarray | None:
        """How long a person is heard in every window.

        Parameters
        ----------
        person : str or None
            Whom `people` holds outputs about.

        Returns
        -------
        array of shape (n,), or None
            Seconds; None where nobody else speaks, or nothing tells.
        """
        speech = self._speech_with(person)
        return None if speech is None else speech.seconds(str(person), self.timeline)

    def _speech_with(self, person: str | None) -> Speech | None:
        """The speech of everybody, where a person is one of those who may speak."""
        return None if self.speech is None or person not in self.speech.speakers.names else self.speech

    def _unseen(
        self, scene: Mapping[str, ExpertOutput], name: str, heard: Mapping[str, ExpertOutput]
    ) -> Mapping[str, ExpertOutput]:
        """The outputs about somebody who is heard and not seen."""
        n = len(self.timeline)
        silent = {m: ExpertOutput.silent(n, own.probabilities.shape[1], NOT_SEEN) for m, own in scene.items()}
        return {m: replace(output, person=name) for m, output in {**silent, **heard}.items()}


def seen_modality(outputs: Mapping[str, Sequence[ExpertOutput]]) -> str | None:
    """The modality whose expert tells persons apart; None where none does."""
    return next((modality for modality, own in outputs.items() if own[0].person is not None), None)


class RecordingWithProgress:
    """A recording that reports how far it has been read; experts see no difference."""

    def __init__(self, recording: Recording, report: Callable[[float], None]) -> None:
        self._recording = recording
        self._report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording, name)

    def frames(self, times: Iterable[float], **options: Any) -> Iterator[Frame]:
        for frame in self._recording.frames(times, **options):
            self._note(frame.time)
            yield frame

    def sound(self, timeline: Timeline, channel: int | None = None) -> Iterator[np.ndarray]:
        for segment, samples in zip(timeline, self._recording.sound(timeline, channel), strict=False):
            self._note(segment.end)
            yield samples

    def _note(self, time: float) -> None:
        if self._recording.duration > 0:
            self._report(min(1.0, time / self._recording.duration))


def read_all(
    experts: Mapping[str, Expert],
    recording: Recording,
    timeline: Timeline,
    progress: Progress | None = None,
    observers: Mapping[str, FaceObserver] | None = None,
    also: Callable[[], object] | None = None,
) -> dict[str, list[ExpertOutput]]:
    """What every expert finds in a recording, by modality. Errors name the recording and the modality.

    ``observers`` look on while the experts of these modalities read. ``also`` is called beside them: the faces take
    longer than all the rest.
    """

    def read(modality: str) -> list[ExpertOutput]:
        report = None if progress is None else (lambda share: progress(modality, share))
        watched = recording if report is None else RecordingWithProgress(recording, report)
        observer = (observers or {}).get(modality)
        outputs = (
            experts[modality].read(watched, timeline)  # type: ignore[arg-type]
            if observer is None
            else experts[modality].read_observed(watched, timeline, observer)  # type: ignore[arg-type]
        )
        if report:
            report(1.0)
        return outputs

    # Decoding and networks release the interpreter's lock, so two modalities really run at once.
    with ThreadPoolExecutor(max_workers=2) as pool:
        futures = {modality: pool.submit(read, modality) for modality in experts}
        if also is not None:
            pool.submit(also)
        return {modality: _result(modality, recording, future.result) for modality, future in futures.items()}


def _result(modality: str, recording: Recording, result: Callable[[], list[ExpertOutput]]) -> list[ExpertOutput]:
    try:
        return result()
    except AffuseError as error:
        raise type(error)(f"{recording.name}, {modality}: {error}") from error


def without_words(output: ExpertOutput, why: str) -> ExpertOutput:
    """The output with the cause why a whole recording has no words."""
    reasons = tuple(f"{reason}: {why}" if reason == NO_WORDS else reason for reason in output.reasons)
    return replace(output, reasons=reasons)


def mean_of_windows(P: np.ndarray) -> np.ndarray:
    """Mean over the windows with evidence, (1, m, k) from P (n, m, k); NaN where a modality never has any."""
    here = ~np.isnan(P)
    total, count = np.where(here, P, 0.0).sum(axis=0), here.sum(axis=0)
    return np.divide(total, count, out=np.full(P.shape[1:], np.nan), where=count > 0)[None]


def return_memory() -> None:
    """Give memory that decoders have freed back to the system; what comes next is of other sizes.

    The C library keeps it, 35 MB after three minutes of video. Only that of GNU can be asked for it.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
