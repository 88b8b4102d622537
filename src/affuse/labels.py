"""Emotion and sentiment labels, and maps from the labels of the field's corpora onto the common seven."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from affuse.errors import ConfigError, DataError

__all__ = [
    "CANONICAL",
    "EKMAN",
    "EMODB",
    "FERPLUS",
    "RAVDESS",
    "SENTIMENT",
    "SMP2020",
    "SYNONYMS",
    "VOICE",
    "LabelSpace",
    "map_probabilities",
    "merge_emotions",
    "recognise",
    "restrict",
    "to_emotions",
    "to_sentiment",
]


@dataclass(frozen=True)
class LabelSpace:
    """A named, ordered set of class labels; column ``i`` of every probability array belongs to ``labels[i]``.

    Parameters
    ----------
    name : str
        How the space is called.
    labels : tuple of str
        Different names, in the order of the columns.
    onto : mapping of str to str, optional
        What labels of one's own mean among those of `EKMAN`, so that they can be fused with other experts. It plays no
        part in whether two spaces are equal.

    Raises
    ------
    ConfigError
        If a label is named twice, or ``onto`` names one that is not there.

    Examples
    --------
    >>> study = LabelSpace("study", ("engaged", "frustrated"), onto={"engaged": "happiness", "frustrated": "anger"})
    >>> len(study), study.index("frustrated")
    (2, 1)
    """

    name: str
    labels: tuple[str, ...]
    onto: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"label space {self.name!r} names a label twice: {', '.join(self.labels)}")
        unknown = [label for label in self.onto if label not in self.labels]
        if unknown:
            raise ConfigError(
                f"the map of label space {self.name!r} names {', '.join(unknown)}; its labels: {', '.join(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: str) -> int:
        """Column of a label.

        Parameters
        ----------
        label : str
            One of the labels.

        Returns
        -------
        int

        Raises
        ------
        DataError
            If there is no such label; the message lists the valid ones.
        """
        if label not in self.labels:
            raise DataError(f"unknown label {label!r} for {self.name}; valid labels: {', '.join(self.labels)}")
        return self.labels.index(label)


EKMAN = LabelSpace("ekman", ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"))
"""Ekman's six basic emotions (Ekman 1992) and neutral: the common space of all experts and of fusion."""

SENTIMENT = LabelSpace("sentiment", ("negative", "neutral", "positive"))

FERPLUS = LabelSpace("ferplus", ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"))
RAVDESS = LabelSpace("ravdess", ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"))
EMODB = LabelSpace("emodb", ("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral"))
VOICE = LabelSpace("voice", (*RAVDESS.labels, "boredom"))
"""Union of the acted-speech corpora, the native space of the shipped voice expert."""
SMP2020 = LabelSpace("smp2020", ("anger", "fear", "happiness", "neutral", "sadness", "surprise"))

CANONICAL = (*EKMAN.labels, "calm", "boredom", "contempt", "negative", "positive")
"""Every label that affuse has a name for, in the order in which label spaces of people's own data list them."""

# What people call a label in English, German and Chinese (simplified, traditional); no codes of single corpora.
_WORDS = {
    "anger": "anger angry mad furious rage annoyed ärger aerger wut wütend wuetend verärgert zorn zornig "
    "愤怒 憤怒 生气 生氣 怒",
    "disgust": "disgust disgusted ekel angeekelt angewidert 厌恶 厭惡 恶心 噁心",
    "fear": "fear fearful afraid scared anxious anxiety angst ängstlich aengstlich furcht 恐惧 恐懼 害怕 惧 恐慌",
    "happiness": "happiness happy joy joyful joyous glück glueck glücklich gluecklich freude fröhlich froehlich "
    "高兴 高興 快乐 快樂 开心 開心 喜悦 喜悅 喜",
    "sadness": "sadness sad sorrow unhappy trauer traurig traurigkeit 悲伤 悲傷 难过 難過 伤心 傷心 悲",
    "surprise": "surprise surprised astonished überraschung ueberraschung überrascht ueberrascht "
    "惊讶 驚訝 惊奇 驚奇 吃惊 惊",
    "neutral": "neutral neutrality neutrale 中性 中立 无情绪",
    "calm": "calm calmness ruhig ruhe gelassen 平静 平靜 冷静",
    "boredom": "boredom bored boring langeweile gelangweilt 无聊 無聊 厌倦",
    "contempt": "contempt contemptuous verachtung verächtlich veraechtlich 轻蔑 輕蔑 蔑视 蔑視 鄙视 鄙視",
    "negative": "negative neg negativ 负面 負面 消极 消極 负向 贬义",
    "positive": "positive pos positiv 正面 积极 積極 正向 褒义",
}
SYNONYMS: Mapping[str, str] = {word: label for label, words in _WORDS.items() for word in words.split()}
"""Label by the words for it, in lower case."""

# Where a richer label goes among the common seven. Calm and boredom are low-arousal states without an Ekman
# counterpart; contempt is taken for disgust, its nearest neighbour in Ekman's early six (Ekman & Friesen 1986).
_ONTO_EKMAN = {"calm": "neutral", "boredom": "neutral", "contempt": "disgust"}

# The sign of every common emotion. Surprise has none: it may be glad or shocked.
_ONTO_SENTIMENT = {
    "anger": "negative",
    "disgust": "negative",
    "fear": "negative",
    "sadness": "negative",
    "happiness": "positive",
    "surprise": "neutral",
    "neutral": "neutral",
}


def recognise(word: str) -> str | None:
    """The label of `CANONICAL` that a word means.

    Parameters
    ----------
    word : str
        An English, German or Chinese word, in any case.

    Returns
    -------
    str or None
        None for other words.

    Examples
    --------
    >>> recognise("Angry"), recognise("高兴"), recognise("engaged")
    ('anger', 'happiness', None)
    """
    return SYNONYMS.get(unicodedata.normalize("NFKC", word).strip().casefold())


def map_probabilities(
    P: np.ndarray, source: LabelSpace, target: LabelSpace, onto: Mapping[str, str] | None = None
) -> np.ndarray:
    """Move probability mass from the columns of one label space to those of another.

    Parameters
    ----------
    P : array of shape (..., len(source))
        Probabilities; NaN rows stay NaN.
    source, target : LabelSpace
        Names of the columns before and after.
    onto : mapping of str to str, optional
        Sends labels that ``target`` lacks to one that it has.

    Returns
    -------
    array of shape (..., len(target))
        The mass of every row is kept.

    Raises
    ------
    DataError
        If a label has nowhere to go, or the columns are not those of ``source``.

    Examples
    --------
    >>> three = LabelSpace("three", ("calm", "neutral", "sadness"))
    >>> two = LabelSpace("two", ("neutral", "sadness"))
    >>> map_probabilities(np.array([0.2, 0.3, 0.5]), three, two, {"calm": "neutral"})
    array([0.5, 0.5])
    """
    goals = [label if label in target.labels else (onto or {}).get(label, label) for label in source.labels]
    return _moved(P, source, target, goals)


def to_emotions(P: np.ndarray, source: LabelSpace) -> np.ndarray:
    """Map probabilities over any known label space onto the seven emotions of `EKMAN`.

    Own labels go where the ``onto`` of their space says, also those that are a name of an emotion.

    Parameters
    ----------
    P : array of shape (..., len(source))
        Probabilities.
    source : LabelSpace
        Names of the columns.

    Returns
    -------
    array of shape (..., 7)

    Raises
    ------
    DataError
        If a label has no place among the seven.

    Examples
    --------
    >>> to_emotions(np.array([0.25, 0.75]), LabelSpace("two", ("calm", "anger")))[[0, 6]]
    array([0.75, 0.25])
    """
    goals = [source.onto.get(label, label) for label in source.labels]
    return _moved(P, source, EKMAN, [_ONTO_EKMAN.get(goal, goal) for goal in goals])


def merge_emotions(P: np.ndarray, source: LabelSpace) -> np.ndarray:
    """Emotions (..., 7) over `EKMAN` as `to_emotions`, but among labels that become one the most probable stands.

    Which label wins is settled among an expert's own ones: two that are merged (calm and neutral) must not outvote a
    third by being added up. Rows are normalised; NaN rows stay NaN.

    Parameters
    ----------
    P : array of shape (..., k)
        Probabilities, or other non-negative scores, over the labels of ``source``.
    source : LabelSpace
        Names of the columns.

    Returns
    -------
    array of shape (..., 7)

    Raises
    ------
    DataError
        Where a label has no place among the seven.

    Examples
    --------
    >>> space = LabelSpace("own", ("calm", "neutral", "sadness"))
    >>> merge_emotions(np.array([0.3, 0.3, 0.4]), space).round(2)  # sadness stays ahead of 0.6 for neutral
    array([0.  , 0.  , 0.  , 0.  , 0.57, 0.  , 0.43])
    """
    goals = to_emotions(np.eye(len(source)), source).argmax(axis=1)
    P = _columns_of(P, source)
    merged = np.zeros((*P.shape[:-1], len(EKMAN)))
    for column, goal in enumerate(goals):
        merged[..., goal] = np.maximum(merged[..., goal], P[..., column])
    merged[np.isnan(P).any(axis=-1)] = np.nan
    return np.asarray(merged / merged.sum(axis=-1, keepdims=True))


def to_sentiment(P: np.ndarray) -> np.ndarray:
    """Map probabilities of emotions onto negative, neutral and positive.

    Parameters
    ----------
    P : array of shape (..., 7)
        Over `EKMAN`.

    Returns
    -------
    array of shape (..., 3)
        Over `SENTIMENT`.

    Examples
    --------
    >>> to_sentiment(np.array([0.25, 0.0, 0.0, 0.5, 0.0, 0.0, 0.25]))
    array([0.25, 0.25, 0.5 ])
    """
    return map_probabilities(P, EKMAN, SENTIMENT, _ONTO_SENTIMENT)


def restrict(P: np.ndarray, source: LabelSpace, labels: Sequence[str]) -> np.ndarray:
    """Condition probabilities on the answer being one of some labels.

    Parameters
    ----------
    P : array of shape (n, len(source))
        Probabilities.
    source : LabelSpace
        Names of the columns.
    labels : sequence of str
        The labels that are left, in the order of the columns of the result.

    Returns
    -------
    array of shape (n, len(labels))
        Rows sum to 1.

    Raises
    ------
    DataError
        If a label is not one of ``source``.

    Examples
    --------
    >>> restrict(np.array([[0.5, 0.25, 0.25]]), SENTIMENT, ("positive", "negative")).round(2)
    array([[0.33, 0.67]])
    """
    columns = [source.index(label) for label in labels]
    P = np.asarray(P, dtype=float)[..., columns]
    return np.asarray(P / P.sum(axis=-1, keepdims=True))


def _moved(P: np.ndarray, source: LabelSpace, target: LabelSpace, goals: Sequence[str]) -> np.ndarray:
    """Probabilities over ``target``, where the mass of every label of ``source`` goes to its goal."""
    P = _columns_of(P, source)
    transfer = np.zeros((len(source), len(target)))
    transfer[np.arange(len(source)), [target.index(goal) for goal in goals]] = 1.0
    return P @ transfer


def _columns_of(P: np.ndarray, source: LabelSpace) -> np.ndarray:
    """Probabilities as an array. Raises DataError where its columns are not those of ``source``."""
    P = np.asarray(P, dtype=float)
    if P.shape[-1] != len(source):
        raise DataError(f"{source.name} has {len(source)} labels, but the probabilities have {P.shape[-1]} columns")
    return P
