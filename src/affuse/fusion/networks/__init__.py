"""Joint networks (extra ``train``): small torch modules over named modalities, and one estimator that trains them all.

Nothing here imports torch until a network is made; where it is missing, MissingExtraError names the pip command.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from affuse.errors import MissingExtraError
from affuse.fusion.networks.catalogue import NETWORKS, names, reads
from affuse.fusion.networks.fuser import NetworkFuser

if TYPE_CHECKING:
    from affuse.fusion.networks.files import load, save
    from affuse.fusion.networks.parts import FusionNetwork
    from affuse.fusion.networks.rows import (
        GatedMultimodalUnit,
        LateFusion,
        LowRankFusion,
        MultimodalAutoencoder,
        TensorFusion,
    )
    from affuse.fusion.networks.sequences import (
        ContextualAttention,
        ContextualLSTM,
        ConvolutionalLSTM,
        CrossAttention,
    )

__all__ = [
    "NETWORKS",
    "ContextualAttention",
    "ContextualLSTM",
    "ConvolutionalLSTM",
    "CrossAttention",
    "FusionNetwork",
    "GatedMultimodalUnit",
    "LateFusion",
    "LowRankFusion",
    "MultimodalAutoencoder",
    "NetworkFuser",
    "TensorFusion",
    "load",
    "names",
    "reads",
    "save",
]

_HOMES = {
    "files": ["load", "save"],
    "parts": ["FusionNetwork"],
    "rows": ["GatedMultimodalUnit", "LateFusion", "LowRankFusion", "MultimodalAutoencoder", "TensorFusion"],
    "sequences": ["ContextualAttention", "ContextualLSTM", "ConvolutionalLSTM", "CrossAttention"],
}
_LAZY = {name: home for home, names_there in _HOMES.items() for name in names_there}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "train") from error
