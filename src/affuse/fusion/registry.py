"""Fusers by name: those of affuse, and those of other packages under the entry point group ``affuse.fusers``.

A built-in fuser is one class and one line of `BUILT_IN`; the public names of `affuse.fusion` follow from it.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from affuse.registry import Registry

if TYPE_CHECKING:
    from affuse.fusion.estimator import Fuser

__all__ = ["BUILT_IN", "FUSERS", "GROUP", "class_homes", "find", "make", "name_of", "names", "third_party"]

GROUP = "affuse.fusers"

# Classes are imported when they are asked for: scikit-learn takes seconds.
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
    "random_effects": "affuse.fusion.effects:RandomEffectsFusion",
    "safe": "affuse.fusion.trust.safe:SafeFusion",
    "stacking": "affuse.fusion.learned:Stacking",
    "vote": "affuse.fusion.rules.voting:MajorityVote",
    "weighted": "affuse.fusion.rules.averaging:WeightedMeanRule",
    "weighted_vote": "affuse.fusion.rules.voting:WeightedVote",
}
"""Where every fuser of affuse is, as ``"module:class"``, by name."""

FUSERS = Registry("fuser", BUILT_IN, GROUP)
"""The registry of all fusers."""


def names() -> list[str]:
    """Names of all fusers that can be made here, those of other packages included, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> "product" in names()
    True
    """
    return FUSERS.names()


def find(name: str) -> type[Fuser]:
    """The class of a fuser. Those of affuse come before those of other packages.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    type

    Raises
    ------
    ConfigError
        If there is no such fuser.

    Examples
    --------
    >>> find("mean").__name__
    'MeanRule'
    """
    found: type[Fuser] = FUSERS.find(name)
    return found


def make(name: str, **parameters: Any) -> Fuser:
    """A new fuser that is not fitted yet.

    Parameters
    ----------
    name : str
        One of `names`.
    **parameters
        Parameters of its class.

    Returns
    -------
    Fuser

    Raises
    ------
    ConfigError
        If there is no such fuser, or it has no such parameter.

    Examples
    --------
    >>> make("weighted", weights=[2, 1])
    WeightedMeanRule(weights=[2, 1])
    """
    made: Fuser = FUSERS.make(name, **parameters)
    return made


def third_party() -> dict[str, EntryPoint]:
    """Entry points of other packages, by name of the fuser."""
    return FUSERS.third_party()


def name_of(kind: type) -> str:
    """The name under which a class of affuse is registered; the name of the class where it is not."""
    place = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, home in BUILT_IN.items() if home == place), kind.__name__)


def class_homes(package: str = "affuse.fusion") -> dict[str, str]:
    """Modules of the registered classes below a package, by name of the class."""
    places = (place.split(":") for place in BUILT_IN.values())
    return {kind: module for module, kind in places if module.startswith(f"{package}.")}
