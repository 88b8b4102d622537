"""Turns of speech: who spoke when, and how surely."""

from __future__ import annotations

from dataclasses import dataclass

from affuse.errors import ConfigError
from affuse.timeline import Segment

__all__ = ["Turn"]


@dataclass(frozen=True)
class Turn:
    """A stretch of speech of one speaker.

    Parameters
    ----------
    segment : Segment
        When, in seconds.
    speaker : str
        Who: a name that was given, or "person 1" of a face that was followed.
    probability : float
        How sure it is that this speaker spoke, 0…1; 1 where it was given.

    Raises
    ------
    ConfigError
        If the probability is not within 0…1.

    Examples
    --------
    >>> Turn(Segment(0.0, 1.5), "Anna").probability
    1.0
    """

    segment: Segment
    speaker: str
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"a probability lies within 0 and 1; got {self.probability:g}")
