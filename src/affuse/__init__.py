"""affuse: what people feel in a recording, fused from face, voice and words.

`analyze` answers about one recording, `Analyzer` about many. `fuse_tables` fuses predictions of other models, `compare`
and `tune` say how, `evaluate` measures, `adapt` and `train` learn from recordings of one's own, `extract_features`
measures features, `export` and `serve` deploy. Each is what the command of the same name runs. `train` needs an extra
(``pip install 'affuse[train]'``) and is therefore not brought by ``from affuse import *``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.analyzer import Analyzer, analyze
    from affuse.data.feature_tables import extract_features
    from affuse.errors import AffuseError
    from affuse.evaluation import adapt, compare, compare_features, evaluate, fuse_tables, tune
    from affuse.exporting import export
    from affuse.fusion import stack
    from affuse.labels import EKMAN, SENTIMENT, LabelSpace
    from affuse.media import Recording
    from affuse.report import plot_timeline, write_report
    from affuse.results import Analysis
    from affuse.service import serve
    from affuse.timeline import Segment, Timeline
    from affuse.training import train as train

__version__ = "0.1.0"

__all__ = [
    "EKMAN",
    "SENTIMENT",
    "AffuseError",
    "Analysis",
    "Analyzer",
    "LabelSpace",
    "Recording",
    "Segment",
    "Timeline",
    "__version__",
    "adapt",
    "analyze",
    "compare",
    "compare_features",
    "evaluate",
    "export",
    "extract_features",
    "fuse_tables",
    "plot_timeline",
    "serve",
    "stack",
    "tune",
    "write_report",
]

# Where every public name lives. It is imported at first use (PEP 562), because the decoders and networks
# behind most of them take seconds to load, and `import affuse` must not.
_HOMES = {
    "EKMAN": "affuse.labels",
    "SENTIMENT": "affuse.labels",
    "AffuseError": "affuse.errors",
    "Analysis": "affuse.results",
    "Analyzer": "affuse.analyzer",
    "LabelSpace": "affuse.labels",
    "Recording": "affuse.media",
    "Segment": "affuse.timeline",
    "Timeline": "affuse.timeline",
    "adapt": "affuse.evaluation.adapting",
    "analyze": "affuse.analyzer",
    "compare": "affuse.evaluation.comparison",
    "compare_features": "affuse.evaluation.feature_comparison",
    "evaluate": "affuse.evaluation.product",
    "export": "affuse.exporting",
    "extract_features": "affuse.data.feature_tables",
    "fuse_tables": "affuse.evaluation.fused_tables",
    "plot_timeline": "affuse.report",
    "serve": "affuse.service",
    "stack": "affuse.fusion",
    "train": "affuse.training",
    "tune": "affuse.evaluation.search",
    "write_report": "affuse.report",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
