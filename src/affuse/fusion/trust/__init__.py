"""What makes an answer trustworthy.

Calibration, a fallback to the best modality, sets with a guarantee, and the leak alarm.
"""

from affuse.fusion.trust.calibration import IsotonicScaling, TemperatureScaling, VectorScaling
from affuse.fusion.trust.confidence import ConfidenceRise, confidence_rise
from affuse.fusion.trust.conformal import ConformalSets
from affuse.fusion.trust.leaks import Leak, leak_alarm, leak_alarm_features
from affuse.fusion.trust.safe import SafeFusion

__all__ = [
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
