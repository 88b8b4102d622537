"""Measures as pure functions, and what is built on them: fair comparison, and experts and the product measured."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from affuse.evaluation.metrics import (
    classification_report,
    confusion_matrix,
    expected_calibration_error,
    f1_scores,
    recalls,
)

if TYPE_CHECKING:
    from affuse.evaluation.adapting import Adapted, adapt_fuser
    from affuse.evaluation.corpora import corpus_manifest
    from affuse.evaluation.experts import answers, evaluate_expert, waveform
    from affuse.evaluation.manifest import Clip, Manifest, read_manifest
    from affuse.evaluation.product import ProductEvaluation, evaluate_product

__all__ = [
    "Adapted",
    "Clip",
    "Manifest",
    "ProductEvaluation",
    "adapt_fuser",
    "answers",
    "classification_report",
    "confusion_matrix",
    "corpus_manifest",
    "evaluate_expert",
    "evaluate_product",
    "expected_calibration_error",
    "f1_scores",
    "read_manifest",
    "recalls",
    "waveform",
]

# These bring decoders and networks, which measures do not need.
_HOMES = {
    "affuse.evaluation.adapting": ["Adapted", "adapt_fuser"],
    "affuse.evaluation.corpora": ["corpus_manifest"],
    "affuse.evaluation.experts": ["answers", "evaluate_expert", "waveform"],
    "affuse.evaluation.manifest": ["Clip", "Manifest", "read_manifest"],
    "affuse.evaluation.product": ["ProductEvaluation", "evaluate_product"],
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
