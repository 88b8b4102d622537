"""What an extractor is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Clip", "Features", "Item", "Measured", "NoEvidenceError"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Clip:
    """A stretch of a recording.

    Parameters
    ----------
    path : Path
        The recording.
    start, end : float, optional
        Where the stretch begins and ends, in seconds; where None, at the beginning and the end of the recording.

    Examples
    --------
    >>> Clip(Path("talk.wav"), start=2.0, end=4.5).end
    4.5
    """

    path: Path
    start: float | None = None
    end: float | None = None


Item = str | Path | Clip | np.ndarray
"""Text: str. Voice: a path, a `Clip` or mono samples (n,) at 16 kHz. Face: a path, a `Clip` or a uint8 picture."""


class NoEvidenceError(Exception):
    """There is nothing to measure in an item; the message says why. It becomes a row of NaN with a reason."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one item, before anything is learned.

    Parameters
    ----------
    value : object
        What an extractor looks at next; None where there is nothing to measure.
    reason : str
        Why there is nothing; empty otherwise.

    Examples
    --------
    >>> Measured(None, "silence").reason
    'silence'
    """

    value: Any
    reason: str = ""


@dataclass(frozen=True)
class Features:
    """Rows of features.

    Parameters
    ----------
    values : array of shape (n_items, n_features)
        A row of NaN for an item without evidence.
    names : tuple of str, length n_features
        Names of the columns.
    reasons : tuple of str, length n_items
        Why a row is missing; empty otherwise.

    Examples
    --------
    >>> rows = Features(np.array([[1.0], [np.nan]]), ("pitch",), ("", "silence"))
    >>> rows.reasons[1]
    'silence'
    """

    values: Array
    names: tuple[str, ...]
    reasons: tuple[str, ...]
