"""One colour an emotion, the same in the page, the terminal and figures."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "INKS", "LETTERS", "STACK", "palette"]

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

# Text on each colour, with a contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3).
INKS = dict.fromkeys(COLOURS, "#14171A") | {"sadness": "#FFFFFF"}

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


def palette() -> dict[str, Any]:
    """The colours as the pages' scripts read them."""
    return {"colours": COLOURS, "inks": INKS, "stack": list(STACK)}
