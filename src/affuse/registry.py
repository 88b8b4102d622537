"""Components by name: one table for those of affuse, one entry point group for those of other packages."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from typing import Any

from affuse.errors import ConfigError
from affuse.lazy import needs_extra

__all__ = ["Registry", "one_or_more", "suggestion"]


class Registry:
    """Classes and functions by name, imported when they are asked for.

    A built-in component is one class and one line in the table; another package adds one by an entry point of the
    group. Built-in components come first, so that no other package can replace one by accident.

    Parameters
    ----------
    kind : str
        What the components are, for messages, such as ``"fuser"``.
    built_in : mapping of str to str
        Where the components of affuse are, as ``"module:attribute"``, by name.
    group : str, optional
        Entry point group under which other packages register theirs.
    extra : str, optional
        Extra of affuse that a missing library belongs to, such as ``"train"``.
    normalise : callable, optional
        Turns a name into the form in which names are compared, such as `str.lower`.

    Examples
    --------
    >>> codecs = Registry("codec", {"json": "json:loads", "toml": "tomllib:loads"})
    >>> codecs.names()
    ['json', 'toml']
    >>> codecs.find("json")("[1, 2]")
    [1, 2]
    >>> codecs.find("jsom")
    Traceback (most recent call last):
    ...
    affuse.errors.ConfigError: unknown codec 'jsom' (did you mean 'json'?); known: json, toml
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, str],
        group: str | None = None,
        extra: str | None = None,
        normalise: Callable[[str], str] = str,
    ) -> None:
        self.kind = kind
        self.built_in = built_in
        self.group = group
        self.extra = extra
        self.normalise = normalise

    def names(self) -> list[str]:
        """Names of all components, those of other packages included, sorted.

        Returns
        -------
        list of str
        """
        return sorted({*self.built_in, *self.third_party()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._known(name) is not None

    def third_party(self) -> dict[str, EntryPoint]:
        """Entry points of other packages by name.

        Returns
        -------
        dict of str to importlib.metadata.EntryPoint
        """
        return {} if self.group is None else dict(_entry_points(self.group, tuple(sys.path), entry_points))

    def canonical(self, name: str) -> str:
        """The registered form of a name.

        Parameters
        ----------
        name : str
            A name in any form that ``normalise`` makes equal to a registered one.

        Returns
        -------
        str

        Raises
        ------
        ConfigError
            If there is no such component; the message names what is near and what there is.
        """
        known = self._known(name)
        if known is None:
            names = self.names()
            raise ConfigError(f"unknown {self.kind} {name!r}{suggestion(name, names)}; known: {', '.join(names)}")
        return known

    def find(self, name: str) -> Any:
        """The class or function that is registered under a name.

        Parameters
        ----------
        name : str
            Name of the component.

        Returns
        -------
        type or callable

        Raises
        ------
        ConfigError
            If there is no such component.
        MissingExtraError
            If a library is missing that the component needs.
        """
        known = self.canonical(name)
        if known not in self.built_in:
            return self.third_party()[known].load()
        module, _, attribute = self.built_in[known].partition(":")
        with needs_extra(self.extra):
            return getattr(import_module(module), attribute)

    def make(self, name: str, **options: Any) -> Any:
        """A new component with the given options.

        Parameters
        ----------
        name : str
            Name of the component.
        **options
            Arguments of its class.

        Returns
        -------
        object

        Raises
        ------
        ConfigError
            If there is no such component, or it has no such option.
        """
        component = self.find(name)
        known = [key for key, value in signature(component).parameters.items() if value.kind != value.VAR_KEYWORD]
        if len(known) == len(signature(component).parameters):
            for key in options:
                if key not in known:
                    raise ConfigError(
                        f"the {self.kind} {name!r} has no option {key!r}{suggestion(key, known)}; "
                        f"options: {', '.join(known) or 'none'}"
                    )
        return component(**options)

    def _known(self, name: str) -> str | None:
        form = self.normalise(name)
        for names in (self.built_in, self.third_party()):
            for known in names:
                if self.normalise(known) == form:
                    return known
        return None


@lru_cache
def _entry_points(
    group: str, path: tuple[str, ...], read: Callable[..., Iterable[EntryPoint]]
) -> dict[str, EntryPoint]:
    """Entry points by name, searched once for each ``path``: the search reads a file of every installed package."""
    return {point.name: point for point in read(group=group)}


def one_or_more(given: str | Path | Iterable[Any]) -> list[Any]:
    """A list of what may also be given alone: a name or path, or several of them.

    Parameters
    ----------
    given : str or Path, or iterable
        One name or path, or several.

    Returns
    -------
    list

    Examples
    --------
    >>> one_or_more("mean")
    ['mean']
    >>> one_or_more(("mean", "product"))
    ['mean', 'product']
    """
    return [given] if isinstance(given, str | Path) else list(given)


def suggestion(word: str, known: list[str]) -> str:
    """A hint such as " (did you mean 'x'?)" for a mistyped word; empty where nothing is near.

    Parameters
    ----------
    word : str
        What was given.
    known : list of str
        What could have been meant.

    Returns
    -------
    str

    Examples
    --------
    >>> suggestion("meen", ["max", "mean"])
    " (did you mean 'mean'?)"
    """
    near = difflib.get_close_matches(word, known, n=2)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
