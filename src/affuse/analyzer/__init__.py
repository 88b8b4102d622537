"""The way from a recording to its answer: decode, ask the experts, fuse, say what decided it."""

from affuse.analyzer.adaptation import adapted_analyzers
from affuse.analyzer.analyzer import Analyzer, analyze, load_experts, load_system, make_analyzer, shipped_fuser

__all__ = [
    "Analyzer",
    "adapted_analyzers",
    "analyze",
    "load_experts",
    "load_system",
    "make_analyzer",
    "shipped_fuser",
]
