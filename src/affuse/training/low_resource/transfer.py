"""Transfer: layers of a network from input to answer, frozen or learning at rates of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from affuse.errors import ConfigError

__all__ = ["Group", "Layer", "layers", "parameter_groups"]


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights that belong together; ``name`` is that of their module in the network."""

    name: str
    parameters: tuple[nn.Parameter, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Weights that share a learning rate."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    rate: float


def layers(network: nn.Module) -> list[Layer]:
    """The layers that training may change, from input to answer: submodules in order, stacks of blocks taken apart.

    A Transformer of twelve blocks counts as twelve layers and not as one. Every weight is in exactly one layer; weights
    that do not require a gradient are in none.
    """
    seen: set[int] = set()
    found = []
    for name, module in _blocks(network, ""):
        # Of a module that is taken apart, only the weights of its own are left; shared ones stay where they are first.
        apart = _is_taken_apart(module) or module is network
        parameters = [p for p in module.parameters(recurse=not apart) if p.requires_grad and id(p) not in seen]
        seen.update(map(id, parameters))
        if parameters:
            found.append(Layer(name, tuple(parameters)))
    return found


def parameter_groups(
    network: nn.Module, learning_rate: float, layer_decay: float = 1.0, frozen: int = 0
) -> list[Group]:
    """Groups of weights for an optimiser: the last layer learns at the full rate, each before it ``layer_decay`` times.

    Layer-wise decay after Clark et al. 2020 (arXiv:2003.10555). The first ``frozen`` layers are left out: they stay as
    they are. Raises ConfigError for a decay outside (0, 1], and where nothing would be left to learn.
    """
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay takes a factor above 0 and at most 1; got {layer_decay:g}")
    found = layers(network)
    if not 0 <= frozen < len(found):
        raise ConfigError(
            f"the network has {len(found)} layers, of which at most {len(found) - 1} can be frozen; got {frozen}"
        )
    last = len(found) - 1
    return [
        Group(layer.name, layer.parameters, learning_rate * layer_decay ** (last - number))
        for number, layer in enumerate(found)
        if number >= frozen
    ]


def _blocks(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    yield name, module
    for key, child in module.named_children():
        path = f"{name}.{key}" if name else key
        if _is_taken_apart(child):
            yield from _blocks(child, path)
        else:
            yield path, child


def _is_taken_apart(module: nn.Module) -> bool:
    """Whether a module holds a stack of blocks: a Sequential of compound modules, or a ModuleList somewhere inside.

    A short Sequential of plain operations, such as a convolution with its norm, is one layer.
    """
    if isinstance(module, nn.Sequential | nn.ModuleList):
        return any(any(True for _ in child.children()) for child in module)
    return any(isinstance(inner, nn.ModuleList) and _is_taken_apart(inner) for inner in module.modules())
