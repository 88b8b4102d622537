"""Early fusion: classifiers over feature blocks side by side, X (n, d) with ``blocks`` that name its columns."""

from affuse.fusion.early.base import BlockClassifier, EarlyFuser
from affuse.fusion.early.blocks import Blocks, check_features, present_blocks, resolve_blocks
from affuse.fusion.early.correlated import CCAFusion
from affuse.fusion.early.joined import Concatenation, WeightedConcatenation
from affuse.fusion.early.projected import ProductFusion, SumFusion

__all__ = [
    "BlockClassifier",
    "Blocks",
    "CCAFusion",
    "Concatenation",
    "EarlyFuser",
    "ProductFusion",
    "SumFusion",
    "WeightedConcatenation",
    "check_features",
    "present_blocks",
    "resolve_blocks",
]
