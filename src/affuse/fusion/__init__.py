"""Fusion of the answers of several experts (late fusion), and of their features (early fusion).

``P`` of shape (n_samples, n_modalities, n_classes) holds class probabilities; a modality without evidence is a row of
NaN. The fused answer has the shape (n_samples, n_classes). A new rule is one class and one line in
`affuse.fusion.registry`.
"""

# ruff: noqa: F403 - the stars are for type checkers and editors only; `__all__` is made of the tables below
from typing import TYPE_CHECKING

from affuse.fusion.base import check_probabilities, present, stack
from affuse.fusion.explain import conflict, conflict_in_words, shapley_shares
from affuse.fusion.pooling import common_cause_pool, log_pool
from affuse.fusion.registry import class_homes, find, make, names
from affuse.fusion.temperature import fit_temperature, temperature_scale
from affuse.lazy import lazy_names

if TYPE_CHECKING:  # names by module, so that type checkers and editors know what the registry lists
    from affuse.fusion.adaptive import *
    from affuse.fusion.calibrated import *
    from affuse.fusion.causes import *
    from affuse.fusion.dynamic import *
    from affuse.fusion.early import *
    from affuse.fusion.effects import *
    from affuse.fusion.estimator import *
    from affuse.fusion.evidence import *
    from affuse.fusion.learned import *
    from affuse.fusion.named import *
    from affuse.fusion.networks.fuser import *
    from affuse.fusion.persistence import *
    from affuse.fusion.reliability import *
    from affuse.fusion.rules.averaging import *
    from affuse.fusion.rules.extremes import *
    from affuse.fusion.rules.product import *
    from affuse.fusion.rules.voting import *
    from affuse.fusion.trust.auto import *
    from affuse.fusion.trust.calibration import *
    from affuse.fusion.trust.confidence import *
    from affuse.fusion.trust.conformal import *
    from affuse.fusion.trust.leaks import *
    from affuse.fusion.trust.safe import *

# Imported when they are asked for: some need scikit-learn, which takes seconds to import. A fitted fuser of
# probabilities predicts without it.
_HOMES = {
    **class_homes(__name__),
    "AdaptiveFuser": "affuse.fusion.adaptive",
    "CCAFusion": "affuse.fusion.early",
    "Concatenation": "affuse.fusion.early",
    "ConfidenceRise": "affuse.fusion.trust",
    "ConformalSets": "affuse.fusion.trust",
    "Fuser": "affuse.fusion.estimator",
    "IsotonicScaling": "affuse.fusion.trust",
    "Leak": "affuse.fusion.trust",
    "NamedFuser": "affuse.fusion.named",
    "NetworkFuser": "affuse.fusion.networks",
    "ProductFusion": "affuse.fusion.early",
    "SumFusion": "affuse.fusion.early",
    "TemperatureScaling": "affuse.fusion.trust",
    "VectorScaling": "affuse.fusion.trust",
    "WeightedConcatenation": "affuse.fusion.early",
    "adapt_rows": "affuse.fusion.adaptive",
    "confidence_rise": "affuse.fusion.trust",
    "leak_alarm": "affuse.fusion.trust",
    "leak_alarm_features": "affuse.fusion.trust",
    "load": "affuse.fusion.persistence",
    "save": "affuse.fusion.persistence",
}

__all__ = [
    "check_probabilities",
    "common_cause_pool",
    "conflict",
    "conflict_in_words",
    "find",
    "fit_temperature",
    "log_pool",
    "make",
    "names",
    "present",
    "shapley_shares",
    "stack",
    "temperature_scale",
]
__all__ += sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
