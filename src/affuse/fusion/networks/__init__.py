"""Joint networks (extra ``train``): small torch modules over named modalities, and one estimator that trains them all.

Nothing here imports torch until a network is made; where it is missing, MissingExtraError names the pip command. Which
networks there are follows from `affuse.fusion.networks.catalogue`.
"""

# ruff: noqa: F403 - the stars are for type checkers and editors only; `__all__` is made of the tables
from typing import TYPE_CHECKING

from affuse.fusion.networks.catalogue import NETWORKS, class_homes, names, reads
from affuse.fusion.networks.fuser import NetworkFuser
from affuse.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES, extra="train")
