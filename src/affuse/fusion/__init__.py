"""Fusion of what experts say: P (n samples, m modalities, k classes) in, one answer a row out; NaN is "no evidence"."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from affuse.fusion.base import check_probabilities, present, stack
from affuse.fusion.explain import conflict, conflict_in_words, shapley_shares
from affuse.fusion.pooling import LogPool, log_pool, soften

if TYPE_CHECKING:
    from affuse.fusion.calibrated import CalibratedLogPool
    from affuse.fusion.dynamic import DiscountedBeliefFusion, EnergyWeighted, PredictiveDynamicFusion
    from affuse.fusion.estimator import Fuser
    from affuse.fusion.evidence import DempsterShafer
    from affuse.fusion.learned import GatedFusion, OptimizedWeights, Stacking
    from affuse.fusion.registry import find, make, names
    from affuse.fusion.rules import (
        BordaCount,
        ConfidenceWeightedVote,
        EntropyWeighted,
        MajorityVote,
        MaxRule,
        MeanRule,
        MedianRule,
        MinRule,
        PerformanceWeighted,
        ProductRule,
        WeightedMeanRule,
        WeightedVote,
    )

__all__ = [
    "BordaCount",
    "CalibratedLogPool",
    "ConfidenceWeightedVote",
    "DempsterShafer",
    "DiscountedBeliefFusion",
    "EnergyWeighted",
    "EntropyWeighted",
    "Fuser",
    "GatedFusion",
    "LogPool",
    "MajorityVote",
    "MaxRule",
    "MeanRule",
    "MedianRule",
    "MinRule",
    "OptimizedWeights",
    "PerformanceWeighted",
    "PredictiveDynamicFusion",
    "ProductRule",
    "Stacking",
    "WeightedMeanRule",
    "WeightedVote",
    "check_probabilities",
    "conflict",
    "conflict_in_words",
    "find",
    "log_pool",
    "make",
    "names",
    "present",
    "shapley_shares",
    "soften",
    "stack",
]

# Estimators need scikit-learn, which takes most of a second to import; an analysis only uses a learned pool.
_HOMES = {
    "affuse.fusion.calibrated": ["CalibratedLogPool"],
    "affuse.fusion.dynamic": ["DiscountedBeliefFusion", "EnergyWeighted", "PredictiveDynamicFusion"],
    "affuse.fusion.estimator": ["Fuser"],
    "affuse.fusion.evidence": ["DempsterShafer"],
    "affuse.fusion.learned": ["GatedFusion", "OptimizedWeights", "Stacking"],
    "affuse.fusion.registry": ["find", "make", "names"],
    "affuse.fusion.rules": [
        "BordaCount",
        "ConfidenceWeightedVote",
        "EntropyWeighted",
        "MajorityVote",
        "MaxRule",
        "MeanRule",
        "MedianRule",
        "MinRule",
        "PerformanceWeighted",
        "ProductRule",
        "WeightedMeanRule",
        "WeightedVote",
    ],
}
_LAZY = {name: home for home, names_there in _HOMES.items() for name in names_there}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
