"""The way from a recording to its answer: decode, ask the experts, fuse, say what decided it."""

from affuse.analyzer.adaptation import ADAPTATIONS, adapted_analyzers, check_adaptation
from affuse.analyzer.analyzer import Analyzer, analyze, make_analyzer
from affuse.analyzer.answers import WindowInfo
from affuse.analyzer.loading import load_experts, load_system, shipped_fuser
from affuse.analyzer.observation import Observation

__all__ = [
    "ADAPTATIONS",
    "Analyzer",
    "Observation",
    "WindowInfo",
    "adapted_analyzers",
    "analyze",
    "check_adaptation",
    "load_experts",
    "load_system",
    "make_analyzer",
    "shipped_fuser",
]
