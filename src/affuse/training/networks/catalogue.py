"""The networks by name, with what each reads and the paper it comes from; known without torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError
from affuse.registry import Registry, suggestion
from affuse.training.networks.kinds import Reads

if TYPE_CHECKING:
    from affuse.training.networks.base import Network

__all__ = ["NETWORKS", "Entry", "describe", "entry", "find", "make", "names", "options"]


@dataclass(frozen=True)
class Entry:
    """One network: where its class is, and what is known of it without torch.

    Attributes
    ----------
    where : str
        Module and class, as "module:class".
    modality : str
        What it judges; "any" for wrappers, which judge what the network inside judges.
    reads : str, or None
        Its inputs, see `affuse.training.networks.Network`; None for wrappers.
    paper : str
        Where it comes from.

    Examples
    --------
    >>> NETWORKS["crnn"].modality, NETWORKS["crnn"].reads
    ('voice', 'waveform')
    """

    where: str
    modality: str
    reads: Reads | None
    paper: str


_AT = "affuse.training.networks"

NETWORKS = {
    "bag": Entry(f"{_AT}.text:BagOfNgrams", "text", "tokens", "Joulin et al. 2017, arXiv:1607.01759"),
    "bilstm": Entry(f"{_AT}.video:BiLSTM", "face", "frames", "Schuster & Paliwal 1997, doi:10.1109/78.650093"),
    "c3d": Entry(f"{_AT}.video:C3D", "face", "clips", "Tran et al. 2015, arXiv:1412.0767"),
    "concat": Entry(f"{_AT}.combined:JointNetwork", "joint", "blocks", "Ngiam et al. 2011; arXiv:1501.00102"),
    "crnn": Entry(f"{_AT}.voice:CRNN", "voice", "waveform", "Choi et al. 2017, arXiv:1609.04243"),
    "landmark-graph": Entry(f"{_AT}.face:LandmarkGraph", "face", "landmarks", "Kipf & Welling 2017, arXiv:1609.02907"),
    "multi-task": Entry(f"{_AT}.combined:MultiTask", "any", None, "Caruana 1997, doi:10.1023/A:1007379606734"),
    "resnet50-cbam": Entry(f"{_AT}.face:ResNet50CBAM", "face", "images", "Woo et al. 2018, arXiv:1807.06521"),
    "small-face": Entry(f"{_AT}.face:SmallFace", "face", "images", "He et al. 2016, arXiv:1512.03385"),
    "text-cnn": Entry(f"{_AT}.text:TextCNN", "text", "tokens", "Kim 2014, arXiv:1408.5882"),
    "transformer": Entry(f"{_AT}.text:Transformer", "text", "tokens", "arXiv:1810.04805; LoRA arXiv:2106.09685"),
    "wav2vec2": Entry(f"{_AT}.voice:Wav2Vec2", "voice", "waveform", "Baevski et al. 2020, arXiv:2006.11477"),
}
"""Networks of affuse: one line each. Other packages add theirs by an entry point of the group "affuse.networks"."""

_REGISTRY = Registry("network", {name: own.where for name, own in NETWORKS.items()}, "affuse.networks", extra="train")


def entry(name: str) -> Entry:
    """What is known of a network; of those from other packages, what their class says."""
    if name in NETWORKS:
        return NETWORKS[name]
    kind = find(name)
    return Entry(f"{kind.__module__}:{kind.__qualname__}", kind.modality, kind.reads, kind.paper)


def names(modality: str | None = None) -> list[str]:
    """Names of all networks, or of those that judge a modality.

    Parameters
    ----------
    modality : str, optional
        "voice", "face", "text" or "joint".

    Returns
    -------
    list of str
        Sorted.

    Examples
    --------
    >>> names("voice")
    ['crnn', 'wav2vec2']
    """
    return [name for name in _REGISTRY if modality is None or entry(name).modality == modality]


def describe() -> list[dict[str, str]]:
    """One row a network: its name, modality, what it reads, and its paper.

    Returns
    -------
    list of dict
        Sorted by name.

    Examples
    --------
    >>> describe()[0]
    {'name': 'bag', 'modality': 'text', 'reads': 'tokens', 'paper': 'Joulin et al. 2017, arXiv:1607.01759'}
    """
    rows = [(name, entry(name)) for name in _REGISTRY]
    return [
        {"name": name, "modality": own.modality, "reads": own.reads or "any", "paper": own.paper} for name, own in rows
    ]


def find(name: str) -> type[Network]:
    """The class of a network.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    type

    Raises
    ------
    ConfigError
        If there is no network of this name; the message names what is near.
    MissingExtraError
        If torch is missing.

    Examples
    --------
    >>> find("crnn").__name__
    'CRNN'
    """
    kind: type[Network] = _REGISTRY.find(name)
    return kind


def options(name: str) -> dict[str, Any]:
    """Options of a network with their defaults.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    dict of str to object
        `inspect.Parameter.empty` stands where an option must be given.

    Examples
    --------
    >>> options("crnn")
    {'n_mels': 64, 'widths': (24, 48, 96), 'hidden': 64, 'dropout': 0.3}
    """
    parameters = inspect.signature(find(name)).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key != "n_labels"}


def make(name: str, n_labels: int, **chosen: Any) -> Network:
    """A new network that tells labels apart.

    Parameters
    ----------
    name : str
        One of `names`.
    n_labels : int
        How many labels.
    **chosen
        Its `options`. ``network`` and ``encoders`` of wrappers take networks, or names, or tables such as
        ``{"name": "crnn", "hidden": 32}``.

    Returns
    -------
    Network
        With random weights, or pretrained ones where its options name them.

    Raises
    ------
    ConfigError
        For an unknown name or option, for one out of range, and where a needed one is missing.
    MissingExtraError
        If torch is missing.

    Examples
    --------
    >>> network = make("crnn", 3, widths=(4, 8), hidden=8, n_mels=16)
    >>> network(**network.example()).logits.shape
    torch.Size([2, 3])
    """
    kind, known = find(name), options(name)
    if not isinstance(n_labels, int) or n_labels < 2:
        raise ConfigError(f"a network tells at least 2 labels apart; got n_labels={n_labels!r}")
    for key in chosen:
        if key not in known:
            raise ConfigError(
                f"unknown option {key!r} of the network {name!r}{suggestion(key, list(known))}; "
                f"options: {', '.join(known)}"
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
