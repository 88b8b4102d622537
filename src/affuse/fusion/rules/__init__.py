"""Fixed rules over class probabilities: means, products, order statistics and votes.

Which rules there are follows from `affuse.fusion.registry`. The docstring of each says what it does with missing
modalities and with ties.
"""

# ruff: noqa: F403 - the stars are for type checkers and editors only; `__all__` is made of the tables below
from importlib import import_module
from typing import TYPE_CHECKING, Any

from affuse.fusion.registry import class_homes

if TYPE_CHECKING:
    from affuse.fusion.rules.averaging import *
    from affuse.fusion.rules.extremes import *
    from affuse.fusion.rules.product import *
    from affuse.fusion.rules.voting import *

_HOMES = class_homes(__name__)

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
