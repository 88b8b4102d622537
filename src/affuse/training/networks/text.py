"""Networks over tokens: from scratch in any language, or on a pretrained Transformer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.errors import ConfigError
from affuse.lazy import needs_extra
from affuse.training.networks import backbones
from affuse.training.networks.base import Network, Output, check_at_least, check_share

__all__ = ["BagOfNgrams", "TextCNN", "Transformer"]

_HASH = 116_049_371  # the prime by which fastText spreads n-grams over its buckets


class _TextNetwork(Network):
    modality, reads = "text", "tokens"
    vocab_size: int

    def example(self) -> dict[str, Tensor]:
        """Two texts of five and three tokens."""
        ids = torch.randint(self.vocab_size, (2, 5))
        return {"ids": ids, "mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])}


class BagOfNgrams(_TextNetwork):
    """Mean of the vectors of tokens and hashed token n-grams, and a linear layer: fastText (arXiv:1607.01759).

    Minutes of training on one core, in any language that has a tokenizer (`tokenizers.train`).

    Parameters
    ----------
    n_labels: labels k. vocab_size: number of token ids. width: of the vectors. ngrams: length of the longest run of
    tokens. buckets: vectors that all n-grams share. dropout: share of the mean.
    """

    def __init__(
        self,
        n_labels: int,
        vocab_size: int,
        *,
        width: int = 64,
        ngrams: int = 3,
        buckets: int = 1 << 15,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        check_at_least(1, vocab_size=vocab_size, width=width, ngrams=ngrams, buckets=buckets)
        self.n_labels, self.vocab_size, self.embedding_width = n_labels, vocab_size, width
        self.ngrams, self.buckets = ngrams, buckets
        self.tokens = nn.Embedding(vocab_size, width)
        self.runs = nn.Embedding(buckets, width)
        for table in (self.tokens, self.runs):
            nn.init.uniform_(table.weight, -1 / width, 1 / width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, n_labels)

    def forward(self, ids: Tensor, mask: Tensor) -> Output:
        """Answer to token ids and mask (n, t)."""
        total = (self.tokens(ids) * mask.unsqueeze(2)).sum(dim=1)
        count = mask.sum(dim=1, keepdim=True)
        hashed, whole = ids, mask
        for n in range(2, self.ngrams + 1):
            # Padded by one, not cut, so that a run longer than the text is a masked column and not an empty tensor.
            hashed = (F.pad(hashed[:, :-1], (1, 0)) * _HASH + ids) % self.buckets
            whole = F.pad(whole[:, :-1], (1, 0)) * mask
            total = total + (self.runs((hashed + n) % self.buckets) * whole.unsqueeze(2)).sum(dim=1)
            count = count + whole.sum(dim=1, keepdim=True)
        embedding = total / count.clamp(min=1)
        return Output(self.head(self.dropout(embedding)), embedding)


class TextCNN(_TextNetwork):
    """Convolutions of several widths over token vectors and their peaks over time (Kim 2014, arXiv:1408.5882).

    Parameters
    ----------
    n_labels: labels k. vocab_size: number of token ids. width: of the token vectors. kernels: tokens that the filters
    see. filters: of each kernel. dropout: share of vectors and of the peaks.
    """

    def __init__(
        self,
        n_labels: int,
        vocab_size: int,
        *,
        width: int = 96,
        kernels: Sequence[int] = (2, 3, 4),
        filters: int = 96,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        check_at_least(1, vocab_size=vocab_size, width=width, filters=filters)
        if not kernels or min(kernels) < 1:
            raise ConfigError(f"kernels must be one or more widths of at least 1; got {list(kernels)}")
        self.n_labels, self.vocab_size, self.embedding_width = n_labels, vocab_size, filters * len(kernels)
        self.tokens = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.tokens.weight, std=0.1)
        self.convolutions = nn.ModuleList([nn.Conv1d(width, filters, k, padding=k - 1) for k in kernels])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.embedding_width, n_labels)

    def forward(self, ids: Tensor, mask: Tensor) -> Output:
        """Answer to token ids and mask (n, t)."""
        real = mask.unsqueeze(1).to(self.tokens.weight.dtype)
        vectors = self.dropout(self.tokens(ids)).transpose(1, 2) * real
        embedding = torch.cat([self._peaks(convolve, vectors, real) for convolve in self.convolutions], dim=1)
        return Output(self.head(self.dropout(embedding)), embedding)

    @staticmethod
    def _peaks(convolve: nn.Conv1d, vectors: Tensor, real: Tensor) -> Tensor:
        size = convolve.kernel_size[0]
        # Windows that hold padding alone would answer with the bias: a text's answer must not depend on the others'.
        touched = F.max_pool1d(F.pad(real, (size - 1, size - 1)), size, stride=1)
        return (torch.relu(convolve(vectors)) * touched).amax(dim=2)


class Transformer(_TextNetwork):
    """A pretrained Transformer (Devlin et al. 2019, arXiv:1810.04805) with a linear layer over its mean state.

    Tuning: "full" trains all but the word embeddings, "head" only the last layer, "lora" low-rank additions to the
    attention (Hu et al. 2022, arXiv:2106.09685), which `merged` folds in for export.

    Parameters
    ----------
    n_labels: labels k. pretrained: what `backbones.resolve` finds; its tokenizer.json goes with it (`folder`).
    revision, sha256: pins of a network from the hub. tuning: as above. rank, scale: r and alpha of the additions.
    dropout: share of the embedding.
    """

    def __init__(
        self,
        n_labels: int,
        pretrained: str | Path = backbones.MINILM,
        *,
        revision: str | None = None,
        sha256: str | None = None,
        tuning: Literal["full", "lora", "head"] = "full",
        rank: int = 8,
        scale: float = 16.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        check_at_least(1, rank=rank)
        if tuning not in ("full", "lora", "head"):
            raise ConfigError(f"tuning must be full, lora or head; got {tuning!r}")
        self.folder = backbones.resolve(pretrained, revision, sha256)
        self.encoder = backbones.load(self.folder, attn_implementation="eager")
        self.encoder.pooler = None
        if tuning == "full":
            self.encoder.get_input_embeddings().requires_grad_(False)
        else:
            self.encoder.requires_grad_(False)
        self.n_labels, self.embedding_width = n_labels, self.encoder.config.hidden_size
        self.vocab_size = self.encoder.config.vocab_size
        self.has_additions = tuning == "lora"
        if self.has_additions:
            self.encoder = _with_lora(self.encoder, rank, scale)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.embedding_width, n_labels)

    def forward(self, ids: Tensor, mask: Tensor) -> Output:
        """Answer to token ids and mask (n, t)."""
        states = self.token_states(ids, mask)
        weights = mask.unsqueeze(2).to(states.dtype)
        embedding = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return Output(self.head(self.dropout(embedding)), embedding)

    def token_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The encoder's last states (n, t, d)."""
        return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def merged(self) -> Network:
        """A copy with the low-rank additions in the weights they add to; itself where there are none."""
        if not self.has_additions:
            return self
        plain = copy.deepcopy(self)
        plain.encoder, plain.has_additions = plain.encoder.merge_and_unload(), False
        return plain


def _with_lora(encoder: nn.Module, rank: int, scale: float) -> Any:
    with needs_extra("train"):
        from peft import LoraConfig, LoraModel
    try:
        return LoraModel(encoder, LoraConfig(r=rank, lora_alpha=scale, lora_dropout=0.05), "default")
    except ValueError as error:
        raise ConfigError(f"low-rank tuning does not know this network: {str(error).splitlines()[0]}") from error
