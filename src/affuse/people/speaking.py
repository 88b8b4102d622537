"""Who speaks: for every moment a distribution over the faces in view, somebody off screen, and nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.experts.base import ExpertOutput
from affuse.files import write_json
from affuse.media import Recording
from affuse.people.hidden_markov import forward_backward
from affuse.people.mouths import MOUTH_RATE, FacePath
from affuse.people.own_voices import StepVoices
from affuse.people.synchrony import Agreement, SynchronyNetworks, measure_agreement
from affuse.people.turns import Turn
from affuse.people.windows import sliding_max
from affuse.timeline import Segment

__all__ = ["HOP", "OFF_SCREEN", "Speakers", "TurnModel", "shipped_networks", "who_speaks"]

HOP = 3
"""Pictures (of 40 ms) of a step in time: 0.12 s."""

# Pictures before and after: the detector of speech misses soft sounds between loud ones, which mouths move for as well.
_AROUND = 3

OFF_SCREEN = "off screen"
"""Who speaks where it is nobody whose face is seen."""

_LEAST = 1e-6  # probability

_ROUNDS = 3  # in which voices are learned anew; after them little changes


@dataclass(frozen=True)
class TurnModel:
    """A hidden Markov model of turns: what synchrony and speech mean, and how long people speak.

    Parameters
    ----------
    gain : float
        Log-odds of a face against somebody off screen for each picture in which it agrees with speech by 1.
    cost : float
        Log-odds that each picture with speech takes from every face.
    heard : float
        Log-odds of speech against nobody for a step that is all speech; a step without any has the opposite.
    stay : float
        Log-odds that the next step is of the same state.
    off_screen : float
        Log-odds that a new turn is spoken off screen, against one of the faces in view, where anybody is off screen.
    anybody : float
        Log-odds that anybody speaks off screen in a recording at all.
    voice : float
        How far the colour of a voice is believed: factor of its log-likelihood in a step (`StepVoices`); 0 for not.

    References
    ----------
    Rabiner (1989), A tutorial on hidden Markov models. doi:10.1109/5.18626

    Examples
    --------
    >>> model = TurnModel(gain=1.0, cost=0.1, heard=3.0, stay=3.0, off_screen=-1.0, anybody=-1.0)
    >>> scores, speech = np.full((6, 1), 0.8), np.ones(6)
    >>> model.posteriors(scores, speech).round(2).tolist()
    [[0.98, 0.02, 0.0], [0.98, 0.02, 0.0]]
    """

    gain: float
    cost: float
    heard: float
    stay: float
    off_screen: float
    anybody: float
    voice: float = 0.0

    @classmethod
    def read(cls, path: Path | None = None) -> TurnModel:
        """Read a model that `write` wrote.

        Parameters
        ----------
        path : Path, optional
            The shipped one where None.

        Returns
        -------
        TurnModel

        Raises
        ------
        AssetError
            If it is missing or damaged.
        """
        path = weights.shipped("turns") if path is None else path
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise AssetError(f"{path} is no model of turns: {error}") from error

    def write(self, path: Path) -> None:
        """Write the model as JSON.

        Parameters
        ----------
        path : Path
            The file.
        """
        write_json(path, {name: round(value, 6) for name, value in asdict(self).items()})

    def posteriors(self, scores: np.ndarray, speech: np.ndarray, colour: np.ndarray | None = None) -> np.ndarray:
        """How probable every state is at every step, given the whole recording (forward-backward).

        Parameters
        ----------
        scores : array of shape (t, m)
            Agreement of m faces with the sound in t pictures; NaN where a face is not seen.
        speech : array of shape (t,)
            Share of each picture's time in which there is speech.
        colour : array of shape (t, d), optional
            Cepstrum of the sound in the time of each picture, by which voices are told apart as well.

        Returns
        -------
        array of shape (ceil(t / 3), m + 2)
            Of the m faces, somebody off screen, and nobody; rows sum to 1.
        """
        emissions = self._emissions(scores, speech)
        if not len(emissions):
            return emissions
        found = self._of_emissions(emissions)
        if colour is not None and self.voice > 0:
            voices = StepVoices.of(colour, speech, HOP)
            for _ in range(_ROUNDS if voices.enough else 0):
                alike = self.voice * voices.log_likelihoods(found[:, :-1])
                found = self._of_emissions(emissions + np.pad(alike, ((0, 0), (0, 1))))
        return found

    def _of_emissions(self, emissions: np.ndarray) -> np.ndarray:
        """Posteriors (steps, m + 2), with somebody off screen and without, as either is likely."""
        faces = emissions.shape[1] - 2
        with_them, likely = _smoothed(emissions, *self._transitions(faces, self.off_screen))
        without, unlikely = _smoothed(emissions, *self._transitions(faces, -np.inf))
        there = 1 / (1 + np.exp(np.clip(unlikely - likely - self.anybody, -700, 700)))
        return np.asarray(there * with_them + (1 - there) * without)

    def _emissions(self, scores: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """Log-likelihoods (steps, m + 2), up to a constant for each step; -inf for faces that are not seen."""
        seen, near = ~np.isnan(scores), sliding_max(speech, _AROUND, _AROUND)
        agreed = _steps(np.where(seen, (self.gain * np.nan_to_num(scores) - self.cost) * near[:, None], 0.0))
        present = _steps(seen.astype(float)) > 0
        pictures = np.maximum(_steps(np.ones(len(speech))), 1)
        voiced = self.heard * (2 * _steps(speech) / pictures - 1)
        faces = np.where(present, agreed + voiced[:, None], -np.inf)
        return np.column_stack([faces, voiced, np.zeros(len(voiced))])

    def _transitions(self, count: int, off_screen: float) -> tuple[np.ndarray, np.ndarray]:
        """First and next states: probabilities (m + 2,) and (m + 2, m + 2)."""
        odds = np.exp(np.append(np.full(count, -np.log(max(count, 1))), [off_screen, 0.0]))
        first = odds / odds.sum()
        stay = 1 / (1 + np.exp(-self.stay))
        return first, stay * np.eye(len(first)) + (1 - stay) * first


def _steps(values: np.ndarray) -> np.ndarray:
    """Sums over the pictures of every step; the last one may have fewer."""
    return np.asarray(np.add.reduceat(values, np.arange(0, len(values), HOP), axis=0)) if len(values) else values


def _smoothed(emissions: np.ndarray, first: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, float]:
    """Posteriors (n, k) of log-likelihoods (n, k), and the log-likelihood of all."""
    largest = emissions.max(axis=1, keepdims=True)
    # No step rules a state out for good: the networks may be wrong about a moment.
    likely = np.maximum(np.exp(emissions - largest), _LEAST)
    found, total = forward_backward(likely, first, step)
    return found, float(largest.sum()) + total


@dataclass(frozen=True)
class Speakers:
    """Who speaks over the time of a recording.

    Parameters
    ----------
    names : tuple of k str
        Those who may speak.
    probabilities : array of shape (n, k + 1)
        How probable it is at every step that each of them speaks; the last column is nobody.
    step : float
        Seconds of a step.
    lag : float
        Seconds by which the sound was found to be late (early, where below 0). Steps are in the time of the sound.

    Examples
    --------
    >>> speakers = Speakers(("Anna", "Ben"), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), step=1.0)
    >>> [(turn.speaker, turn.probability) for turn in speakers.turns()]
    [('Anna', 0.9), ('Ben', 0.8)]
    >>> speakers.share("Anna", Segment(0.0, 2.0))
    0.55
    """

    names: tuple[str, ...]
    probabilities: np.ndarray
    step: float = HOP / MOUTH_RATE
    lag: float = 0.0

    @classmethod
    def of_turns(cls, turns: Sequence[Turn], duration: float, step: float = HOP / MOUTH_RATE) -> Speakers:
        """Those whose turns are given.

        Parameters
        ----------
        turns : sequence of Turn
            In any order; where several speak at once they share the moment.
        duration : float
            Of the recording in seconds.
        step : float
            Seconds of a step.

        Returns
        -------
        Speakers
        """
        names = tuple(dict.fromkeys(turn.speaker for turn in sorted(turns, key=lambda turn: turn.segment)))
        middles = (np.arange(max(1, int(np.ceil(duration / step - 1e-6)))) + 0.5) * step
        middles[-1] = min(middles[-1], duration - _LEAST)  # the last step may outlast the recording
        spoken = np.zeros((len(middles), len(names)))
        for turn in turns:
            now = (middles >= turn.segment.start) & (middles < turn.segment.end)
            column = names.index(turn.speaker)
            spoken[now, column] = np.maximum(spoken[now, column], turn.probability)
        spoken /= np.maximum(spoken.sum(axis=1, keepdims=True), 1)
        return cls(names, np.column_stack([spoken, 1 - spoken.sum(axis=1)]), step)

    def speaker_at(self) -> np.ndarray:
        """Number of the most probable speaker of every step; -1 where nobody speaks.

        Returns
        -------
        array of shape (n,)
        """
        best = self.probabilities.argmax(axis=1)
        return np.where(best == len(self.names), -1, best)

    def speaks(self, name: str) -> np.ndarray:
        """In which steps nobody else is more probable to speak, nor that nobody does.

        Parameters
        ----------
        name : str
            One of `names`.

        Returns
        -------
        array of bool, shape (n,)
            Several may speak at once where their turns are given.
        """
        return self.probabilities[:, self.names.index(name)] >= self.probabilities.max(axis=1) - _LEAST

    def turns(self, duration: float = np.inf) -> list[Turn]:
        """Stretches without a change of the most probable speaker.

        Parameters
        ----------
        duration : float
            Of the recording in seconds, which the last step may outlast.

        Returns
        -------
        list of Turn
            In order of time; ``probability`` is the mean over the stretch.
        """
        best = self.speaker_at()
        edges = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
        return [
            Turn(
                Segment(a * self.step, min(b * self.step, duration)),
                self.names[best[a]],
                round(float(self.probabilities[a:b, best[a]].mean()), 6),
            )
            for a, b in pairwise(edges)
            if best[a] >= 0 and a * self.step < duration
        ]

    def share(self, name: str, segment: Segment) -> float:
        """How probable it is that what is said in a segment is said by one of them.

        Parameters
        ----------
        name : str
            One of `names`.
        segment : Segment
            In seconds.

        Returns
        -------
        float
            Mean over the speech in it, 0…1; NaN where nobody speaks.
        """
        shared = self._overlap(segment)
        speech = shared @ (1 - self.probabilities[:, -1])
        if speech < _LEAST:
            return float("nan")
        return float(shared @ self.probabilities[:, self.names.index(name)] / speech)

    def own(self, name: str, segment: Segment) -> float:
        """How probable it is that a speaker speaks in those steps of a segment in which that is most probable.

        Parameters
        ----------
        name : str
            One of `names`.
        segment : Segment
            In seconds.

        Returns
        -------
        float
            0…1; 0 where there is no such step.
        """
        number, mine = self.names.index(name), self._spoken(name, segment)
        return float(mine @ self.probabilities[:, number] / mine.sum()) if mine.sum() > _LEAST else 0.0

    def seconds(self, name: str, segment: Segment) -> float:
        """How long a speaker speaks in a segment: the steps in which that is most probable.

        Parameters
        ----------
        name : str
            One of `names`.
        segment : Segment
            In seconds.

        Returns
        -------
        float
            Seconds.
        """
        return float(self._spoken(name, segment).sum())

    def _spoken(self, name: str, segment: Segment) -> np.ndarray:
        """Seconds (n,) of a segment in those steps in which it is most probable that a speaker speaks."""
        return self._overlap(segment) * self.speaks(name)

    def _overlap(self, segment: Segment) -> np.ndarray:
        """Seconds (n,) that every step shares with a segment."""
        starts = np.arange(len(self.probabilities)) * self.step
        return np.maximum(0, np.minimum(starts + self.step, segment.end) - np.maximum(starts, segment.start))


def who_speaks(
    recording: Recording,
    faces: Sequence[ExpertOutput],
    networks: SynchronyNetworks | None = None,
    model: TurnModel | None = None,
    agreement: Agreement | None = None,
) -> Speakers:
    """Who speaks in a video, by how well the mouths move with the sound.

    Parameters
    ----------
    recording : Recording
        A video with sound.
    faces : sequence of m ExpertOutput
        Of a face expert, one a person.
    networks : SynchronyNetworks, optional
        The shipped ones where None.
    model : TurnModel, optional
        The shipped one where None.
    agreement : Agreement, optional
        Of these faces, where it was measured while they were found (`affuse.people.watching.MouthWatch`); else the
        video is decoded once more.

    Returns
    -------
    Speakers
        Over the persons, and `OFF_SCREEN`.
    """
    if agreement is None:
        paths = [FacePath.of(face) for face in faces]
        agreement = measure_agreement(recording, paths, networks or shipped_networks())
    lag = agreement.best_lag()
    posteriors = (model or _shipped_model()).posteriors(agreement.at_lag(lag), agreement.speech, agreement.colour)
    names = (*(str(face.person) for face in faces), OFF_SCREEN)
    return Speakers(names, posteriors, lag=lag / MOUTH_RATE)


@cache
def shipped_networks() -> SynchronyNetworks:
    """The networks that ship, loaded once in a process.

    Returns
    -------
    SynchronyNetworks

    Examples
    --------
    >>> shipped_networks() is shipped_networks()
    True
    """
    return SynchronyNetworks()


@cache
def _shipped_model() -> TurnModel:
    return TurnModel.read()
