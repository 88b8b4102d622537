"""Fusers by name.

Those of affuse, and those that other packages register under the entry point group ``affuse.fusers``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError

if TYPE_CHECKING:
    from affuse.fusion.estimator import Fuser

__all__ = ["GROUP", "find", "make", "names", "third_party"]

GROUP = "affuse.fusers"

# Classes are imported when they are asked for: scikit-learn takes most of a second.
BUILT_IN = {
    "auto": "affuse.fusion.trust.auto:AutoFusion",
    "borda": "affuse.fusion.rules.voting:BordaCount",
    "classwise": "affuse.fusion.reliability:ClasswisePool",
    "common_cause": "affuse.fusion.causes:CommonCausePool",
    "confidence_vote": "affuse.fusion.rules.voting:ConfidenceWeightedVote",
    "dempster_shafer": "affuse.fusion.evidence:DempsterShafer",
    "discounted": "affuse.fusion.dynamic:DiscountedBeliefFusion",
    "energy": "affuse.fusion.dynamic:EnergyWeighted",
    "entropy": "affuse.fusion.rules.averaging:EntropyWeighted",
    "gated": "affuse.fusion.learned:GatedFusion",
    "log_pool": "affuse.fusion.calibrated:CalibratedLogPool",
    "max": "affuse.fusion.rules.extremes:MaxRule",
    "mean": "affuse.fusion.rules.averaging:MeanRule",
    "median": "affuse.fusion.rules.extremes:MedianRule",
    "min": "affuse.fusion.rules.extremes:MinRule",
    "optimized": "affuse.fusion.learned:OptimizedWeights",
    "pdf": "affuse.fusion.dynamic:PredictiveDynamicFusion",
    "performance": "affuse.fusion.rules.averaging:PerformanceWeighted",
    "product": "affuse.fusion.rules.product:ProductRule",
    "safe": "affuse.fusion.trust.safe:SafeFusion",
    "random_effects": "affuse.fusion.effects:RandomEffectsFusion",
    "stacking": "affuse.fusion.learned:Stacking",
    "vote": "affuse.fusion.rules.voting:MajorityVote",
    "weighted": "affuse.fusion.rules.averaging:WeightedMeanRule",
    "weighted_vote": "affuse.fusion.rules.voting:WeightedVote",
}


def names() -> list[str]:
    """Names of all fusers that can be made here, sorted."""
    return sorted({*BUILT_IN, *third_party()})


def find(name: str) -> type[Fuser]:
    """The class registered under ``name``; affuse's own come first. Raises ConfigError for an unknown name."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    others = third_party()
    if name not in others:
        raise ConfigError(f"unknown fuser {name!r}; known: {', '.join(names())}")
    return others[name].load()


def make(name: str, **parameters: Any) -> Fuser:
    """An unfitted fuser by name. Raises ConfigError for an unknown name or parameter."""
    kind = find(name)
    known = list(kind().get_params(deep=False))
    unknown = [p for p in parameters if p not in known]
    if unknown:
        raise ConfigError(f"{name} has no parameter {unknown[0]!r}; it has: {', '.join(known) or 'none'}")
    return kind(**parameters)


def third_party() -> dict[str, EntryPoint]:
    """Entry points of other packages, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}
