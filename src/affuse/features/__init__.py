"""Classical and deep features by name: a recording, a picture or a text in, one row of numbers out."""

from typing import TYPE_CHECKING

from affuse.features.cache import FeatureStore
from affuse.features.items import Clip, Features, Measured, NoEvidenceError
from affuse.features.registry import canonical, find, make, names
from affuse.lazy import lazy_names

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

# The base class is one of scikit-learn, which takes seconds to import.
__getattr__, __dir__ = lazy_names(__name__, {"Extractor": "affuse.features.base"})
