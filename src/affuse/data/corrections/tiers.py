"""How the tiers of annotation files are called, and what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Annotation", "CorrectedRecording", "split_tier_name", "tier_name"]


@dataclass(frozen=True)
class Annotation:
    """A labelled stretch of a recording: ``start`` and ``end`` in seconds, who it is about, and the words in it."""

    start: float
    end: float
    label: str
    speaker: str = ""
    text: str = ""


@dataclass(frozen=True)
class CorrectedRecording:
    """What a file says about one recording.

    ``where`` names its place for messages; ``media`` lists names and paths of the recording, the surest first.
    """

    where: str
    media: Sequence[str]
    annotations: Sequence[Annotation]


def tier_name(kind: str, person: str | None) -> str:
    """Name of the tier of one person, as annotation tools show it.

    Parameters
    ----------
    kind : str
        What the tier holds, such as "emotion"; without "@".
    person : str or None
        Who it is about; None where nobody is told apart.

    Returns
    -------
    str

    Examples
    --------
    >>> tier_name("emotion", "Anna"), tier_name("words", None)
    ('emotion@Anna', 'words')
    """
    return f"{kind}@{person}" if person else kind


def split_tier_name(name: str) -> tuple[str, str]:
    """Kind and person of a tier; the person is empty where the name holds none.

    Parameters
    ----------
    name : str
        Name of a tier, as `tier_name` makes it.

    Returns
    -------
    tuple of two str

    Examples
    --------
    >>> split_tier_name("emotion@Anna"), split_tier_name("words")
    (('emotion', 'Anna'), ('words', ''))
    """
    kind, _, person = name.partition("@")
    return kind.strip(), person.strip()
