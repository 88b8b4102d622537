"""One colour a label, the same in the page, the terminal and figures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from string import ascii_uppercase, digits
from typing import Any
from zlib import crc32

import numpy as np

__all__ = ["COLOURS", "INKS", "LETTERS", "STACK", "Palette", "palette"]

# After Okabe & Ito (2008), which stays apart under the three common colour-vision deficiencies. Their yellow is
# taken a little darker, since the original glares on white.
COLOURS = {
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happiness": "#F0C530",
    "sadness": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#BFC4C9",
}

_DARK, _LIGHT = "#14171A", "#FFFFFF"

# Text on each colour, with a contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3).
INKS = dict.fromkeys(COLOURS, _DARK) | {"sadness": _LIGHT}

# Where there is no room for a word: surprise is U, since S is sadness.
LETTERS = {
    "anger": "A",
    "disgust": "D",
    "fear": "F",
    "happiness": "H",
    "sadness": "S",
    "surprise": "U",
    "neutral": "N",
}

# From the bottom of a stacked plot to its top: unpleasant, neutral, pleasant, so that its height reads as a mood.
STACK = ("sadness", "fear", "disgust", "anger", "neutral", "surprise", "happiness")

# The scheme "muted" of Tol (2021), made for colour-blind readers, and lighter and darker shades of it.
_MUTED = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
_SHADES = ((0.0, 0.0), (0.45, 1.0), (0.35, 0.0))  # how far each is mixed with which grey level
_APART = 0.06  # distance in OKLab, three just noticeable differences

# Machado, Oliveira & Fernandes (2009), severity 1.0: how colours are seen with each deficiency.
_SEEN = np.array(
    [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)

# Ottosson (2020), OKLab: a space in which distances are about as seen.
_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


class Palette:
    """Colours, letters and order of the labels of an analysis.

    The seven common emotions have colours and letters of their own. Another label gets the first colour of a list that
    is told apart from those taken already, also by colour-blind readers; where the list begins depends on its name, so
    that the same labels always have the same colours, in whatever order they come.

    ``colours``, ``inks`` (of text on them) and ``letters`` are by label; ``stack`` is the order in stacked plots.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        own = sorted(label for label in labels if label not in COLOURS)
        known = [label for label in labels if label in COLOURS]
        colours = {label: COLOURS[label] for label in known}
        letters = {label: LETTERS[label] for label in known}
        for label in own:
            colours[label] = _colour(label, tuple(colours.values()))
            letters[label] = _letter(label, set(letters.values()))
        self.colours = {label: colours[label] for label in labels}
        self.inks = {label: INKS.get(label) or _ink(colour) for label, colour in self.colours.items()}
        self.letters = {label: letters[label] for label in labels}
        ordered = [label for label in STACK if label in known]
        middle = ordered.index("neutral") if "neutral" in ordered else len(ordered)
        self.stack = (*ordered[:middle], *(label for label in labels if label not in COLOURS), *ordered[middle:])

    def to_dict(self) -> dict[str, Any]:
        """The colours as the scripts of the pages read them."""
        return {"colours": self.colours, "inks": self.inks, "stack": list(self.stack)}


@lru_cache(maxsize=64)
def palette(labels: tuple[str, ...] = tuple(COLOURS)) -> Palette:
    """The palette of some labels; by default of the seven common emotions."""
    return Palette(labels)


def _candidates() -> list[str]:
    mixed = []
    for share, grey in _SHADES:
        for colour in _MUTED:
            rgb = (1 - share) * _rgb(colour) + share * grey
            mixed.append("#" + "".join(f"{round(255 * value):02X}" for value in rgb))
    return mixed


def _colour(label: str, taken: Sequence[str]) -> str:
    candidates = _candidates()
    start = crc32(label.encode("utf-8")) % len(_MUTED)
    turned = candidates[start : len(_MUTED)] + candidates[:start] + candidates[len(_MUTED) :]
    apart = [_distance(colour, taken) for colour in turned]
    return next((c for c, d in zip(turned, apart, strict=True) if d >= _APART), turned[int(np.argmax(apart))])


def _distance(colour: str, taken: Sequence[str]) -> float:
    """The least distance to any of ``taken`` as anybody sees it."""
    own = _as_seen(colour)
    return min((float(np.linalg.norm(own - _as_seen(other), axis=1).min()) for other in taken), default=np.inf)


@lru_cache(maxsize=256)
def _as_seen(colour: str) -> np.ndarray:
    """OKLab as it is seen without and with each deficiency, shape (4, 3)."""
    seen = np.clip(_SEEN @ _linear(colour), 0, 1)
    return np.asarray(np.cbrt(seen @ _LMS.T) @ _LAB.T)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _linear(colour: str) -> np.ndarray:
    c = _rgb(colour)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _ink(colour: str) -> str:
    """Of dark and light text, the one with the higher contrast (WCAG 2.2, relative luminance)."""

    def contrast(ink: str) -> float:
        low, high = sorted(float(_linear(c) @ (0.2126, 0.7152, 0.0722)) for c in (ink, colour))
        return (high + 0.05) / (low + 0.05)

    return max((_DARK, _LIGHT), key=contrast)


def _letter(label: str, taken: set[str]) -> str:
    """A letter of the name that no other label has, else any that is free."""
    own = [letter for letter in label.upper() if letter in ascii_uppercase]
    return next((letter for letter in (*own, *ascii_uppercase, *digits) if letter not in taken), "#")
