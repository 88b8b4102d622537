"""What makes an answer trustworthy.

Calibration, a fallback to the best modality, prediction sets with a guarantee, and the leak alarm.
"""

# ruff: noqa: F403 - the stars are for type checkers and editors only; `__all__` is made of the tables below
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affuse.fusion.trust.auto import *
    from affuse.fusion.trust.calibration import *
    from affuse.fusion.trust.confidence import *
    from affuse.fusion.trust.conformal import *
    from affuse.fusion.trust.leaks import *
    from affuse.fusion.trust.safe import *

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

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
