"""Which set of weights answers: the research set, or the smaller one that learned from data for commercial use alone.

The first of these that says so decides: an argument or option, the variable ``AFFUSE_WEIGHTS``, and what ``affuse
models use`` keeps in the user's folder of settings (``AFFUSE_CONFIG`` moves it). Otherwise it is the research set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from affuse.errors import ConfigError
from affuse.files import write_json

__all__ = ["COMMERCIAL", "MIXED", "RESEARCH", "SETS", "choice_file", "chosen_set", "in_use", "joint_set", "use"]

RESEARCH, COMMERCIAL, MIXED = "research", "commercial", "mixed"

SETS = (RESEARCH, COMMERCIAL)
"""The sets of weights that come with affuse."""

_FIELD = "weights"


def in_use() -> str:
    """The set that answers where no argument or option names one.

    Returns
    -------
    str
        One of `SETS`.

    Raises
    ------
    ConfigError
        If ``AFFUSE_WEIGHTS`` names another, or the file of settings cannot be read: nobody falls back to weights that
        may not be used.

    Examples
    --------
    >>> in_use() in SETS
    True
    """
    return chosen_set(None)


def chosen_set(asked: str | None) -> str:
    """The set that was asked for, or the one in use where None.

    Parameters
    ----------
    asked : str or None
        One of `SETS`.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        If there is no such set, and as `in_use`.

    Examples
    --------
    >>> chosen_set("commercial")
    'commercial'
    """
    if asked is not None:
        return _known(asked, "")
    variable = os.environ.get("AFFUSE_WEIGHTS")
    return _known(variable, "AFFUSE_WEIGHTS: ") if variable else _kept()


def use(chosen: str) -> Path:
    """Keep a choice for this user, from the next command on.

    Parameters
    ----------
    chosen : str
        One of `SETS`.

    Returns
    -------
    Path
        The file that keeps it.

    Raises
    ------
    ConfigError
        If there is no such set.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import os
    >>> os.environ["AFFUSE_CONFIG"] = "settings"
    >>> use("commercial").as_posix(), in_use()
    ('settings/weights.json', 'commercial')
    >>> del os.environ["AFFUSE_CONFIG"]
    """
    path = choice_file()
    write_json(path, {_FIELD: _known(chosen, "")})
    return path


def joint_set(found: Iterable[str | None]) -> str | None:
    """The set of weights whose parts are of these sets.

    Parameters
    ----------
    found : iterable of str or None
        Sets of the parts; None for those that are of none alone.

    Returns
    -------
    str or None
        One of `SETS`; "mixed" where they are of several, None where they are of none.

    Examples
    --------
    >>> joint_set(["research", None]), joint_set(["research", "commercial"]), joint_set([])
    ('research', 'mixed', None)
    """
    alone = {each for each in found if each is not None}
    return MIXED if len(alone) > 1 else next(iter(alone), None)


def choice_file() -> Path:
    """Where the choice of `use` is kept.

    Returns
    -------
    Path
        ``weights.json`` in ``$AFFUSE_CONFIG``, or in the place that the operating system has for settings.

    Examples
    --------
    >>> choice_file().name
    'weights.json'
    """
    folder = os.environ.get("AFFUSE_CONFIG")
    if folder:
        return Path(folder) / "weights.json"
    from platformdirs import user_config_path

    return user_config_path("affuse", appauthor=False) / "weights.json"


def _kept() -> str:
    path = choice_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return RESEARCH
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}, which says what weights to use, cannot be read: {error}") from error
    try:
        return _known(json.loads(text)[_FIELD], f"{path}: ")
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f'{path} must hold {{"{_FIELD}": "{RESEARCH}"}} or another set; run: affuse models use {RESEARCH}'
        ) from None


def _known(name: object, where: str) -> str:
    if name not in SETS:
        raise ConfigError(f"{where}unknown set of weights {name!r}; known: {', '.join(SETS)}")
    return str(name)
