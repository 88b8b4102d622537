"""What every kind of file has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from affuse.results import Analysis

__all__ = ["Format", "Place", "head_of"]

_HEAD = 65_536  # bytes that are enough to know our own JSON and HTML by


@dataclass(frozen=True)
class Place:
    """Where a file will be, and the language of its sentences.

    Parameters
    ----------
    path : Path
        The file, by its final name: links in it are relative to its folder.
    language : str
        "en" or "zh".

    Examples
    --------
    >>> Place(Path("results/clip.html")).language
    'en'
    """

    path: Path
    language: str = "en"


class Format(ABC):
    """A kind of file that an analysis is written as.

    Another package adds one by an entry point of the group ``affuse.formats``.

    Examples
    --------
    >>> class Headline(Format):
    ...     suffix = ".headline.txt"
    ...
    ...     def write(self, analysis, part, place):
    ...         part.write_text(f"{analysis.summary.label}\\\\n", encoding="utf-8")
    >>> Headline().is_replaceable(Path("clip.headline.txt"))
    False
    """

    suffix: ClassVar[str]
    """What is put behind the stem, with the dot."""

    @abstractmethod
    def write(self, analysis: Analysis, part: Path, place: Place) -> None:
        """Write the file.

        Parameters
        ----------
        analysis : Analysis
            What was found.
        part : Path
            The file to write; it gets its final name when all files are written.
        place : Place
            The final name, and the language.
        """

    def is_replaceable(self, path: Path) -> bool:
        """Whether a file that exists may be written anew.

        No by default: files of annotation tools may hold corrections, which must not be lost.

        Parameters
        ----------
        path : Path
            A file with the suffix of the format.

        Returns
        -------
        bool
        """
        return False


def head_of(path: Path) -> str:
    """The beginning of a text file."""
    with path.open("rb") as file:
        return file.read(_HEAD).decode("utf-8", errors="replace")
