"""What every expert is: a class with a name, labels and declared abilities that reads one modality of a recording."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from affuse.errors import ConfigError
from affuse.labels import LabelSpace
from affuse.media import Recording, Watch
from affuse.timeline import Timeline

__all__ = ["INPUTS", "NO_WORDS", "Abilities", "Expert", "ExpertOutput", "FaceObserver"]

NO_WORDS = "no words"
"""Why the words say nothing where there are none in a whole recording."""

INPUTS: Mapping[str, str] = {"frames": "no picture", "sound": "no sound", "words": NO_WORDS, "table": ""}
"""What an expert can read, and why it says nothing about a recording without that; a table lies beside recordings."""


@dataclass(frozen=True)
class Abilities:
    """What an expert can do, stated as data: nobody has to try it out.

    Parameters
    ----------
    reads : tuple of str
        What it reads: "frames" (pictures), "sound" (mono, 16 kHz), "words" (cues of a transcript) or "table" (numbers
        that the user brings). An expert that reads several answers where at least one of them is there.
    languages : tuple of str
        Codes of the languages that it reads, such as "en". Empty where it does not depend on the language, or does not
        say which it knows.
    classifies : bool
        Whether `Expert.classify` answers about single items: texts, waveforms or pictures of faces.
    judges_sentiment : bool
        Whether it judges sentiment beside its labels, as `ExpertOutput.sentiment` and by `Expert.sentiment`.
    embeds : bool
        Whether `Expert.embed` gives a vector for each window.
    streams : bool
        Whether it can follow a live stream, of which it sees only the last seconds.
    sees_persons : bool
        Whether it follows people and gives one output for each of them.
    shows_faces : bool
        Whether `Expert.read_observed` tells an observer where faces are.

    Raises
    ------
    ConfigError
        If ``reads`` is empty or names something else.

    Examples
    --------
    >>> Abilities(reads=("words",), languages=("en", "zh"), classifies=True).languages
    ('en', 'zh')
    """

    reads: tuple[str, ...]
    languages: tuple[str, ...] = ()
    classifies: bool = False
    judges_sentiment: bool = False
    embeds: bool = False
    streams: bool = False
    sees_persons: bool = False
    shows_faces: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.reads if name not in INPUTS]
        if unknown or not self.reads:
            raise ConfigError(
                f"an expert reads some of {', '.join(INPUTS)}; got {', '.join(map(repr, unknown)) or 'nothing'}"
            )

    def missing(self, recording: Recording) -> str:
        """Why a recording holds nothing that the expert reads.

        Parameters
        ----------
        recording : Recording
            An open recording.

        Returns
        -------
        str
            Such as "no sound"; empty where there is something to read.
        """
        reads: dict[str, Callable[[], bool]] = {
            "frames": lambda: recording.has_frames,
            "sound": lambda: recording.has_sound,
            "words": lambda: bool(recording.cues),
            "table": lambda: True,
        }
        return "" if any(reads[name]() for name in self.reads) else "; ".join(INPUTS[name] for name in self.reads)


@dataclass(frozen=True)
class ExpertOutput:
    """What an expert found in each window, for one person or for the whole scene.

    Parameters
    ----------
    probabilities : array of shape (n_windows, n_labels)
        Over the labels of the expert; rows of NaN where there is no evidence.
    reasons : tuple of n_windows str
        Why there is no evidence; empty where there is some.
    sentiment : array of shape (n_windows, 3), optional
        Over `affuse.SENTIMENT`, where the expert judges it; NaN rows likewise.
    person : str, optional
        Who it is about, where people are followed.
    times : array of shape (m,)
        Seconds at which the face of the person was seen.
    boxes : array of shape (m, 4)
        x, y, width and height of the face at these times, as fractions of the picture.
    landmarks : array of shape (m, 5, 2)
        Right eye, left eye, nose tip, right and left corner of the mouth at these times, likewise; NaN where the
        detector finds none, and of length 0 where the expert keeps none.
    notes : tuple of str
        What a reader should know, one sentence each.
    cue_probabilities : array of shape (n_cues, n_labels)
        What an expert on words says of every cue by itself; of length 0 where it keeps none.
    cue_sentiment : array of shape (n_cues, 3), optional
        Its sentiment, likewise.
    affect : array of shape (n_windows, 2), optional
        Valence and arousal in -1…1, where the expert rates them; NaN where it does not. Else they follow from its
        emotions.
    poses : array of shape (p, 4)
        Seconds, in order, and yaw, pitch and roll of the head in degrees (`affuse.experts.face.pose`) in every picture
        of the person that was looked at, more than in ``times`` of a long recording; NaN where landmarks tell none.

    Examples
    --------
    >>> output = ExpertOutput(np.array([[0.7, 0.3], [np.nan, np.nan]]), ("", "silence"))
    >>> output.reasons[1]
    'silence'
    """

    probabilities: np.ndarray
    reasons: tuple[str, ...]
    sentiment: np.ndarray | None = None
    person: str | None = None
    times: np.ndarray = field(default_factory=lambda: np.empty(0))
    boxes: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    landmarks: np.ndarray = field(default_factory=lambda: np.empty((0, 5, 2)))
    notes: tuple[str, ...] = ()
    cue_probabilities: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    cue_sentiment: np.ndarray | None = None
    affect: np.ndarray | None = None
    poses: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))

    @classmethod
    def silent(cls, n_windows: int, n_labels: int, reason: str) -> ExpertOutput:
        """An output without any evidence.

        Parameters
        ----------
        n_windows, n_labels : int
            Shape of the probabilities.
        reason : str
            Why there is none, the same in every window.

        Returns
        -------
        ExpertOutput

        Examples
        --------
        >>> ExpertOutput.silent(2, 7, "no sound").reasons
        ('no sound', 'no sound')
        """
        return cls(np.full((n_windows, n_labels), np.nan), (reason,) * n_windows)


class FaceObserver(Protocol):
    """Who looks on while an expert follows faces through a video."""

    @property
    def watch(self) -> Watch:
        """At which times it sees pictures."""

    def place(self, time: float, faces: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        """Told, in order of time, where faces are.

        Parameters
        ----------
        time : float
            Seconds.
        faces : mapping of int to box (4,) and landmarks (5, 2)
            Of everybody in view, by the number of their track; as in `ExpertOutput`, with NaN for unknown landmarks.
        """

    def finish(self, tracks: Sequence[int]) -> None:
        """Told at the end which tracks the outputs of the expert are about, in their order.

        Parameters
        ----------
        tracks : sequence of int
            Numbers of tracks; none where nobody was seen.
        """


class Expert(ABC):
    """Base of all experts: reads one modality of a recording and answers with probabilities.

    A subclass sets `name`, `modality`, `labels` and `abilities`, on the class or in ``__init__``, and writes
    `read_windows`. For an expert on texts or on sound there is less to do: `WordsExpert` and `SoundExpert` need only
    ``classify``.

    Attributes
    ----------
    name : str
        How results call it.
    modality : str
        "face", "voice", "text", or any other name.
    labels : LabelSpace
        Names of the columns of its probabilities.
    abilities : Abilities
        What it can do.
    prior : array of shape (n_labels,), optional
        Label frequencies under which its answers are calibrated, for the fuser; None where it does not say.
    covers : tuple of str
        Modalities that it reads itself, so that a second expert for one of them would count the same evidence twice.
    weight_set : str, optional
        Set of affuse's weights (`affuse.weight_sets`) that its networks are of, or were made from, where it was told.

    Examples
    --------
    >>> from affuse import LabelSpace, Recording, Segment, Timeline
    >>> class Even(Expert):
    ...     name, modality, labels = "even", "text", LabelSpace("two", ("calm", "angry"))
    ...     abilities = Abilities(reads=("words",))
    ...
    ...     def read_windows(self, recording, timeline):
    ...         return [ExpertOutput(np.full((len(timeline), 2), 0.5), ("",) * len(timeline))]
    >>> Even().predict(Recording.from_text("Hello."), Timeline((Segment(0.0, 1.0),)))
    array([[0.5, 0.5]])
    """

    name: str
    modality: str
    labels: LabelSpace
    abilities: Abilities
    prior: np.ndarray | None = None
    covers: tuple[str, ...] = ()
    weight_set: str | None = None

    @abstractmethod
    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        """Read a recording that holds something to read; `read` sees to the others.

        Parameters
        ----------
        recording : Recording
            An open recording.
        timeline : Timeline
            The n windows to answer about.

        Returns
        -------
        list of ExpertOutput
            One for each person, the person seen most first; one for the whole scene where nobody is told apart. Never
            empty.
        """

    def read(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        """What the expert finds in a recording; without evidence where that holds nothing it reads.

        Parameters
        ----------
        recording : Recording
            An open recording.
        timeline : Timeline
            The n windows to answer about.

        Returns
        -------
        list of ExpertOutput
            As of `read_windows`.
        """
        missing = self.abilities.missing(recording)
        if missing:
            return [ExpertOutput.silent(len(timeline), len(self.labels), missing)]
        return self.read_windows(recording, timeline)

    def read_observed(self, recording: Recording, timeline: Timeline, observer: FaceObserver) -> list[ExpertOutput]:
        """As `read`, while an observer sees pictures and is told where faces are; of experts whose `abilities` say so.

        Parameters
        ----------
        recording : Recording
            A video.
        timeline : Timeline
            The n windows to answer about.
        observer : FaceObserver
            Who looks on, so that the video is decoded once for both.

        Returns
        -------
        list of ExpertOutput
            As of `read`.

        Raises
        ------
        ConfigError
            If the expert shows no faces.
        """
        raise ConfigError(f"the expert {self.name} shows no faces")

    def predict(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Probabilities of the first output of `read`.

        Parameters
        ----------
        recording : Recording
            An open recording.
        timeline : Timeline
            The n windows to answer about.

        Returns
        -------
        array of shape (n_windows, n_labels)
            Rows sum to 1, or are NaN where there is no evidence.
        """
        return self.read(recording, timeline)[0].probabilities

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """A vector for every window, where `abilities` say that the expert embeds.

        Parameters
        ----------
        recording : Recording
            An open recording.
        timeline : Timeline
            The n windows.

        Returns
        -------
        array of shape (n_windows, d)
            NaN rows where there is no evidence.

        Raises
        ------
        ConfigError
            If the expert does not embed.
        """
        raise ConfigError(f"the expert {self.name} gives no embeddings")

    def classify(self, inputs: Any) -> np.ndarray:
        """Probabilities of single items, where `abilities` say that the expert classifies.

        Parameters
        ----------
        inputs : sequence of str, array of shape (n_samples,), or array of shape (n, height, width[, 3])
            Texts; one waveform, mono at 16 kHz; or pictures of faces, uint8.

        Returns
        -------
        array of shape (n, n_labels), or (n_labels,) for a waveform

        Raises
        ------
        ConfigError
            If the expert reads whole recordings only.
        """
        raise ConfigError(f"the expert {self.name} reads whole recordings, not single items")

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        """Sentiment of texts, where `abilities` say that the expert judges it.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        array of shape (n, 3)
            Over `affuse.SENTIMENT`; NaN rows where a text cannot be read.

        Raises
        ------
        ConfigError
            If the expert judges no sentiment.
        """
        raise ConfigError(f"the expert {self.name} judges no sentiment beside its labels")

    def in_language(self, language: str | None) -> Self:
        """The expert for words of one language.

        Parameters
        ----------
        language : str or None
            Code such as "en"; None where the language shall be recognised.

        Returns
        -------
        Expert
            The same one, unless the expert reads several languages differently.

        Raises
        ------
        ConfigError
            If `abilities` name other languages only.
        """
        known = self.abilities.languages
        if language is not None and known and language not in known:
            raise ConfigError(f"unknown language {language!r}; the expert {self.name} reads {', '.join(known)}")
        return self

    def language_of(self, text: str) -> str | None:
        """The language that a text is read in.

        Parameters
        ----------
        text : str
            One utterance.

        Returns
        -------
        str or None
            Code of the language, "und" where the expert does not say; None where it cannot read the text, or reads no
            texts at all.
        """
        return None

    def check_modality(self, modality: str) -> None:
        """Refuse to be used for another modality.

        Parameters
        ----------
        modality : str
            What the expert is wanted for.

        Raises
        ------
        ConfigError
            If that is another modality than its own.
        """
        if modality != self.modality:
            raise ConfigError(f"the expert {self.name} reads {self.modality}, not {modality}")

    @property
    def sha256(self) -> Mapping[str, str]:
        """Checksums (hex) of the weights in use by name; empty where there are none."""
        return {}

    def sessions(self) -> list[tuple[Any, str]]:
        """Where the ONNX Runtime sessions of the expert are kept, for measuring and quantising them.

        Returns
        -------
        list of (object, str)
            The object and the name of its attribute; empty where the expert has no such networks.
        """
        return []
