"""Networks over steps: within a row (sound, frames, words), or over the utterances of a video in their order."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from affuse.errors import ConfigError
from affuse.fusion.networks.parts import (
    Features,
    FusionNetwork,
    Presence,
    Widths,
    by_modality,
    gap_indicators,
    masked,
    masked_mean,
)

__all__ = [
    "BothWays",
    "ContextualAttention",
    "ContextualLSTM",
    "ConvolutionalLSTM",
    "CrossAttention",
    "CrossModalBlock",
    "SinusoidalPositions",
]

_KERNEL = 3  # steps that a convolution over time sees


class ConvolutionalLSTM(FusionNetwork):
    """A convolution and an LSTM over the steps of every modality, pooled side by side (CNN + LSTM).

    ``s_m = mean over steps of LSTM(ReLU(conv(x_m)))``, ``y = W [s_1; …; s_M; gaps] + b``. Gaps: missing steps are 0 and
    not in the mean; a modality without any step is 0, and the last layer sees which.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality in a step.
    n_classes : int
        Number of labels.
    hidden : int
        Channels of the convolution and units of the LSTM.
    dropout : float
        Share of units that are dropped in training.

    References
    ----------
    Trigeorgis et al. (2016), Adieu features? doi:10.1109/ICASSP.2016.7472669

    Examples
    --------
    >>> features = {"face": torch.randn(5, 7, 4), "voice": torch.randn(5, 9, 6)}  # 7 and 9 steps
    >>> present = {"face": torch.ones(5, 7, dtype=bool), "voice": torch.ones(5, 9, dtype=bool)}
    >>> ConvolutionalLSTM({"face": 4, "voice": 6}, n_classes=3)(features, present).shape
    torch.Size([5, 3])
    """

    def __init__(self, widths: Widths, n_classes: int, hidden: int = 32, dropout: float = 0.3) -> None:
        super().__init__(widths)
        self.convolutions = by_modality(widths, lambda name, width: nn.Conv1d(width, hidden, _KERNEL, padding="same"))
        self.memories = by_modality(widths, lambda name, width: nn.LSTM(hidden, hidden, batch_first=True))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(len(widths) * (hidden + 1), n_classes)

    def forward(self, features: Features, present: Presence) -> Tensor:
        # Logits (b, k) from (b, t_m, d_m)
        pooled = [self.pool(name, features[name], present[name]) for name in self.modalities]
        gaps = gap_indicators(present, self.modalities, pooled[0].dtype)
        answer: Tensor = self.head(torch.cat([self.dropout(torch.cat(pooled, dim=1)), gaps], dim=1))
        return answer

    def pool(self, name: str, values: Tensor, present: Tensor) -> Tensor:
        """Mean state of one modality over the steps that are present.

        Parameters
        ----------
        name : str
            The modality.
        values : Tensor of shape (n_samples, n_steps, width)
        present : Tensor of bool of shape (n_samples, n_steps)

        Returns
        -------
        Tensor of shape (n_samples, hidden)
        """
        x = self.dropout(masked(values, present))
        x = torch.relu(self.convolutions[name](x.transpose(1, 2))).transpose(1, 2)
        states, _ = self.memories[name](x)
        return masked_mean(states, present)


class SinusoidalPositions(nn.Module):
    """Adds ``sin(t / 10000^(2i/d))`` and its cosine to (b, t, d) (Vaswani et al. 2017, arXiv:1706.03762)."""

    def forward(self, x: Tensor) -> Tensor:
        # ``x`` (b, t, d) plus the code of every step
        steps = torch.arange(x.shape[1], device=x.device, dtype=x.dtype).unsqueeze(1)
        rates = torch.exp(
            torch.arange(0, x.shape[2], 2, device=x.device, dtype=x.dtype) * (-math.log(10_000.0) / x.shape[2])
        )
        code = torch.stack([torch.sin(steps * rates), torch.cos(steps * rates)], dim=2).flatten(1)
        return x + code[:, : x.shape[2]]


class CrossModalBlock(nn.Module):
    """One layer of a crossmodal Transformer: steps of a target attend to steps of a source (MulT, eq. 1-4).

    ``y = x + Attention(LN(x), LN(s), LN(s))``, ``z = y + FF(LN(y))``. A row whose source has no step keeps x.

    Parameters
    ----------
    hidden : int
        Units.
    heads : int
        Heads of the attention, a divisor of ``hidden``.
    dropout : float
        Share of units that are dropped in training.

    References
    ----------
    Tsai et al. (2019), Multimodal transformer for unaligned multimodal language sequences. arXiv:1906.00295
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden, heads, dropout=dropout, batch_first=True)
        self.before_target = nn.LayerNorm(hidden)
        self.before_source = nn.LayerNorm(hidden)
        self.before_feed = nn.LayerNorm(hidden)
        self.feed = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * hidden, hidden)
        )

    def forward(self, target: Tensor, source: Tensor, present: Tensor) -> Tensor:
        # Target (b, t, hidden) after attending to the steps of source (b, s, hidden) that are ``present`` (b, s)
        some = present.any(dim=1)
        ask, answer = self.before_target(target), self.before_source(source)
        # A softmax over no step would be NaN: rows without any are let through and then set to 0.
        hidden_steps = ~(present | ~some.unsqueeze(1))
        found, _ = self.attention(ask, answer, answer, key_padding_mask=hidden_steps, need_weights=False)
        y = target + masked(found, some.unsqueeze(1).expand(-1, found.shape[1]))
        return y + self.feed(self.before_feed(y))


class _CrossModalTrunk(FusionNetwork):
    """Every modality attends to every other, then to itself: (b, t, d_m) to states (b, t, hidden · max(1, M - 1))."""

    def __init__(
        self,
        widths: Widths,
        n_classes: int,
        hidden: int = 16,
        dropout: float = 0.3,
        heads: int = 4,
        layers: int = 1,
    ) -> None:
        super().__init__(widths)
        if hidden % heads:
            raise ConfigError(f"hidden must be a multiple of heads; got hidden={hidden} and heads={heads}")
        self.layers = layers
        self.width = hidden * max(1, len(widths) - 1)
        self.dropout = nn.Dropout(dropout)
        self.inputs = by_modality(widths, lambda name, width: nn.Linear(width, hidden, bias=False))
        self.positions = SinusoidalPositions()
        self.crossings = nn.ModuleDict(
            {
                f"{target}<-{source}:{layer}": CrossModalBlock(hidden, heads, dropout)
                for target in widths
                for source in widths
                for layer in range(layers)
                if source != target
            }
        )
        self.memories = by_modality(widths, lambda name, width: CrossModalBlock(self.width, heads, dropout))
        self.head = nn.Linear(len(widths) * self.width, n_classes)

    def states(self, features: Features, present: Presence) -> dict[str, Tensor]:
        """States of every modality, 0 at missing steps.

        Parameters
        ----------
        features : mapping of str to Tensor of shape (n_samples, n_steps, width)
        present : mapping of str to Tensor of bool of shape (n_samples, n_steps)

        Returns
        -------
        dict of str to Tensor of shape (n_samples, n_steps, hidden * max(1, n_modalities - 1))
        """
        x = {
            m: masked(self.positions(self.inputs[m](self.dropout(masked(features[m], present[m])))), present[m])
            for m in self.modalities
        }
        return {m: self._fused(m, x, present) for m in self.modalities}

    def _fused(self, target: str, x: Mapping[str, Tensor], present: Presence) -> Tensor:
        sources = [m for m in self.modalities if m != target]
        crossed = [self._crossed(target, source, x, present) for source in sources] or [x[target]]
        joined = torch.cat(crossed, dim=2)
        return masked(self.memories[target](joined, joined, present[target]), present[target])

    def _crossed(self, target: str, source: str, x: Mapping[str, Tensor], present: Presence) -> Tensor:
        y = x[target]
        for layer in range(self.layers):
            y = self.crossings[f"{target}<-{source}:{layer}"](y, x[source], present[source])
        return y


class CrossAttention(_CrossModalTrunk):
    """Multimodal Transformer (MulT): steps of a modality attend to those of every other.

    Modalities need not be aligned nor of the same length. The answer is linear in the mean state of every modality.
    Gaps: missing steps are not attended to; a modality without any step answers 0.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality in a step.
    n_classes : int
        Number of labels.
    hidden : int
        Units of every cross-attention.
    dropout : float
        Share of units that are dropped in training.
    heads : int
        Heads of the attention; ``hidden`` must be a multiple of it.
    layers : int
        Layers of cross-attention.

    References
    ----------
    Tsai et al. (2019), Multimodal transformer for unaligned multimodal language sequences. arXiv:1906.00295

    Examples
    --------
    >>> features = {"face": torch.randn(5, 7, 4), "voice": torch.randn(5, 9, 6)}  # 7 and 9 steps
    >>> present = {"face": torch.ones(5, 7, dtype=bool), "voice": torch.ones(5, 9, dtype=bool)}
    >>> CrossAttention({"face": 4, "voice": 6}, n_classes=3)(features, present).shape
    torch.Size([5, 3])
    """

    def forward(self, features: Features, present: Presence) -> Tensor:
        # Logits (b, k) from (b, t_m, d_m)
        states = self.states(features, present)
        pooled = torch.cat([masked_mean(states[m], present[m]) for m in self.modalities], dim=1)
        answer: Tensor = self.head(self.dropout(pooled))
        return answer


class ContextualAttention(_CrossModalTrunk):
    """Multimodal Transformer (MulT) over the utterances of a video, each of which is answered.

    Gaps: an utterance is not attended to in a modality that it lacks.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality in an utterance.
    n_classes : int
        Number of labels.
    hidden : int
        Units of every cross-attention.
    dropout : float
        Share of units that are dropped in training.
    heads : int
        Heads of the attention; ``hidden`` must be a multiple of it.
    layers : int
        Layers of cross-attention.

    References
    ----------
    Tsai et al. (2019), Multimodal transformer for unaligned multimodal language sequences. arXiv:1906.00295

    Examples
    --------
    >>> features = {"face": torch.randn(2, 8, 4), "voice": torch.randn(2, 8, 6)}  # two videos of 8 utterances
    >>> present = {name: torch.ones(2, 8, dtype=bool) for name in features}
    >>> ContextualAttention({"face": 4, "voice": 6}, n_classes=3)(features, present).shape
    torch.Size([2, 8, 3])
    """

    def forward(self, features: Features, present: Presence, lengths: Tensor | None = None) -> Tensor:
        # Logits (b, t, k) from (b, t, d_m); padding behind ``lengths`` (b,) is what no modality has anyway
        states = self.states(features, present)
        answer: Tensor = self.head(self.dropout(torch.cat([states[m] for m in self.modalities], dim=2)))
        return answer


class ContextualLSTM(FusionNetwork):
    """Contextual bidirectional LSTM over the utterances of a video.

    The paper's hierarchical fusion in one: every modality's utterances go through a dense layer and a bidirectional
    LSTM, their states side by side through a second dense layer and LSTM, and each utterance is answered. The paper
    trains the levels one after the other; here they are trained together. Gaps: 0, and the second level sees which.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality in an utterance.
    n_classes : int
        Number of labels.
    hidden : int
        Units of an LSTM in one direction.
    dropout : float
        Share of units that are dropped in training.

    References
    ----------
    Poria et al. (2017), Context-dependent sentiment analysis in user-generated videos. doi:10.18653/v1/P17-1081

    Examples
    --------
    >>> features = {"face": torch.randn(2, 8, 4), "voice": torch.randn(2, 8, 6)}  # two videos of 8 utterances
    >>> present = {name: torch.ones(2, 8, dtype=bool) for name in features}
    >>> ContextualLSTM({"face": 4, "voice": 6}, n_classes=3)(features, present).shape
    torch.Size([2, 8, 3])
    """

    def __init__(self, widths: Widths, n_classes: int, hidden: int = 32, dropout: float = 0.3) -> None:
        super().__init__(widths)
        self.dropout = nn.Dropout(dropout)
        self.dense = by_modality(widths, lambda name, width: nn.Linear(width, hidden))
        self.memories = by_modality(widths, lambda name, width: BothWays(hidden, hidden))
        self.joint_dense = nn.Linear(len(widths) * (2 * hidden + 1), hidden)
        self.joint = BothWays(hidden, hidden)
        self.head = nn.Linear(2 * hidden, n_classes)

    def forward(self, features: Features, present: Presence, lengths: Tensor | None = None) -> Tensor:
        # Logits (b, t, k) from (b, t, d_m); a sequence ends at its place in ``lengths`` (b,), or at t
        parts = []
        for m in self.modalities:
            x = torch.tanh(self.dense[m](self.dropout(masked(features[m], present[m]))))
            parts.append(self.memories[m](masked(x, present[m]), lengths))
            parts.append((~present[m]).unsqueeze(2).to(x.dtype))
        joined = torch.tanh(self.joint_dense(self.dropout(torch.cat(parts, dim=2))))
        answer: Tensor = self.head(self.dropout(self.joint(joined, lengths)))
        return answer


class BothWays(nn.Module):
    """LSTMs in both directions over padded sequences; the backward one starts at the last real step.

    The same as `pack_padded_sequence`, in a tenth of its time on a CPU.

    Parameters
    ----------
    width : int
        Features of a step.
    hidden : int
        Units in one direction.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.ahead = nn.LSTM(width, hidden, batch_first=True)
        self.back = nn.LSTM(width, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        # States (b, t, 2 hidden) of x (b, t, width), whose sequences end at ``lengths`` (b,), or at t
        steps = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        ends = torch.full_like(steps, x.shape[1]) if lengths is None else lengths.to(x.device).unsqueeze(1)
        turned = torch.where(steps < ends, ends - 1 - steps, steps).unsqueeze(2)  # its own inverse
        ahead, _ = self.ahead(x)
        back, _ = self.back(x.gather(1, turned.expand_as(x)))
        return torch.cat([ahead, back.gather(1, turned.expand_as(back))], dim=2)
