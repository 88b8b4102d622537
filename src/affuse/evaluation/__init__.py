"""How good fusers, experts and the product are, and which fuser to take.

`compare` measures every way to fuse on the same rows, `evaluate` the product or one expert on labelled recordings,
`tune` searches a fuser and its settings, `adapt` lets the fuser learn from a few labelled recordings, and `fuse_tables`
fuses predictions of other models. What they stand on are measures as pure functions, folds that never split a group,
intervals and paired tests.
"""

from typing import TYPE_CHECKING

from affuse.evaluation.metrics import (
    classification_report,
    confusion_matrix,
    expected_calibration_error,
    f1_scores,
    recalls,
    reliability,
)
from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.evaluation.adapting import AdaptedFuser, adapt
    from affuse.evaluation.comparison import Comparison, compare, compare_fusers
    from affuse.evaluation.corpora import corpus_manifest
    from affuse.evaluation.experts import evaluate_expert
    from affuse.evaluation.feature_comparison import FeatureComparison, compare_features
    from affuse.evaluation.fused_tables import FusedPredictions, fuse_tables
    from affuse.evaluation.intervals import cluster_bootstrap, fold_weights, t_interval
    from affuse.evaluation.manifest import Clip, Manifest, read_manifest
    from affuse.evaluation.product import ExpertEvaluation, ProductEvaluation, evaluate, evaluate_product
    from affuse.evaluation.product_measures import product_report
    from affuse.evaluation.protocol import Fold, PredictionData, Protocol, group_folds, leave_one_part_out
    from affuse.evaluation.search import TuningResult, tune
    from affuse.evaluation.significance import holm, mcnemar, paired_permutation

__all__ = [
    "AdaptedFuser",
    "Clip",
    "Comparison",
    "ExpertEvaluation",
    "FeatureComparison",
    "Fold",
    "FusedPredictions",
    "Manifest",
    "PredictionData",
    "ProductEvaluation",
    "Protocol",
    "TuningResult",
    "adapt",
    "classification_report",
    "cluster_bootstrap",
    "compare",
    "compare_features",
    "compare_fusers",
    "confusion_matrix",
    "corpus_manifest",
    "evaluate",
    "evaluate_expert",
    "evaluate_product",
    "expected_calibration_error",
    "f1_scores",
    "fold_weights",
    "fuse_tables",
    "group_folds",
    "holm",
    "leave_one_part_out",
    "mcnemar",
    "paired_permutation",
    "product_report",
    "read_manifest",
    "recalls",
    "reliability",
    "t_interval",
    "tune",
]

# Loaded when they are asked for: some bring decoders, networks or scikit-learn, which measures do not need.
_HOMES = {
    "adapting": ["AdaptedFuser", "adapt"],
    "comparison": ["Comparison", "compare", "compare_fusers"],
    "corpora": ["corpus_manifest"],
    "experts": ["evaluate_expert"],
    "feature_comparison": ["FeatureComparison", "compare_features"],
    "fused_tables": ["FusedPredictions", "fuse_tables"],
    "intervals": ["cluster_bootstrap", "fold_weights", "t_interval"],
    "manifest": ["Clip", "Manifest", "read_manifest"],
    "product": ["ExpertEvaluation", "ProductEvaluation", "evaluate", "evaluate_product"],
    "product_measures": ["product_report"],
    "protocol": ["Fold", "PredictionData", "Protocol", "group_folds", "leave_one_part_out"],
    "search": ["TuningResult", "tune"],
    "significance": ["holm", "mcnemar", "paired_permutation"],
}

__getattr__, __dir__ = lazy_names(__name__, {name: f".{home}" for home, names in _HOMES.items() for name in names})
