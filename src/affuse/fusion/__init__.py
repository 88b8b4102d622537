"""Fusion of what experts say: P (n samples, m modalities, k classes) in, one answer a row out; NaN is "no evidence"."""

from typing import TYPE_CHECKING, Any

from affuse.fusion.base import check_probabilities, present, stack
from affuse.fusion.explain import conflict, conflict_in_words, shapley_shares
from affuse.fusion.pooling import LogPool, log_pool, soften

if TYPE_CHECKING:
    from affuse.fusion.calibrated import CalibratedLogPool

__all__ = [
    "CalibratedLogPool",
    "LogPool",
    "check_probabilities",
    "conflict",
    "conflict_in_words",
    "log_pool",
    "present",
    "shapley_shares",
    "soften",
    "stack",
]


def __getattr__(name: str) -> Any:
    # Estimators need scikit-learn, which takes most of a second to import; an analysis only uses a learned pool.
    if name == "CalibratedLogPool":
        from affuse.fusion.calibrated import CalibratedLogPool

        return CalibratedLogPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
