"""affuse: what people feel in a recording, fused from face, voice and words."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affuse.analyzer import Analyzer, analyze
    from affuse.errors import AffuseError
    from affuse.fusion import stack
    from affuse.labels import EKMAN, SENTIMENT, LabelSpace
    from affuse.media import Recording
    from affuse.report import plot_timeline, write_report
    from affuse.results import Analysis
    from affuse.timeline import Segment, Timeline

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
    "analyze",
    "plot_timeline",
    "stack",
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
    "analyze": "affuse.analyzer",
    "plot_timeline": "affuse.report",
    "stack": "affuse.fusion",
    "write_report": "affuse.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access finds it without asking here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
