"""What a shell offers after an option: names of methods, corpora, experts, features. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from affuse.purpose import EXEMPTIONS, PURPOSES
from affuse.weight_sets import SETS

__all__ = [
    "adaptations",
    "benchmarks",
    "corpora",
    "exemptions",
    "experts",
    "features",
    "formats",
    "methods",
    "modalities",
    "networks",
    "notice_languages",
    "person_adaptations",
    "priors",
    "purposes",
    "splits",
    "targets",
    "weight_sets",
]

_Complete = Callable[[str], list[str]]


def _one_of(*names: str) -> _Complete:
    """Completion by one of a few names."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def _several(incomplete: str, names: Iterable[str]) -> list[str]:
    """Completions of the last of several names with commas; those that are there already are not offered again."""
    *before, last = incomplete.split(",")
    start = "".join(f"{name}," for name in before)
    return [f"{start}{name}" for name in names if name.startswith(last) and name not in before]


adaptations = _one_of("none", "person", "collection")
person_adaptations = _one_of("none", "person")
modalities: _Complete = lambda incomplete: _several(incomplete, ("face", "voice", "text"))  # noqa: E731
priors = _one_of("dialogue", "uniform", "tempered")
purposes = _one_of(*PURPOSES)
exemptions = _one_of(*EXEMPTIONS)
notice_languages = _one_of("en", "zh", "de", "fr", "es")
splits = _one_of("train", "dev", "test")
weight_sets = _one_of(*SETS)
targets = _one_of("onnx", "onnx-int8", "tensorrt")


def methods(incomplete: str) -> list[str]:
    """Names of fusers, with commas."""
    from affuse.fusion import registry

    return _several(incomplete, registry.names())


def features(incomplete: str) -> list[str]:
    """Names of features, with commas."""
    from affuse.features import registry

    return _several(incomplete, registry.names())


def formats(incomplete: str) -> list[str]:
    """Names of formats of results, with commas."""
    from affuse.report import FORMATS

    return _several(incomplete, FORMATS.names())


def corpora(incomplete: str) -> list[str]:
    """Names of known corpora."""
    from affuse.data.corpora import names

    return _one_of(*names())(incomplete)


def benchmarks(incomplete: str) -> list[str]:
    """Names of known datasets of predictions."""
    from affuse.evaluation.benchmarks import DATASETS

    return _one_of(*DATASETS)(incomplete)


def experts(incomplete: str) -> list[str]:
    """Names of experts, those of other packages included."""
    from affuse.experts import expert_names

    return _one_of(*expert_names())(incomplete)


def networks(incomplete: str) -> list[str]:
    """Names of networks that ``affuse train`` can train."""
    from affuse.training.networks.catalogue import names

    return _one_of(*names())(incomplete)
