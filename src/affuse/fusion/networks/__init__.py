"""Joint networks (extra ``train``): small torch modules over named modalities, and one estimator that trains them all.

Nothing here imports torch until a network is made; where it is missing, MissingExtraError names the pip command. Which
networks there are follows from `affuse.fusion.networks.catalogue`.
"""

# ruff: noqa: F403 - the stars are for type checkers and editors only; `__all__` is made of the tables
from importlib import import_module
from typing import TYPE_CHECKING, Any

from affuse.errors import MissingExtraError
from affuse.fusion.networks.catalogue import NETWORKS, class_homes, names, reads
from affuse.fusion.networks.fuser import NetworkFuser

if TYPE_CHECKING:
    from affuse.fusion.networks.files import *
    from affuse.fusion.networks.parts import FusionNetwork as FusionNetwork
    from affuse.fusion.networks.rows import *
    from affuse.fusion.networks.sequences import *

_HOMES = {
    **class_homes(),
    "FusionNetwork": "affuse.fusion.networks.parts",
    "load": "affuse.fusion.networks.files",
    "save": "affuse.fusion.networks.files",
}

__all__ = ["NETWORKS", "NetworkFuser", "names", "reads"]
__all__ += sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "train") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
