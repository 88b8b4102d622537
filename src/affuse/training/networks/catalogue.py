"""The networks by name, with what each reads and the paper it comes from; known without torch."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from affuse.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from affuse.training.networks.base import Network

__all__ = ["NETWORKS", "Entry", "Reads", "describe", "find", "make", "names", "options"]

Reads = Literal["waveform", "images", "clips", "frames", "landmarks", "tokens", "blocks"]


@dataclass(frozen=True)
class Entry:
    """Where a network lives, whose modality it judges ("any" for wrappers), what it reads, and its paper."""

    home: str
    kind: str
    modality: str
    reads: Reads | None
    paper: str


NETWORKS = {
    "bag": Entry("text", "BagOfNgrams", "text", "tokens", "Joulin et al. 2017, arXiv:1607.01759"),
    "bilstm": Entry("video", "BiLSTM", "face", "frames", "Schuster & Paliwal 1997, doi:10.1109/78.650093"),
    "c3d": Entry("video", "C3D", "face", "clips", "Tran et al. 2015, arXiv:1412.0767"),
    "concat": Entry("combined", "JointNetwork", "joint", "blocks", "Ngiam et al. 2011; arXiv:1501.00102"),
    "crnn": Entry("voice", "CRNN", "voice", "waveform", "Choi et al. 2017, arXiv:1609.04243"),
    "landmark-graph": Entry("face", "LandmarkGraph", "face", "landmarks", "Kipf & Welling 2017, arXiv:1609.02907"),
    "multi-task": Entry("combined", "MultiTask", "any", None, "Caruana 1997, doi:10.1023/A:1007379606734"),
    "resnet50-cbam": Entry("face", "ResNet50CBAM", "face", "images", "Woo et al. 2018, arXiv:1807.06521"),
    "small-face": Entry("face", "SmallFace", "face", "images", "He et al. 2016, arXiv:1512.03385"),
    "text-cnn": Entry("text", "TextCNN", "text", "tokens", "Kim 2014, arXiv:1408.5882"),
    "transformer": Entry("text", "Transformer", "text", "tokens", "arXiv:1810.04805; LoRA arXiv:2106.09685"),
    "wav2vec2": Entry("voice", "Wav2Vec2", "voice", "waveform", "Baevski et al. 2020, arXiv:2006.11477"),
}


def names(modality: str | None = None) -> list[str]:
    """Names of all networks, or of those that judge ``modality``, sorted."""
    return sorted(name for name, entry in NETWORKS.items() if modality is None or entry.modality == modality)


def describe() -> list[dict[str, str]]:
    """One row a network, sorted: its name, modality, what it reads, and its paper."""
    return [
        {"name": name, "modality": entry.modality, "reads": entry.reads or "any", "paper": entry.paper}
        for name, entry in sorted(NETWORKS.items())
    ]


def find(name: str) -> type[Network]:
    """The class of a network. Raises ConfigError for an unknown name, MissingExtraError where torch is missing."""
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}{_near(name, NETWORKS)}; known: {', '.join(names())}")
    entry = NETWORKS[name]
    try:
        module = import_module(f"affuse.training.networks.{entry.home}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "train") from error
    kind: type[Network] = getattr(module, entry.kind)
    return kind


def options(name: str) -> dict[str, Any]:
    """Options of a network with their defaults; `inspect.Parameter.empty` where one must be given."""
    parameters = inspect.signature(find(name)).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key != "n_labels"}


def make(name: str, n_labels: int, **chosen: Any) -> Network:
    """A new network that tells ``n_labels`` labels apart.

    The options ``network`` and ``encoders`` of wrappers take networks, or names, or tables such as ``{"name": "crnn",
    "hidden": 32}``. Raises ConfigError for an unknown name or option, naming what is near, for one out of range, and
    where a needed one is missing; MissingExtraError without torch.
    """
    kind, known = find(name), options(name)
    if not isinstance(n_labels, int) or n_labels < 2:
        raise ConfigError(f"a network tells at least 2 labels apart; got n_labels={n_labels!r}")
    for key in chosen:
        if key not in known:
            raise ConfigError(
                f"unknown option {key!r} of the network {name!r}{_near(key, known)}; options: {', '.join(known)}"
            )
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in chosen:
            raise ConfigError(f"the network {name!r} needs the option {key!r}")
    if "network" in chosen:
        chosen["network"] = _built(chosen["network"], n_labels)
    if "encoders" in chosen:
        chosen["encoders"] = {key: _built(value, n_labels) for key, value in chosen["encoders"].items()}
    if "n_labels" in inspect.signature(kind).parameters:
        chosen["n_labels"] = n_labels
    network = kind(**chosen)
    if network.n_labels != n_labels:
        raise ConfigError(f"{n_labels} labels are asked for, but the inner network tells {network.n_labels} apart")
    return network


def _built(described: Any, n_labels: int) -> Network:
    if isinstance(described, str):
        return make(described, n_labels)
    if isinstance(described, Mapping):
        rest = {key: value for key, value in described.items() if key != "name"}
        if "name" not in described:
            raise ConfigError(f"a network needs a name; got only {', '.join(map(str, rest)) or 'nothing'}")
        return make(described["name"], n_labels, **rest)
    network: Network = described
    return network


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=2)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
