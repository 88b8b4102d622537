"""The names of the splits of labelled data: train, dev and test."""

from __future__ import annotations

from affuse.errors import ConfigError
from affuse.registry import suggestion

__all__ = ["SPLITS", "find_split", "split_name"]

SPLITS = ("train", "dev", "test")
"""What models learn from, what settings are chosen and figures are reported by, and what is opened once, at the end."""

_OTHER_NAMES = {
    "train": ("train", "training"),
    "dev": ("dev", "development", "valid", "val", "validation", "holdout"),
    "test": ("test", "testing"),
}
_SPLITS = {name: split for split, names in _OTHER_NAMES.items() for name in names}


def find_split(text: str) -> str | None:
    """The split that a word names, if it names one.

    Parameters
    ----------
    text : str
        Any text, such as the name of a folder.

    Returns
    -------
    {"train", "dev", "test"} or None
        None where the text is no name of a split.

    Examples
    --------
    >>> find_split("Validation"), find_split("speaker_3")
    ('dev', None)
    """
    return _SPLITS.get(text.strip().casefold())


def split_name(text: str) -> str:
    """The split that a word names; "valid", "validation" and "val" are other names of "dev".

    Parameters
    ----------
    text : str
        Name of a split in any case.

    Returns
    -------
    {"train", "dev", "test"}

    Raises
    ------
    ConfigError
        If it is no name of a split.

    Examples
    --------
    >>> split_name("train"), split_name("VALID"), split_name("development")
    ('train', 'dev', 'dev')
    """
    found = find_split(text)
    if found is None:
        raise ConfigError(f"unknown split {text!r}{suggestion(text, list(_SPLITS))}; known: {', '.join(SPLITS)}")
    return found
