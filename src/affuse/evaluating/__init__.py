"""How good an expert is on rows that it never saw, and how good the whole product is on anybody's recordings."""

from affuse.evaluating.adapting import Adapted, adapt_fuser
from affuse.evaluating.experts import answers, evaluate_expert, waveform
from affuse.evaluating.manifest import Clip, Manifest, read_manifest
from affuse.evaluating.product import ProductEvaluation, evaluate_product
from affuse.evaluating.sets import known_set

__all__ = [
    "Adapted",
    "Clip",
    "Manifest",
    "ProductEvaluation",
    "adapt_fuser",
    "answers",
    "evaluate_expert",
    "evaluate_product",
    "known_set",
    "read_manifest",
    "waveform",
]
