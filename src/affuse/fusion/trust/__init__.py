"""What makes an answer trustworthy.

Calibration, a fallback to the best modality, sets with a guarantee, and the leak alarm.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affuse.fusion.trust.auto import AutoFusion
    from affuse.fusion.trust.calibration import IsotonicScaling, TemperatureScaling, VectorScaling
    from affuse.fusion.trust.confidence import ConfidenceRise, confidence_rise
    from affuse.fusion.trust.conformal import ConformalSets
    from affuse.fusion.trust.leaks import Leak, leak_alarm, leak_alarm_features
    from affuse.fusion.trust.safe import SafeFusion

__all__ = [
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
]

# Most of these need scikit-learn, which takes seconds to import; fitted, `AutoFusion` and `SafeFusion` predict without.
_HOMES = {
    "AutoFusion": "auto",
    "ConfidenceRise": "confidence",
    "ConformalSets": "conformal",
    "IsotonicScaling": "calibration",
    "Leak": "leaks",
    "SafeFusion": "safe",
    "TemperatureScaling": "calibration",
    "VectorScaling": "calibration",
    "confidence_rise": "confidence",
    "leak_alarm": "leaks",
    "leak_alarm_features": "leaks",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
