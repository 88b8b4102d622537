"""Networks made of networks: a second task on top of one, and one answer out of several."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from affuse.errors import ConfigError
from affuse.fusion.networks.parts import by_modality
from affuse.fusion.networks.training import drop_modalities
from affuse.training.networks.base import Network, Output, check_at_least, check_share

__all__ = ["COLUMNS", "JointNetwork", "MultiTask", "MultiTaskOutput"]

COLUMNS = "columns"
"""Name of the block of numbers that come from a table."""


class MultiTaskOutput(NamedTuple):
    """Logits (n, k), embedding (n, d), and intensities (n, u) of action units."""

    logits: Tensor
    embedding: Tensor
    action_units: Tensor


class MultiTask(Network):
    """A network that tells emotions and intensities of action units from one embedding.

    Tasks that share what they learn: Caruana 1997 (doi:10.1023/A:1007379606734); for faces Kollias et al. 2019
    (arXiv:1910.11111).

    Parameters
    ----------
    network: any other network; its modality and inputs are this one's. n_action_units: intensities u.
    alpha: weight of the action units in the loss.
    """

    def __init__(self, network: Network, n_action_units: int, alpha: float = 1.0) -> None:
        super().__init__()
        check_at_least(1, n_action_units=n_action_units)
        if alpha < 0:
            raise ConfigError(f"alpha must be at least 0; got {alpha}")
        self.modality, self.reads, self.picture = network.modality, network.reads, network.picture
        self.n_labels, self.embedding_width, self.alpha = network.n_labels, network.embedding_width, alpha
        self.n_action_units, self.frames = n_action_units, network.frames
        self.network = network
        self.head = nn.Linear(network.embedding_width, n_action_units)

    def forward(self, **inputs: Tensor) -> MultiTaskOutput:
        """Answer to what the inner network reads."""
        logits, embedding = self.network(**inputs)[:2]
        return MultiTaskOutput(logits, embedding, self.head(embedding))

    def auxiliary_loss(self, output: Any, action_units: Tensor) -> Tensor:
        """``alpha`` · MSE: the mean over those ``action_units`` (n, u) that are not NaN."""
        known = ~torch.isnan(action_units)
        gaps = torch.where(known, output.action_units - torch.nan_to_num(action_units), 0.0)
        return self.alpha * (gaps**2).sum() / known.sum().clamp(min=1)

    def example(self) -> dict[str, Tensor]:
        """That of the inner network."""
        return self.network.example()

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """Those of the inner network."""
        return self.network.axes

    def merged(self) -> Network:
        """A copy around the merged inner network; itself where nothing is merged."""
        inner = self.network.merged()
        if inner is self.network:
            return self
        plain = copy.deepcopy(self)
        plain.network = inner
        return plain


class JointNetwork(Network):
    """One answer from several blocks, of which any may be missing: encoders side by side (Ngiam et al. 2011).

    Every block (an encoder's embedding, or the columns of a table) becomes ``hidden`` units; where it is missing, a
    learnt vector stands in its place. In training, blocks are hidden at random, never the last one (ModDrop, Neverova
    et al. 2015, arXiv:1501.00102). A row without any block answers NaN.

    Inputs are those of all encoders, "columns" (n, d) where there are some, and "present" (n, m) float32, 1 where a
    block is there, in the order of `blocks`. What stands in for an absent block does not reach the answer, but has to
    be finite for training. Single columns may be NaN: they count as average.

    Parameters
    ----------
    encoders: networks by the name of their block, no two of which read the same input. columns: numbers d of the table,
    or None. n_labels: labels k. hidden: units of a block. dropout: share of units. modality_dropout: probability that a
    block of a row is hidden in training.

    Attributes
    ----------
    blocks: names of the blocks: the encoders', then "columns".
    """

    modality, reads = "joint", "blocks"

    def __init__(
        self,
        encoders: Mapping[str, Network],
        columns: int | None,
        n_labels: int,
        *,
        hidden: int = 64,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout, modality_dropout=modality_dropout)
        check_at_least(1, hidden=hidden, **({} if columns is None else {"columns": columns}))
        _check_encoders(encoders, columns)
        self.n_labels, self.modality_dropout = n_labels, modality_dropout
        widths = {name: network.embedding_width for name, network in encoders.items()}
        if columns is not None:
            widths[COLUMNS] = columns
            self.register_buffer("mean", torch.zeros(columns))
            self.register_buffer("spread", torch.ones(columns))
        self.blocks, self.columns, self.embedding_width = tuple(widths), columns, hidden
        self.encoders = by_modality(
            {name: width for name, width in widths.items() if name != COLUMNS}, lambda name, _: encoders[name]
        )
        for network in encoders.values():
            network.head.requires_grad_(False)  # their own answers are not asked for
        self.adapters = by_modality(
            widths, lambda _, width: nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU())
        )
        self.absent = nn.Parameter(torch.zeros(len(widths), hidden))
        self.dropout = nn.Dropout(dropout)
        self.joint = nn.Sequential(nn.Linear(len(widths) * hidden, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, n_labels)

    def fit_columns(self, columns: Tensor) -> None:
        """Standardise by mean and spread of training rows (n, d), NaN aside; a constant column becomes 0."""
        known = ~torch.isnan(columns)
        count = known.sum(dim=0).clamp(min=1)
        mean = torch.nan_to_num(columns).sum(dim=0) / count
        spread = (torch.nan_to_num(columns - mean) ** 2).sum(dim=0) / count
        self.mean, self.spread = mean, torch.where(spread > 0, spread.sqrt(), torch.ones_like(spread))

    def forward(self, present: Tensor, **inputs: Tensor) -> Output:
        """Answer to the inputs of all encoders, "columns", and which blocks are there."""
        there = self._kept(present > 0.5)
        parts = []
        for j, name in enumerate(self.blocks):
            states = self.adapters[name](self._block(name, inputs))
            parts.append(torch.where(there[:, j, None], states, self.absent[j]))
        embedding = self.joint(self.dropout(torch.cat(parts, dim=1)))
        embedding = torch.where(there.any(dim=1, keepdim=True), embedding, torch.nan)
        return Output(self.head(self.dropout(embedding)), embedding)

    def _block(self, name: str, inputs: Mapping[str, Tensor]) -> Tensor:
        if name == COLUMNS:
            scaled = (inputs[COLUMNS] - self.mean) / self.spread
            return torch.where(torch.isnan(scaled), torch.zeros_like(scaled), scaled)
        network = self.encoders[name]
        embedding: Tensor = network(**{key: inputs[key] for key in network.axes})[1]
        return embedding

    def _kept(self, there: Tensor) -> Tensor:
        if not self.training or self.modality_dropout == 0:
            return there
        columns = {name: there[:, j] for j, name in enumerate(self.blocks)}
        return torch.stack(list(drop_modalities(columns, self.modality_dropout, per_step=False).values()), dim=1)

    def example(self) -> dict[str, Tensor]:
        """Two rows, of which the second has only its first block."""
        inputs = {key: value for network in self.encoders.values() for key, value in network.example().items()}
        if self.columns is not None:
            inputs[COLUMNS] = torch.randn(2, self.columns)
        present = torch.ones(2, len(self.blocks))
        present[1, 1:] = 0
        return {**inputs, "present": present}

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """Those of all encoders, and the rows of "columns" and "present"."""
        own = ["present"] if self.columns is None else [COLUMNS, "present"]
        inner = {key: axes for network in self.encoders.values() for key, axes in network.axes.items()}
        return inner | {name: {0: "n"} for name in own}

    def merged(self) -> Network:
        """A copy around the merged encoders; itself where nothing is merged."""
        inner = {name: network.merged() for name, network in self.encoders.items()}
        if all(inner[name] is network for name, network in self.encoders.items()):
            return self
        plain = copy.deepcopy(self)
        plain.encoders = nn.ModuleDict(inner)
        return plain


def _check_encoders(encoders: Mapping[str, Network], columns: int | None) -> None:
    if len(encoders) + (columns is not None) < 2:
        raise ConfigError("a joint network needs at least two blocks: encoders, or an encoder and columns")
    if COLUMNS in encoders:
        raise ConfigError(f"an encoder cannot be called {COLUMNS!r}; that is the block of the table's numbers")
    readers: dict[str, str] = {}
    for name, network in encoders.items():
        for key in network.axes:
            if key in readers:
                raise ConfigError(
                    f"the encoders {readers[key]!r} and {name!r} both read {key!r}; join networks that do not"
                )
            readers[key] = name
