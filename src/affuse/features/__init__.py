"""Classical and deep features by name: a recording, a picture or a text in, one row of numbers out."""

from typing import TYPE_CHECKING, Any

from affuse.features.cache import FeatureStore
from affuse.features.items import Clip, Features, Measured, NoEvidenceError
from affuse.features.registry import canonical, find, make, names

if TYPE_CHECKING:
    from affuse.features.base import Extractor

__all__ = [
    "Clip",
    "Extractor",
    "FeatureStore",
    "Features",
    "Measured",
    "NoEvidenceError",
    "canonical",
    "find",
    "make",
    "names",
]


def __getattr__(name: str) -> Any:
    """The base class, loaded when it is first asked for: it is scikit-learn's, which takes seconds (PEP 562)."""
    if name == "Extractor":
        from affuse.features.base import Extractor

        return Extractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
