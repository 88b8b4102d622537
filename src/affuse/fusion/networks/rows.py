"""Networks over one vector a modality: late, tensor, low-rank and gated fusion, and the multimodal autoencoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.errors import ConfigError
from affuse.fusion.networks.parts import Encoders, Features, FusionNetwork, Presence, by_modality, encoder, masked

__all__ = ["GatedMultimodalUnit", "LateFusion", "LowRankFusion", "MultimodalAutoencoder", "TensorFusion"]

_MOST_PRODUCTS = 1_000_000


class _EncodedNetwork(FusionNetwork):
    """Encodes every modality by itself: a two-layer perceptron each, or the module that ``encoders`` names for it."""

    def __init__(self, widths: Mapping[str, int], hidden: int, dropout: float, encoders: Encoders | None) -> None:
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


class LateFusion(_EncodedNetwork):
    """Encoders, one head of logits a modality, and a linear fusion head over all logits (LF-DNN).

    ``y = W [l_1; …; l_M; gaps] + b`` with ``l_m = V_m h_m + c_m``. Source: the late-fusion baseline of Yu et al. 2020
    (doi:10.18653/v1/2020.acl-main.343). The head starts as the sum of the logits. Gaps: their logits are 0, and the
    head sees which are missing.

    Parameters
    ----------
    widths: features d_m of every modality. n_classes: labels k. hidden: units of an encoder. dropout: share of units.
    encoders: modules (b, d_m) → (b, hidden) for modalities that need more than a perceptron (pictures, sound).
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        n_classes: int,
        hidden: int = 32,
        dropout: float = 0.3,
        encoders: Encoders | None = None,
    ) -> None:
        super().__init__(widths, hidden, dropout, encoders)
        self.heads = by_modality(widths, lambda name, width: nn.Linear(hidden, n_classes))
        self.fusion = nn.Linear(len(widths) * (n_classes + 1), n_classes)
        with torch.no_grad():
            sums = torch.eye(n_classes).repeat(1, len(widths))
            self.fusion.weight.copy_(torch.cat([sums, torch.zeros(n_classes, len(widths))], dim=1))
            self.fusion.bias.zero_()

    def forward(self, features: Features, present: Presence) -> Tensor:
        """Logits (b, k)."""
        encoded = self.encode(features, present)
        logits = [masked(self.heads[name](encoded[name]), present[name]) for name in self.modalities]
        gaps = torch.stack([~present[name] for name in self.modalities], dim=1).to(logits[0].dtype)
        answer: Tensor = self.fusion(torch.cat([*logits, gaps], dim=1))
        return answer


class TensorFusion(_EncodedNetwork):
    """Tensor fusion network: all products of units of different modalities (Zadeh et al. 2017, arXiv:1707.07250).

    ``z = [h_1; 1] ⊗ … ⊗ [h_M; 1]``, the outer product, which holds every modality alone, every pair and so on; then a
    perceptron. Gaps: ``[0; 1]``, which leaves the products of the other modalities.

    Parameters
    ----------
    widths, n_classes, hidden, dropout, encoders: as in `LateFusion`; the tensor has (hidden + 1)^M entries, at most a
        million.
    units: of the perceptron on top.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
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

    def forward(self, features: Features, present: Presence) -> Tensor:
        """Logits (b, k)."""
        answer: Tensor = self.head(self.products(features, present))
        return answer

    def products(self, features: Features, present: Presence) -> Tensor:
        """The flattened outer product (b, Π (hidden + 1)), the last modality's units running fastest."""
        parts = [with_one(h) for h in self.encode(features, present).values()]
        return reduce(lambda z, part: (z.unsqueeze(2) * part.unsqueeze(1)).flatten(1), parts)


def with_one(h: Tensor) -> Tensor:
    """``[h; 1]``: (b, d + 1) from (b, d)."""
    return torch.cat([h, torch.ones_like(h[:, :1])], dim=1)


class LowRankFusion(_EncodedNetwork):
    """Low-rank multimodal fusion: tensor fusion whose weight tensor has rank r (Liu et al. 2018, arXiv:1806.00064).

    ``y = Σ_i w_i Π_m (W_m^(i) [h_m; 1]) + b``, linear in the number of modalities where the tensor is exponential.
    Gaps: ``[0; 1]``, as in `TensorFusion`.

    Parameters
    ----------
    widths, n_classes, hidden, dropout, encoders: as in `LateFusion`.
    rank: number r of terms.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
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
        """Logits (b, k)."""
        encoded = self.encode(features, present)
        terms = [torch.einsum("bd,rdk->brk", with_one(encoded[m]), self.factors[m]) for m in self.modalities]
        product = reduce(torch.mul, terms)
        return torch.einsum("brk,r->bk", product, self.weights) + self.bias


class GatedMultimodalUnit(_EncodedNetwork):
    """Gated multimodal unit: gates that see all modalities weigh each (Arevalo et al. 2017, arXiv:1702.01992).

    ``h = Σ_m σ(Z_m [x_1; …; x_M]) ⊙ tanh(W_m x_m)``, then a linear layer. The unit has no encoders of its own unless
    ``encoders`` names some. Gaps: gate 0, and 0 among what the gates see.

    Parameters
    ----------
    widths, n_classes, hidden, dropout, encoders: as in `LateFusion`; an encoder here must keep the width d_m.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        n_classes: int,
        hidden: int = 32,
        dropout: float = 0.3,
        encoders: Encoders | None = None,
    ) -> None:
        kept = {name: nn.Dropout(dropout) for name in widths}
        super().__init__(widths, hidden, dropout, {**kept, **(encoders or {})})
        self.states = by_modality(widths, lambda name, width: nn.Linear(width, hidden, bias=False))
        self.gates = by_modality(widths, lambda name, width: nn.Linear(sum(widths.values()), hidden, bias=False))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, n_classes))

    def forward(self, features: Features, present: Presence) -> Tensor:
        """Logits (b, k)."""
        answer: Tensor = self.head(self.unit(features, present))
        return answer

    def unit(self, features: Features, present: Presence) -> Tensor:
        """The fused state h (b, hidden)."""
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
    """Bimodal deep autoencoder for any number of modalities (Ngiam et al. 2011, ICML, "Multimodal deep learning").

    ``z = mean of h_m over what is present``; every modality is decoded from z, and a linear head answers. The loss adds
    ``weight`` times the mean squared error of all modalities that were present, decoded from those that modality
    dropout left: so that a missing one can be reconstructed, and unlabelled rows teach as well. Gaps: not in the mean.

    Parameters
    ----------
    widths, n_classes, hidden, dropout, encoders: as in `LateFusion`.
    weight: of the reconstruction in the loss.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
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

    def forward(self, features: Features, present: Presence) -> Tensor:
        """Logits (b, k)."""
        answer: Tensor = self.head(self.latent(features, present))
        return answer

    def latent(self, features: Features, present: Presence) -> Tensor:
        """The shared representation z (b, hidden)."""
        total = torch.stack(list(self.encode(features, present).values())).sum(dim=0)
        count = torch.stack([present[name] for name in self.modalities]).sum(dim=0)
        return total / count.clamp(min=1).unsqueeze(1)

    def reconstruct(self, features: Features, present: Presence) -> dict[str, Tensor]:
        """All modalities (b, d_m) decoded from those that are present."""
        z = self.latent(features, present)
        return {name: self.decoders[name](z) for name in self.modalities}

    def penalty(self, features: Features, present: Presence, kept: Presence) -> Tensor:
        """``weight`` times the squared error a feature, over all that was present."""
        decoded = self.reconstruct(features, kept)
        errors = [
            F.mse_loss(masked(decoded[m], present[m]), masked(features[m], present[m]), reduction="sum")
            for m in self.modalities
        ]
        count = torch.stack([present[m].sum() * features[m].shape[1] for m in self.modalities]).sum()
        return self.weight * torch.stack(errors).sum() / count.clamp(min=1)
