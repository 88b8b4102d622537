"""Experts on words: whoever classifies texts reads recordings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from affuse.experts.base import NO_WORDS, Abilities, Expert, ExpertOutput
from affuse.media import Recording
from affuse.timeline import Segment, Timeline

__all__ = ["NO_WORDS", "NO_WORDS_HERE", "WordsExpert", "average"]

NO_WORDS_HERE = "no words in this window"

_WINDOWS_AT_ONCE = 32  # of hours: nearly all cues that more windows have are of some of them only


class WordsExpert(Expert):
    """Base of experts on words: a subclass writes `classify`, and recordings are read by their cues.

    A window averages the cues in it, weighted by the seconds that they share.

    Attributes
    ----------
    modality : str
        "text".
    unread : str
        Why a window says nothing whose words `classify` answers with NaN.

    Examples
    --------
    >>> from affuse import LabelSpace, Recording, Segment, Timeline
    >>> class Shouting(WordsExpert):
    ...     name, labels = "shouting", LabelSpace("two", ("calm", "angry"))
    ...
    ...     def classify(self, texts):
    ...         angry = np.array([0.9 if text.isupper() else 0.2 for text in texts])
    ...         return np.stack([1 - angry, angry], axis=1)
    >>> Shouting().predict(Recording.from_text("GO AWAY"), Timeline((Segment(0.0, 1.0),)))
    array([[0.1, 0.9]])
    """

    modality = "text"
    abilities = Abilities(reads=("words",), classifies=True, streams=True)
    unread = NO_WORDS_HERE

    @abstractmethod
    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of texts.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        array of shape (n, n_labels)
            Rows sum to 1; a text that cannot be read is a row of NaN.
        """

    def language_of(self, text: str) -> str | None:
        languages = self.abilities.languages
        return languages[0] if len(languages) == 1 else "und"

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        cues = recording.cues
        P, sentiment = self.judge([cue.text for cue in cues])
        readable = ~np.isnan(P).any(axis=1)
        reasons: list[str] = []
        means, judged = [], []
        for near, shared in _overlaps(timeline, [cue.segment for cue in cues]):
            read = readable[near]
            known, kept = near[read], shared[:, read]
            reasons += self._reasons(shared, kept)
            means.append(average(kept, P[known]))
            judged += [] if sentiment is None else [average(kept, sentiment[known])]
        whole = np.concatenate(means)
        feeling = np.concatenate(judged) if judged else None
        return [ExpertOutput(whole, tuple(reasons), feeling, cue_probabilities=P, cue_sentiment=sentiment)]

    def judge(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """What `classify` says of texts, and `sentiment` where the expert judges it.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        probabilities : array of shape (n, n_labels)
        sentiment : array of shape (n, 3), or None
        """
        if not len(texts):
            return np.empty((0, len(self.labels))), None
        return self.classify(texts), self.sentiment(texts) if self.abilities.judges_sentiment else None

    def _reasons(self, shared: np.ndarray, readable: np.ndarray) -> list[str]:
        """Why windows say nothing, from the seconds that they share with all cues and with those that can be read."""
        seconds = zip(shared.max(axis=1, initial=0.0).tolist(), readable.max(axis=1, initial=0.0).tolist(), strict=True)
        return ["" if read > 0 else self.unread if spoken > 0 else NO_WORDS_HERE for spoken, read in seconds]


def _overlaps(timeline: Timeline, cues: Sequence[Segment]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers (c,) of the cues near the next windows, and the seconds (n, c) that these share with them.

    All windows and all cues of an hour at once would take gigabytes.
    """
    starts, ends = np.array([cue.start for cue in cues]), np.array([cue.end for cue in cues])
    all_starts, all_ends = timeline.starts[:, None], timeline.ends[:, None]
    for first in range(0, len(timeline), _WINDOWS_AT_ONCE):
        part = slice(first, first + _WINDOWS_AT_ONCE)
        begin, stop = all_starts[part], all_ends[part]
        near = np.flatnonzero((starts < stop.max()) & (ends > begin.min()))
        yield near, np.maximum(np.minimum(stop, ends[near]) - np.maximum(begin, starts[near]), 0.0)


def average(shared: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the cues' ``values`` (c, d) in every window, weighted by ``shared`` seconds (n, c); NaN without any."""
    total = shared.sum(axis=1, keepdims=True)
    mean = np.full((len(shared), values.shape[1]), np.nan)
    np.divide(shared @ values, total, out=mean, where=total > 0)
    return mean
