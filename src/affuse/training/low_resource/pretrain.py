"""Self-supervised pre-training: a network learns from recordings and texts that nobody labelled.

``python -m affuse.training.low_resource.pretrain config.toml --out start.safetensors [--epochs 50]``

The configuration is the one of ``affuse train``; labels are ignored, dev and test rows left out. What is written
is loaded by ``[network] start = "start.safetensors"``, for text together with ``tokenizer = "start.tokenizer.json"``.

Sound and pictures: two views of one clip should have embeddings more alike than those of other clips (SimCLR, Chen et
al. 2020, arXiv:2002.05709). Texts: hidden tokens are told from the rest, by the state at their place where a network
has one (Devlin et al. 2019, arXiv:1810.04805), else by its embedding (as CBOW: Mikolov et al. 2013, arXiv:1301.3781).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.data.own import Sample, read
from affuse.errors import AffuseError, ConfigError, DataError
from affuse.files import replacing
from affuse.loop import LoopConfig, fit
from affuse.training import networks
from affuse.training.augment import PictureAugmentation, SoundAugmentation
from affuse.training.config import TrainConfig, read_config, resolve
from affuse.training.inputs import Augmentation, Draw, Inputs, Store, inputs_of
from affuse.training.networks import tokenizers
from affuse.training.networks.base import Network

__all__ = [
    "Contrastive",
    "HiddenTokens",
    "PretrainOptions",
    "main",
    "nt_xent",
    "pretrain",
    "pretrain_from",
    "save_start",
    "views_of",
]


_VIEWS = Augmentation(
    sound=SoundAugmentation(noise_snr=(5, 30), reverberation=(0.1, 0.5), gain=(-12, 6), probability=0.7),
    picture=PictureAugmentation(
        crop=0.25, flip=0.5, rotation=20, scale=0.15, shift=0.05, brightness=0.7, occlusion=(0.02, 0.15), blur=(0, 0.03)
    ),
)


@dataclass(frozen=True)
class PretrainOptions:
    """How it is pre-trained.

    Parameters
    ----------
    epochs: passes. batch_size: rows a batch; contrast needs many. learning_rate, weight_decay: of AdamW, along half a
    cosine. temperature: of the contrast. width: of the space in which views are compared, which is thrown away.
    hidden: share of the tokens to be told. seed: of all that is drawn. Raises ConfigError for what is out of range.
    """

    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    temperature: float = 0.2
    width: int = 64
    hidden: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.width < 1:
            raise ConfigError("pre-training needs epochs and width of at least 1 and a batch_size of at least 2")
        if not (self.learning_rate > 0 and self.temperature > 0 and self.weight_decay >= 0):
            raise ConfigError("learning_rate and temperature must be above 0, and weight_decay not below")
        if not 0 < self.hidden < 1:
            raise ConfigError(f"hidden takes a share above 0 and below 1; got {self.hidden:g}")


def pretrain(
    network: Network, inputs: Inputs, n: int, options: PretrainOptions, plan: LoopConfig | None = None, blank: int = 1
) -> None:
    """Pre-train ``network`` in place on ``n`` rows of ``inputs``, whose random views it learns from.

    ``plan`` says where it runs and where checkpoints go; epochs and seed are those of ``options``. ``blank`` is the id
    that stands for a hidden token. Raises DataError for fewer than two rows.
    """
    if n < 2:
        raise DataError(f"pre-training compares rows with each other; got {n}")
    plan = replace(plan or LoopConfig(options.epochs), max_epochs=options.epochs, seed=options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        reads_words = network.reads == "tokens"
        module = HiddenTokens(network, options, blank) if reads_words else Contrastive(network, options)
    fit(module.train(), _Views(inputs, n, options, views=1 if reads_words else 2), plan, monitor=None)


def views_of(
    network: Network, store: Store, samples: Sequence[Sample], seconds: float, tokenizer: Tokenizer | None
) -> Inputs:
    """Inputs whose augmentation makes views for pre-training.

    Views differ in noise, room, level and framing, but neither in pitch and speed nor beyond recognition of a face:
    what carries emotion must not become what the network learns to ignore. Raises ConfigError for networks that read
    something else.
    """
    if network.reads not in ("waveform", "tokens", "images", "clips"):
        raise ConfigError(f"networks over {network.reads} are not pre-trained; pre-train what they are made of")
    return inputs_of(network, samples, store, seconds / 2, tokenizer, _VIEWS)


def save_start(network: Network, path: Path) -> None:
    """Write all weights but the head's as safetensors. Raises OutputError where they cannot be written."""
    from safetensors.torch import save_file

    weights = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items() if not k.startswith("head.")}
    with replacing(path) as (part,):
        save_file(weights, part)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over both views of -log softmax of the cosine with the other view of the same row, among all 2n - 1 others.

    ``first`` and ``second`` are (n, d). Source: equation 1 of arXiv:2002.05709.
    """
    both = F.normalize(torch.cat([first, second]), dim=1)
    cosines = both @ both.T / temperature
    cosines.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(both), device=both.device).roll(len(first))
    return F.cross_entropy(cosines, partner)


class _Pretraining(LightningModule):
    """Optimiser and logs of both ways."""

    def __init__(self, network: Network, options: PretrainOptions) -> None:
        super().__init__()
        self.network, self.options = network, options

    def training_step(self, batch: list[dict[str, Tensor]], index: int) -> Tensor:
        """Loss of a batch of views."""
        loss = self.loss(*batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(next(iter(batch[0].values()))))
        return loss

    def loss(self, *views: dict[str, Tensor]) -> Tensor:
        """Of the views of one batch."""
        raise NotImplementedError

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW along half a cosine."""
        optimizer = torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad],
            self.options.learning_rate,
            weight_decay=self.options.weight_decay,
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        course = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": course, "interval": "step"}}


class Contrastive(_Pretraining):
    """Two views of a row find each other among those of all rows of a batch, in the space of a projection."""

    def __init__(self, network: Network, options: PretrainOptions) -> None:
        super().__init__(network, options)
        width = network.embedding_width
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, options.width))

    def loss(self, *views: dict[str, Tensor]) -> Tensor:
        """NT-Xent of two views."""
        first, second = (self.projection(self.network(**view).embedding) for view in views)
        return nt_xent(first, second, self.options.temperature)


class HiddenTokens(_Pretraining):
    """Tokens that are hidden behind ``blank``, told from those that are not."""

    def __init__(self, network: Network, options: PretrainOptions, blank: int) -> None:
        super().__init__(network, options)
        self.blank = blank
        self.decoder = nn.Linear(network.embedding_width, network.vocab_size)

    def loss(self, *views: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of the hidden tokens."""
        (view,) = views
        ids, mask = view["ids"], view["mask"]
        hidden = (torch.rand(ids.shape, device=ids.device) < self.options.hidden) & mask.bool()
        if not hidden.any():
            hidden = mask.bool()
        shown = ids.masked_fill(hidden, self.blank)
        states = self.network.token_states(shown, mask)
        if states is None:
            told = self.network(ids=shown, mask=mask).embedding[hidden.nonzero()[:, 0]]
        else:
            told = states[hidden]
        return F.cross_entropy(self.decoder(told), ids[hidden])


class _Views(LightningDataModule):
    """Batches of random views, drawn from the seed of the epoch."""

    def __init__(self, inputs: Inputs, n: int, options: PretrainOptions, views: int) -> None:
        super().__init__()
        self.inputs, self.n, self.options, self.views = inputs, n, options, views
        self.size = min(options.batch_size, n)

    def train_dataloader(self) -> _Views:
        """Itself: Lightning wants something to iterate over."""
        return self

    def __len__(self) -> int:
        assert self.trainer is not None
        return max(1, self.n // self.size // self.trainer.world_size)

    def __iter__(self) -> Iterator[list[dict[str, Tensor]]]:
        assert self.trainer is not None
        epoch, rank, world = self.trainer.current_epoch, self.trainer.global_rank, self.trainer.world_size
        order = np.random.default_rng([self.options.seed, epoch]).permutation(self.n)
        draw = Draw.of(self.options.seed, epoch, rank)
        for number in range(rank, len(self) * world, world):
            rows = order[number % (self.n // self.size) * self.size :][: self.size]
            yield [self.inputs.learning(rows, draw) for _ in range(self.views)]


def pretrain_from(config: TrainConfig, out: Path, options: PretrainOptions) -> None:
    """Pre-train the network of a resolved configuration on its data, and write it (and its tokenizer) to ``out``.

    Raises DataError and ConfigError where data and network do not fit, OutputError where nothing can be written.
    """
    reading = replace(config.data.reading, unlabelled="keep")
    data = read(config.data.source, config.data.modality, reading)
    samples = data.split("train")
    name, chosen = str(config.network.name), dict(config.network.options)
    tokenizer = None
    if "vocab_size" in networks.options(name):
        tokenizer = _tokenizer(config, samples)
        chosen.setdefault("vocab_size", tokenizer.get_vocab_size())
    torch.manual_seed(options.seed)
    network = networks.make(name, max(2, len(data.labels)), **chosen)
    if network.reads == "tokens" and tokenizer is None:
        place = config.network.tokenizer or network.folder
        assert place is not None  # a network over tokens has a vocabulary or comes with a tokenizer
        tokenizer = tokenizers.load(place, config.network.max_tokens)
    with TemporaryDirectory() as folder:
        inputs = views_of(network, Store(Path(folder)), samples, config.data.seconds, tokenizer)
        plan = LoopConfig(options.epochs, accelerator=config.device.accelerator, precision=config.device.precision)
        pretrain(network, inputs, len(samples), options, plan, _blank(tokenizer))
    save_start(network, out)
    if tokenizer is not None:
        with replacing(out.with_suffix(".tokenizer.json")) as (part,):
            tokenizer.save(str(part))


def _tokenizer(config: TrainConfig, samples: Sequence[Sample]) -> Tokenizer:
    if config.network.tokenizer is not None:
        return tokenizers.load(config.network.tokenizer, config.network.max_tokens)
    texts = (sample.text for sample in samples if sample.text)
    return tokenizers.train(texts, config.network.vocabulary, config.network.max_tokens)


def _blank(tokenizer: Tokenizer | None) -> int:
    """Id of the token that stands for a hidden one: what a tokenizer has for it, else its unknown token."""
    if tokenizer is None:
        return 0
    found = (tokenizer.token_to_id(token) for token in ("[MASK]", "<mask>", "[UNK]", "<unk>"))
    return next((blank for blank in found if blank is not None), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Pre-train as a configuration says; exits with 2 and a sentence where something does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration of affuse train")
    parser.add_argument("--out", type=Path, required=True, help="weights to write (safetensors)")
    parser.add_argument("--epochs", type=int, default=PretrainOptions.epochs, help="passes over the data (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=PretrainOptions.batch_size, help="rows a batch (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=PretrainOptions.seed, help="seed of all that is random (%(default)s)"
    )
    chosen = parser.parse_args(arguments)
    try:
        options = PretrainOptions(chosen.epochs, chosen.batch_size, seed=chosen.seed)
        pretrain_from(resolve(read_config(chosen.config)), chosen.out, options)
    except AffuseError as error:
        parser.exit(2, f"affuse: {error}\n")


if __name__ == "__main__":
    main()
