"""Emotion and sentiment labels, and maps from the labels of the field's corpora onto the common seven."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """A named, ordered set of class labels; column ``i`` of every probability array belongs to ``labels[i]``."""

    name: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"label space {self.name!r} names a label twice: {', '.join(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: str) -> int:
        """Column of ``label``. Raises DataError, with the valid choices, where there is none."""
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
    """Label of `CANONICAL` that an English, German or Chinese ``word`` means ("Angry": anger), None for others."""
    return SYNONYMS.get(unicodedata.normalize("NFKC", word).strip().casefold())


def map_probabilities(
    P: np.ndarray, source: LabelSpace, target: LabelSpace, onto: Mapping[str, str] | None = None
) -> np.ndarray:
    """Move probability mass from the columns of ``source`` to those of ``target``.

    ``P`` has shape (..., len(source)), the result (..., len(target)); a row's mass is kept and NaN rows stay NaN.
    ``onto`` sends labels that ``target`` lacks to one that it has. Raises DataError where a label has nowhere to go.
    """
    P = np.asarray(P, dtype=float)
    if P.shape[-1] != len(source):
        raise DataError(f"{source.name} has {len(source)} labels, but the probabilities have {P.shape[-1]} columns")
    transfer = np.zeros((len(source), len(target)))
    for row, label in enumerate(source.labels):
        goal = label if label in target.labels else (onto or {}).get(label, label)
        transfer[row, target.index(goal)] = 1.0
    return P @ transfer


def to_emotions(P: np.ndarray, source: LabelSpace) -> np.ndarray:
    """Map probabilities (..., k) of any known label space onto the common seven of `EKMAN`."""
    return map_probabilities(P, source, EKMAN, _ONTO_EKMAN)


def merge_emotions(P: np.ndarray, source: LabelSpace) -> np.ndarray:
    """Emotions (..., 7) over `EKMAN` as `to_emotions`, but among labels that become one the most probable stands.

    Which label wins is settled among an expert's own ones: two that are merged (calm and neutral) must not outvote a
    third by being added up. Rows are normalised; NaN rows stay NaN.

    Parameters
    ----------
    P : array of shape (..., k)
        Probabilities, or other non-negative scores, over the labels of ``source``.
    source : LabelSpace

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
    P = np.asarray(P, dtype=float)
    goals = to_emotions(np.eye(len(source)), source).argmax(axis=1)
    if P.shape[-1] != len(source):
        raise DataError(f"{source.name} has {len(source)} labels, but the probabilities have {P.shape[-1]} columns")
    merged = np.zeros((*P.shape[:-1], len(EKMAN)))
    for column, goal in enumerate(goals):
        merged[..., goal] = np.maximum(merged[..., goal], P[..., column])
    merged[np.isnan(P).any(axis=-1)] = np.nan
    return np.asarray(merged / merged.sum(axis=-1, keepdims=True))


def to_sentiment(P: np.ndarray) -> np.ndarray:
    """Map probabilities (..., 7) over `EKMAN` onto negative, neutral and positive (..., 3)."""
    return map_probabilities(P, EKMAN, SENTIMENT, _ONTO_SENTIMENT)


def restrict(P: np.ndarray, source: LabelSpace, labels: Sequence[str]) -> np.ndarray:
    """Condition probabilities (n, k) on the answer being one of ``labels``; columns in that order, rows sum to 1."""
    columns = [source.index(label) for label in labels]
    P = np.asarray(P, dtype=float)[..., columns]
    return np.asarray(P / P.sum(axis=-1, keepdims=True))
