"""How good an expert is on rows that it never saw; what ``affuse evaluate`` and ``affuse export`` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.data.corpora import Dataset
    from affuse.experts.base import Expert

__all__ = ["answers", "evaluate_expert", "waveform"]


def evaluate_expert(expert: Expert, dataset: Dataset) -> dict[str, Any]:
    """How good an expert is on labelled rows.

    Parameters
    ----------
    expert : Expert
        One that classifies single items.
    dataset : Dataset
        Rows of its modality; answers are restricted to their labels.

    Returns
    -------
    dict
        As of `classification_report`; of `marks_report` where rows may show several emotions at once and the expert
        says so.

    Raises
    ------
    ConfigError
        If the expert reads another modality or language, or whole recordings only.

    Examples
    --------
    >>> from affuse import EKMAN
    >>> from affuse.data.corpora import Dataset
    >>> from affuse.experts import TextExpert
    >>> rows = Dataset("two", "text", EKMAN, ["I love it!", "How sad."], np.array([3, 4]), np.array(["a", "b"]))
    >>> evaluate_expert(TextExpert(), rows)["accuracy"]
    1.0
    """
    from affuse.evaluation import classification_report

    try:
        expert.check_modality(dataset.modality)
        if dataset.marks is not None and hasattr(expert, "marks"):
            return _marks(expert, dataset)
        P = answers(expert, dataset)
    except ConfigError as error:
        raise ConfigError(f"{dataset.name}: {error}") from error
    return classification_report(P, dataset.targets, dataset.labels.labels)


def _marks(expert: Any, dataset: Dataset) -> dict[str, Any]:
    from affuse.evaluation.metrics import marks_report

    labels = [label for label in dataset.labels.labels if label != "neutral"]
    assert dataset.marks is not None
    return marks_report(expert.marks(dataset.inputs), dataset.marks, labels, dataset.columns["language"])


def answers(expert: Expert, dataset: Dataset, decode: Callable[[Any], np.ndarray] | None = None) -> np.ndarray:
    """Probabilities (n, k) over the labels of ``dataset``; ``decode`` makes a waveform of an input (see `waveform`)."""
    from affuse.labels import SENTIMENT, restrict

    if dataset.modality == "voice":
        heard = np.stack([expert.classify((decode or waveform)(clip)) for clip in dataset.inputs])
        return restrict(heard, expert.labels, dataset.labels.labels)
    if dataset.modality == "text":
        expert = expert.in_language(dataset.language)
        if set(dataset.labels.labels) <= set(SENTIMENT.labels):
            return restrict(_sentiment(expert, dataset.inputs), SENTIMENT, dataset.labels.labels)
    return restrict(expert.classify(dataset.inputs), expert.labels, dataset.labels.labels)


def _sentiment(expert: Expert, texts: Sequence[str]) -> np.ndarray:
    """Sentiment (n, 3) of texts: the expert's own judgement, or what its emotions imply."""
    from affuse.fusion.spaces import judges_sentiment
    from affuse.labels import SENTIMENT, map_probabilities, to_emotions, to_sentiment

    if expert.abilities.judges_sentiment:
        return np.asarray(expert.sentiment(texts))
    judged = expert.classify(texts)
    if judges_sentiment(expert.labels):
        return map_probabilities(judged, expert.labels, SENTIMENT)
    return to_sentiment(to_emotions(judged, expert.labels))


def waveform(path: Path) -> np.ndarray:
    """The whole sound of a clip (samples,), 16 kHz mono. Raises MediaError where it holds none that can be read."""
    from affuse.media import Recording
    from affuse.timeline import Timeline

    recording = Recording.open(path)
    return next(recording.sound(Timeline((recording.span,))))
