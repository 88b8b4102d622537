"""Classical and deep features by name: a recording, a picture or a text in, one row of numbers out."""

from affuse.features.base import Extractor
from affuse.features.cache import FeatureStore
from affuse.features.items import Clip, Features, Measured, NoEvidenceError
from affuse.features.registry import canonical, find, make, names

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
