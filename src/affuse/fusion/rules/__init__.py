"""Fixed rules over class probabilities: means, products, order statistics and votes.

Which rules there are follows from `affuse.fusion.registry`. The docstring of each says what it does with missing
modalities and with ties.
"""

# ruff: noqa: F403 - the stars are for type checkers and editors only; `__all__` is made of the tables below
from typing import TYPE_CHECKING

from affuse.fusion.registry import class_homes
from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.fusion.rules.averaging import *
    from affuse.fusion.rules.extremes import *
    from affuse.fusion.rules.product import *
    from affuse.fusion.rules.voting import *

_HOMES = class_homes(__name__)

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
