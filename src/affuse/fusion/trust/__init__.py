"""What makes an answer trustworthy.

Calibration, a fallback to the best modality, prediction sets with a guarantee, and the leak alarm.
"""

# ruff: noqa: F403 - the stars are for type checkers and editors only; `__all__` is made of the tables below
from typing import TYPE_CHECKING

from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.fusion.trust.auto import *
    from affuse.fusion.trust.calibration import *
    from affuse.fusion.trust.confidence import *
    from affuse.fusion.trust.conformal import *
    from affuse.fusion.trust.leaks import *
    from affuse.fusion.trust.safe import *

# Most of these need scikit-learn, which takes seconds to import; fitted, `AutoFusion` and `SafeFusion` predict without.
_HOMES = {
    "AutoFusion": ".auto",
    "ConfidenceRise": ".confidence",
    "ConformalSets": ".conformal",
    "IsotonicScaling": ".calibration",
    "Leak": ".leaks",
    "SafeFusion": ".safe",
    "TemperatureScaling": ".calibration",
    "VectorScaling": ".calibration",
    "confidence_rise": ".confidence",
    "leak_alarm": ".leaks",
    "leak_alarm_features": ".leaks",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
