"""Classical and deep features by name: a recording, a picture or a text in, one row of numbers out."""

from affuse.features.base import Clip, Extractor, Features, Measured
from affuse.features.cache import FeatureStore
from affuse.features.registry import make, names

__all__ = ["Clip", "Extractor", "FeatureStore", "Features", "Measured", "make", "names"]
