"""Networks over one vector a modality: late, tensor, low-rank and gated fusion, and the multimodal autoencoder."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.errors import ConfigError
from affuse.fusion.networks.parts import (
    Encoders,
    Features,
    FusionNetwork,
    Presence,
    Widths,
    by_modality,
    encoder,
    gap_indicators,
    masked,
)

__all__ = ["GatedMultimodalUnit", "LateFusion", "LowRankFusion", "MultimodalAutoencoder", "TensorFusion"]

_MOST_PRODUCTS = 1_000_000


class _EncodedNetwork(FusionNetwork):
    """Encodes every modality by itself, with a perceptron of two layers or the module that ``encoders`` names for it.

    A subclass says how the encoded modalities are joined, and has a ``head`` that reads the result.
    """

    def __init__(self, widths: Widths, hidden: int, dropout: float, encoders: Encoders | None) -> None:
        super().__init__(widths)
        own = encoders or {}
        unknown = set(own) - set(widths)
        if unknown:
            raise ConfigError(f"encoders name {min(unknown)!r}, but the modalities are {', '.join(widths)}")
        self.encoders = by_modality(widths, lambda name, width: own.get(name) or encoder(width, hidden, dropout))

    def encode(self, features: Features, present: Presence) -> dict[str, Tensor]:
        """Every modality as (b, hidden), 0 where it is missing."""
        return {
            name: masked(self.encoders[name](masked(features[name], present[name])), present[name])
            for name in self.modalities
        }

    def joint(self, features: Features, present: Presence) -> Tensor:
        """The fused vector of every row, which the head reads."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it joins the modalities")

    def forward(self, features: Features, present: Presence) -> Tensor:
        answer: Tensor = self.head(self.joint(features, present))
        return answer


class LateFusion(_EncodedNetwork):
    """Late fusion (LF-DNN): encoders, one head of logits a modality, and a linear layer over all logits.

    ``y = W [l_1; …; l_M; gaps] + b`` with ``l_m = V_m h_m + c_m``. The layer starts as the sum of the logits. Gaps:
    their logits are 0, and the layer sees which modalities are missing.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality.
    n_classes : int
        Number of labels.
    hidden : int
        Units of an encoder.
    dropout : float
        Share of units that are dropped in training.
    encoders : mapping of str to torch.nn.Module, optional
        Modules (n_samples, width) to (n_samples, hidden), for modalities that need more than a perceptron of two
        layers.

    References
    ----------
    Yu et al. (2020), CH-SIMS, section 4.1. doi:10.18653/v1/2020.acl-main.343

    Examples
    --------
    >>> features = {"face": torch.randn(5, 4), "voice": torch.randn(5, 6)}
    >>> present = {"face": torch.ones(5, dtype=bool), "voice": torch.tensor([True, True, False, True, True])}
    >>> LateFusion({"face": 4, "voice": 6}, n_classes=3)(features, present).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, widths: Widths, n_classes: int, hidden: int = 32, dropout: float = 0.3, encoders: Encoders | None = None
    ) -> None:
        super().__init__(widths, hidden, dropout, encoders)
        self.heads = by_modality(widths, lambda name, width: nn.Linear(hidden, n_classes))
        self.fusion = nn.Linear(len(widths) * (n_classes + 1), n_classes)
        with torch.no_grad():
            sums = torch.eye(n_classes).repeat(1, len(widths))
            self.fusion.weight.copy_(torch.cat([sums, torch.zeros(n_classes, len(widths))], dim=1))
            self.fusion.bias.zero_()

    def forward(self, features: Features, present: Presence) -> Tensor:
        # Logits (b, k)
        encoded = self.encode(features, present)
        logits = [masked(self.heads[name](encoded[name]), present[name]) for name in self.modalities]
        gaps = gap_indicators(present, self.modalities, logits[0].dtype)
        answer: Tensor = self.fusion(torch.cat([*logits, gaps], dim=1))
        return answer


class TensorFusion(_EncodedNetwork):
    """Tensor fusion network: all products of units of different modalities, then a perceptron.

    ``z = [h_1; 1] ⊗ … ⊗ [h_M; 1]``, the outer product, which holds every modality alone, every pair and so on. Gaps:
    ``[0; 1]``, which leaves the products of the other modalities.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality.
    n_classes : int
        Number of labels.
    hidden : int
        Units of an encoder; the tensor has (hidden + 1)^M entries, at most a million.
    dropout : float
        Share of units that are dropped in training.
    encoders : mapping of str to torch.nn.Module, optional
        Modules (n_samples, width) to (n_samples, hidden), for modalities that need more than a perceptron of two
        layers.
    units : int
        Units of the perceptron.

    References
    ----------
    Zadeh et al. (2017), Tensor fusion network for multimodal sentiment analysis. arXiv:1707.07250

    Examples
    --------
    >>> features = {"face": torch.randn(5, 4), "voice": torch.randn(5, 6)}
    >>> present = {"face": torch.ones(5, dtype=bool), "voice": torch.tensor([True, True, False, True, True])}
    >>> TensorFusion({"face": 4, "voice": 6}, n_classes=3, hidden=4)(features, present).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        widths: Widths,
        n_classes: int,
        hidden: int = 12,
        dropout: float = 0.3,
        encoders: Encoders | None = None,
        units: int = 32,
    ) -> None:
        super().__init__(widths, hidden, dropout, encoders)
        size = (hidden + 1) ** len(widths)
        if size > _MOST_PRODUCTS:
            raise ConfigError(
                f"tensor fusion of {len(widths)} modalities with hidden={hidden} needs {size} products; "
                f"at most {_MOST_PRODUCTS} are made: lower hidden, or take low_rank"
            )
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(size, units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(units, n_classes)
        )

    def joint(self, features: Features, present: Presence) -> Tensor:
        """The flattened outer product, the last modality's units running fastest.

        Parameters
        ----------
        features : mapping of str to Tensor
        present : mapping of str to Tensor of bool

        Returns
        -------
        Tensor of shape (n_samples, (hidden + 1) ** n_modalities)
        """
        parts = [with_one(h) for h in self.encode(features, present).values()]
        return reduce(lambda z, part: (z.unsqueeze(2) * part.unsqueeze(1)).flatten(1), parts)


def with_one(h: Tensor) -> Tensor:
    """``[h; 1]``: (b, d + 1) from (b, d)."""
    return torch.cat([h, torch.ones_like(h[:, :1])], dim=1)


class LowRankFusion(_EncodedNetwork):
    """Low-rank multimodal fusion: tensor fusion whose weight tensor has rank r.

    ``y = Σ_i w_i Π_m (W_m^(i) [h_m; 1]) + b``, linear in the number of modalities where the tensor is exponential.
    Gaps: ``[0; 1]``, as in `TensorFusion`.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality.
    n_classes : int
        Number of labels.
    hidden : int
        Units of an encoder.
    dropout : float
        Share of units that are dropped in training.
    encoders : mapping of str to torch.nn.Module, optional
        Modules (n_samples, width) to (n_samples, hidden), for modalities that need more than a perceptron of two
        layers.
    rank : int
        Number r of terms.

    References
    ----------
    Liu et al. (2018), Efficient low-rank multimodal fusion with modality-specific factors. arXiv:1806.00064

    Examples
    --------
    >>> features = {"face": torch.randn(5, 4), "voice": torch.randn(5, 6)}
    >>> present = {"face": torch.ones(5, dtype=bool), "voice": torch.tensor([True, True, False, True, True])}
    >>> LowRankFusion({"face": 4, "voice": 6}, n_classes=3, rank=2)(features, present).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        widths: Widths,
        n_classes: int,
        hidden: int = 32,
        dropout: float = 0.3,
        encoders: Encoders | None = None,
        rank: int = 4,
    ) -> None:
        super().__init__(widths, hidden, dropout, encoders)
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(rank, hidden + 1, n_classes) / math.sqrt(hidden + 1)) for name in widths}
        )
        with torch.no_grad():  # a modality starts as a factor around 1, so that the product does not vanish
            for factor in self.factors.values():
                factor[:, -1] += 1.0
        self.weights = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, features: Features, present: Presence) -> Tensor:
        # Logits (b, k)
        encoded = self.encode(features, present)
        terms = [torch.einsum("bd,rdk->brk", with_one(encoded[m]), self.factors[m]) for m in self.modalities]
        product = reduce(torch.mul, terms)
        return torch.einsum("brk,r->bk", product, self.weights) + self.bias


class GatedMultimodalUnit(_EncodedNetwork):
    """Gated multimodal unit: gates that see all modalities weigh each.

    ``h = Σ_m σ(Z_m [x_1; …; x_M]) ⊙ tanh(W_m x_m)``, then a linear layer. Gaps: gate 0, and 0 among what the gates see.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality.
    n_classes : int
        Number of labels.
    hidden : int
        Units of the fused state.
    dropout : float
        Share of units that are dropped in training.
    encoders : mapping of str to torch.nn.Module, optional
        Modules that keep the width of their modality; none where None.

    References
    ----------
    Arevalo et al. (2017), Gated multimodal units for information fusion. arXiv:1702.01992

    Examples
    --------
    >>> features = {"face": torch.randn(5, 4), "voice": torch.randn(5, 6)}
    >>> present = {"face": torch.ones(5, dtype=bool), "voice": torch.tensor([True, True, False, True, True])}
    >>> GatedMultimodalUnit({"face": 4, "voice": 6}, n_classes=3)(features, present).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, widths: Widths, n_classes: int, hidden: int = 32, dropout: float = 0.3, encoders: Encoders | None = None
    ) -> None:
        kept = {name: nn.Dropout(dropout) for name in widths}
        super().__init__(widths, hidden, dropout, {**kept, **(encoders or {})})
        self.states = by_modality(widths, lambda name, width: nn.Linear(width, hidden, bias=False))
        self.gates = by_modality(widths, lambda name, width: nn.Linear(sum(widths.values()), hidden, bias=False))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, n_classes))

    def joint(self, features: Features, present: Presence) -> Tensor:
        """The fused state h.

        Parameters
        ----------
        features : mapping of str to Tensor
        present : mapping of str to Tensor of bool

        Returns
        -------
        Tensor of shape (n_samples, hidden)
        """
        encoded = self.encode(features, present)
        together = torch.cat([encoded[name] for name in self.modalities], dim=1)
        states = [
            masked(
                torch.sigmoid(self.gates[name](together)) * torch.tanh(self.states[name](encoded[name])), present[name]
            )
            for name in self.modalities
        ]
        return torch.stack(states).sum(dim=0)


class MultimodalAutoencoder(_EncodedNetwork):
    """Multimodal deep autoencoder with a linear classifier on the shared representation.

    ``z = mean of h_m over the present modalities``; every modality is decoded from z. The loss adds ``weight`` times
    the mean squared error of all modalities that were present, decoded from those that modality dropout left: so a
    missing one can be reconstructed, and unlabelled rows are useful as well. Gaps: not in the mean.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality.
    n_classes : int
        Number of labels.
    hidden : int
        Units of an encoder.
    dropout : float
        Share of units that are dropped in training.
    encoders : mapping of str to torch.nn.Module, optional
        Modules (n_samples, width) to (n_samples, hidden), for modalities that need more than a perceptron of two
        layers.
    weight : float
        Weight of the reconstruction in the loss.

    References
    ----------
    Ngiam et al. (2011), Multimodal deep learning, ICML

    Examples
    --------
    >>> features = {"face": torch.randn(5, 4), "voice": torch.randn(5, 6)}
    >>> present = {"face": torch.ones(5, dtype=bool), "voice": torch.tensor([True, True, False, True, True])}
    >>> network = MultimodalAutoencoder({"face": 4, "voice": 6}, n_classes=3)
    >>> network(features, present).shape, network.reconstruct(features, present)["voice"].shape
    (torch.Size([5, 3]), torch.Size([5, 6]))
    """

    def __init__(
        self,
        widths: Widths,
        n_classes: int,
        hidden: int = 32,
        dropout: float = 0.3,
        encoders: Encoders | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__(widths, hidden, dropout, encoders)
        self.weight = weight
        self.decoders = by_modality(
            widths, lambda name, width: nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width))
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, n_classes))

    def joint(self, features: Features, present: Presence) -> Tensor:
        """The shared representation z.

        Parameters
        ----------
        features : mapping of str to Tensor
        present : mapping of str to Tensor of bool

        Returns
        -------
        Tensor of shape (n_samples, hidden)
        """
        total = torch.stack(list(self.encode(features, present).values())).sum(dim=0)
        count = torch.stack([present[name] for name in self.modalities]).sum(dim=0)
        return total / count.clamp(min=1).unsqueeze(1)

    def reconstruct(self, features: Features, present: Presence) -> dict[str, Tensor]:
        """All modalities, decoded from those that are present.

        Parameters
        ----------
        features : mapping of str to Tensor
        present : mapping of str to Tensor of bool

        Returns
        -------
        dict of str to Tensor of shape (n_samples, width)
        """
        z = self.joint(features, present)
        return {name: self.decoders[name](z) for name in self.modalities}

    def penalty(self, features: Features, present: Presence, kept: Presence) -> Tensor:
        # ``weight`` times the squared error a feature, over all that was present
        decoded = self.reconstruct(features, kept)
        errors = [
            F.mse_loss(masked(decoded[m], present[m]), masked(features[m], present[m]), reduction="sum")
            for m in self.modalities
        ]
        count = torch.stack([present[m].sum() * features[m].shape[1] for m in self.modalities]).sum()
        return self.weight * torch.stack(errors).sum() / count.clamp(min=1)
