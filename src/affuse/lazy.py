"""Names and libraries that are loaded when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from affuse.errors import MissingExtraError

__all__ = ["lazy_names", "needs_extra"]


@contextmanager
def needs_extra(extra: str | None) -> Iterator[None]:
    """Raise MissingExtraError where a library is missing that an extra of affuse installs; None changes nothing.

    Examples
    --------
    >>> with needs_extra("train"):
    ...     import a_missing_library
    Traceback (most recent call last):
    ...
    affuse.errors.MissingExtraError: a_missing_library is not installed; run: pip install 'affuse[train]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("affuse"):
            raise
        raise MissingExtraError(str(error.name), extra) from error


def lazy_names(
    package: str, homes: Mapping[str, str], extra: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose names are imported when they are asked for (PEP 562).

    Parameters
    ----------
    package : str
        The package, ``__name__`` in its ``__init__.py``.
    homes : mapping of str to str
        Module of every name, such as "affuse.labels", or ".labels" for a module of the package.
    extra : str, optional
        Extra of affuse that installs the libraries behind the names.

    Returns
    -------
    tuple of two functions

    Examples
    --------
    >>> get, names = lazy_names("affuse", {"LabelSpace": ".labels"})
    >>> get("LabelSpace").__name__, "LabelSpace" in names()
    ('LabelSpace', True)
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs_extra(extra):
            return getattr(import_module(homes[name], package), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
