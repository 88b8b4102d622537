"""Fusion of what experts say: P (n samples, m modalities, k classes) in, one answer a row out; NaN is "no evidence"."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from affuse.fusion.base import check_probabilities, present, stack
from affuse.fusion.explain import conflict, conflict_in_words, shapley_shares
from affuse.fusion.pooling import common_cause_pool, log_pool, temperature_scale

if TYPE_CHECKING:
    from affuse.fusion.adaptive import AdaptiveFuser, adapt_rows
    from affuse.fusion.calibrated import CalibratedLogPool
    from affuse.fusion.causes import CommonCausePool
    from affuse.fusion.dynamic import DiscountedBeliefFusion, EnergyWeighted, PredictiveDynamicFusion
    from affuse.fusion.early import CCAFusion, Concatenation, ProductFusion, SumFusion, WeightedConcatenation
    from affuse.fusion.effects import RandomEffectsFusion
    from affuse.fusion.estimator import Fuser
    from affuse.fusion.evidence import DempsterShafer
    from affuse.fusion.learned import GatedFusion, OptimizedWeights, Stacking
    from affuse.fusion.named import NamedFuser
    from affuse.fusion.networks import NetworkFuser
    from affuse.fusion.persistence import load, save
    from affuse.fusion.registry import find, make, names
    from affuse.fusion.reliability import ClasswisePool
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
    from affuse.fusion.trust import (
        AutoFusion,
        ConfidenceRise,
        ConformalSets,
        IsotonicScaling,
        Leak,
        SafeFusion,
        TemperatureScaling,
        VectorScaling,
        confidence_rise,
        leak_alarm,
        leak_alarm_features,
    )

__all__ = [
    "AdaptiveFuser",
    "AutoFusion",
    "BordaCount",
    "CCAFusion",
    "CalibratedLogPool",
    "ClasswisePool",
    "CommonCausePool",
    "Concatenation",
    "ConfidenceRise",
    "ConfidenceWeightedVote",
    "ConformalSets",
    "DempsterShafer",
    "DiscountedBeliefFusion",
    "EnergyWeighted",
    "EntropyWeighted",
    "Fuser",
    "GatedFusion",
    "IsotonicScaling",
    "Leak",
    "MajorityVote",
    "MaxRule",
    "MeanRule",
    "MedianRule",
    "MinRule",
    "NamedFuser",
    "NetworkFuser",
    "OptimizedWeights",
    "PerformanceWeighted",
    "PredictiveDynamicFusion",
    "ProductFusion",
    "ProductRule",
    "RandomEffectsFusion",
    "SafeFusion",
    "Stacking",
    "SumFusion",
    "TemperatureScaling",
    "VectorScaling",
    "WeightedConcatenation",
    "WeightedMeanRule",
    "WeightedVote",
    "adapt_rows",
    "check_probabilities",
    "common_cause_pool",
    "confidence_rise",
    "conflict",
    "conflict_in_words",
    "find",
    "leak_alarm",
    "leak_alarm_features",
    "load",
    "log_pool",
    "make",
    "names",
    "present",
    "save",
    "shapley_shares",
    "stack",
    "temperature_scale",
]

# Some of these need scikit-learn, which takes seconds to import; a fitted fuser of probabilities predicts without it.
_HOMES = {
    "affuse.fusion.adaptive": ["AdaptiveFuser", "adapt_rows"],
    "affuse.fusion.effects": ["RandomEffectsFusion"],
    "affuse.fusion.calibrated": ["CalibratedLogPool"],
    "affuse.fusion.causes": ["CommonCausePool"],
    "affuse.fusion.dynamic": ["DiscountedBeliefFusion", "EnergyWeighted", "PredictiveDynamicFusion"],
    "affuse.fusion.early": ["CCAFusion", "Concatenation", "ProductFusion", "SumFusion", "WeightedConcatenation"],
    "affuse.fusion.estimator": ["Fuser"],
    "affuse.fusion.evidence": ["DempsterShafer"],
    "affuse.fusion.learned": ["GatedFusion", "OptimizedWeights", "Stacking"],
    "affuse.fusion.named": ["NamedFuser"],
    "affuse.fusion.networks": ["NetworkFuser"],
    "affuse.fusion.persistence": ["load", "save"],
    "affuse.fusion.registry": ["find", "make", "names"],
    "affuse.fusion.reliability": ["ClasswisePool"],
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
    "affuse.fusion.trust": [
        "AutoFusion",
        "ConfidenceRise",
        "ConformalSets",
        "IsotonicScaling",
        "Leak",
        "SafeFusion",
        "TemperatureScaling",
        "VectorScaling",
        "confidence_rise",
        "leak_alarm",
        "leak_alarm_features",
    ],
}
_LAZY = {name: home for home, names_there in _HOMES.items() for name in names_there}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
