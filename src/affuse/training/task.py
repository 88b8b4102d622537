"""From a configuration to what the loop needs: data in parts that share no speaker, their inputs, and the network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from affuse.data.own import Sample, TrainingData
from affuse.data.own.splits import set_aside
from affuse.errors import AssetError, ConfigError, DataError
from affuse.labels import LabelSpace
from affuse.loop import epoch_seed
from affuse.media import Recording
from affuse.training import networks
from affuse.training.config import TrainConfig
from affuse.training.inputs import Augmentation, Blocks, Inputs, Store, inputs_of
from affuse.training.module import MIXABLE, Split
from affuse.training.networks import tokenizers
from affuse.training.networks.base import Network
from affuse.training.networks.catalogue import entry

__all__ = ["LabelledSplit", "Task", "fingerprint", "prepare"]

_BLOCKS = {"waveform": "crnn", "images": "small-face", "tokens": "text-cnn"}
"""Encoders of a joint network by what they read, where none are named."""


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """Labelled samples of one split: ``split`` feeds the network, ``groups`` (n,) are speakers."""

    samples: tuple[Sample, ...]
    split: Split
    targets: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, eq=False)
class Task:
    """All that a training needs.

    Parameters
    ----------
    config: with everything filled in. data: as read. labels: what is told apart. network: untrained.
    train: what is learned from. held_out: rows of other speakers, set aside from train, which stop training and set the
    temperature. reports: "dev" and "test", as far as they are there, which only report. tokenizer: of networks over
    tokens. augmentation: of what is learned from. notes: sentences about how the splits were made.
    """

    config: TrainConfig
    data: TrainingData
    network: Network
    train: LabelledSplit
    held_out: LabelledSplit
    reports: Mapping[str, LabelledSplit]
    tokenizer: Tokenizer | None
    augmentation: Augmentation
    notes: tuple[str, ...]

    @property
    def labels(self) -> LabelSpace:
        """Label space of the answers."""
        return self.data.labels


def prepare(config: TrainConfig, data: TrainingData, store: Store) -> Task:
    """Split, decode and build. ``config`` is resolved.

    Raises ConfigError and DataError where network, options and data do not fit together.
    """
    augmentation = Augmentation.of(config.augmentation)
    learned = [sample for sample in data.split("train") if sample.label is not None]
    reports = {
        split: rows for split in ("dev", "test") if (rows := [s for s in data.split(split) if s.label is not None])
    }
    train, held_out, notes = _divided(learned, config)
    joint = config.network.name == "concat"
    blocks = _blocks_of(learned) if joint else ()
    tokenizer = _tokenizer(config, train, blocks)
    network = _network(config, data, blocks, tokenizer)
    tokenizer = _pretrained_tokenizer(config, network) or tokenizer
    _check_reader(config, network)
    make = _Maker(config, data, network, tokenizer, store)
    quiet = Augmentation()
    task = Task(
        config=config,
        data=data,
        network=network,
        train=make.split(train, augmentation),
        held_out=make.split(held_out, quiet),
        reports={split: make.split(rows, quiet) for split, rows in reports.items()},
        tokenizer=tokenizer,
        augmentation=augmentation,
        notes=(*data.notes, *notes),
    )
    if joint and (columns := make.columns(train)) is not None:
        network.fit_columns(torch.from_numpy(columns).float())
    return task


def fingerprint(data: TrainingData) -> str:
    """Changes with rows, labels, speakers and splits, so that a run is never resumed on other data."""
    digest = hashlib.sha256("\0".join((data.modality, *data.labels.labels)).encode())
    for s in data.samples:
        name = "" if s.path is None else f"{s.path.name} {s.path.stat().st_size}"
        split = "valid" if s.split == "dev" else s.split  # its name in the runs of older versions, which may go on
        digest.update(repr((name, s.start, s.end, s.text, s.label, s.speaker, split)).encode())
        for values in (s.pixels, s.columns, s.distribution):
            digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _divided(samples: Sequence[Sample], config: TrainConfig) -> tuple[list[Sample], list[Sample], tuple[str, ...]]:
    """Rows to learn from and rows to hold out, of other speakers where there are several."""
    targets = np.array([s.label for s in samples])
    share, seed = config.data.held_out, config.training.seed
    chosen = set_aside(targets, [s.speaker for s in samples], share, seed)
    notes: tuple[str, ...] = ()
    if not chosen.any():
        chosen = set_aside(targets, [None] * len(samples), share, seed)
        notes = ("all rows to learn from are of one speaker, who also decides when training stops",)
    if not chosen.any() or chosen.all():
        raise DataError(f"{len(samples)} rows are too few to learn from and to set some of them aside")
    kept = [s for s, away in zip(samples, chosen, strict=True) if not away]
    return kept, [s for s, away in zip(samples, chosen, strict=True) if away], notes


def _blocks_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """What a joint network can read of the samples, in the order of its blocks."""
    found = set()
    for sample in samples:
        found |= set(_held(sample))
    return tuple(block for block in ("waveform", "images", "tokens", "columns") if block in found)


def _held(sample: Sample) -> tuple[str, ...]:
    """Blocks that one sample holds."""
    held = []
    if sample.path is not None:
        recording = Recording.open(sample.path)
        held += ["waveform"] if recording.has_sound else []
        held += ["images"] if recording.kind in ("picture", "video") else []
    if sample.pixels is not None:
        held.append("images")
    if sample.text and sample.text.strip():
        held.append("tokens")
    if sample.columns is not None and not np.isnan(sample.columns).all():
        held.append("columns")
    return tuple(held)


def _tokenizer(config: TrainConfig, train: Sequence[Sample], blocks: Sequence[str]) -> Tokenizer | None:
    """The tokenizer that is named, or one trained on the texts to learn from; None where no network reads tokens."""
    name = str(config.network.name)
    networks.find(name)
    if entry(name).reads != "tokens" and "tokens" not in blocks:
        return None
    if config.network.tokenizer is not None:
        return tokenizers.load(config.network.tokenizer, config.network.max_tokens)
    if "pretrained" in networks.options(name):
        return None  # its own comes with its weights
    texts = (s.text for s in train if s.text)
    return tokenizers.train(texts, config.network.vocabulary, config.network.max_tokens)


def _pretrained_tokenizer(config: TrainConfig, network: Network) -> Tokenizer | None:
    if network.folder is None or network.reads != "tokens" or config.network.tokenizer is not None:
        return None
    return tokenizers.load(network.folder, config.network.max_tokens)


def _network(config: TrainConfig, data: TrainingData, blocks: Sequence[str], tokenizer: Tokenizer | None) -> Network:
    name, chosen = str(config.network.name), dict(config.network.options)
    known = networks.options(name)
    if tokenizer is not None and "vocab_size" in known:
        chosen.setdefault("vocab_size", tokenizer.get_vocab_size())
    if name == "concat":
        chosen = _joint_options(chosen, data, blocks, tokenizer)
    if name == "multi-task":
        chosen.setdefault("network", {"voice": "crnn", "face": "small-face"}.get(config.data.modality, "crnn"))
        chosen.setdefault("n_action_units", len(data.column_names))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(epoch_seed(config.training.seed))
        network = networks.make(name, len(data.labels), **chosen)
    if config.network.start is not None:
        _load_start(network, config.network.start)
    return network


def _joint_options(
    chosen: dict[str, Any], data: TrainingData, blocks: Sequence[str], tokenizer: Tokenizer | None
) -> dict[str, Any]:
    """Encoders for what the samples hold, unless they are named."""
    given = chosen.pop("encoders", {block: _BLOCKS[block] for block in blocks if block in _BLOCKS})
    encoders = {}
    for block, described in given.items():
        own = {"name": described} if isinstance(described, str) else dict(described)
        if "name" in own and "vocab_size" in networks.options(own["name"]) and tokenizer is not None:
            own.setdefault("vocab_size", tokenizer.get_vocab_size())
        encoders[block] = own
    return {"encoders": encoders, "columns": len(data.column_names) if "columns" in blocks else None, **chosen}


def _load_start(network: Network, path: Path) -> None:
    """Put weights of the same shape into ``network``, all but its head. Raises AssetError where none fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise AssetError(f"{path} cannot be read as safetensors: {error}") from error
    own = network.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape and not k.startswith("head.")}
    wanted = [key for key in own if not key.startswith("head.")]
    if len(fitting) < len(wanted):
        raise AssetError(
            f"{path} does not fit this network: it holds {len(fitting)} of the {len(wanted)} arrays; "
            "give the network the name and options of the one it was made with"
        )
    network.load_state_dict(fitting, strict=False)


def _check_reader(config: TrainConfig, network: Network) -> None:
    if network.reads not in ("waveform", "images", "clips", "tokens", "blocks"):
        raise ConfigError(
            f"the network {config.network.name!r} reads {network.reads}, which affuse train does not cut out of "
            "recordings; train it from Python, or choose another one"
        )
    if config.training.mixup and (network.reads not in MIXABLE or network.n_action_units):
        raise ConfigError("training.mixup is for networks over sound or pictures alone; set it to 0 for this one")
    if config.training.adversarial and network.reads not in MIXABLE:
        raise ConfigError("training.adversarial is for networks over sound or pictures; set it to 0 for this one")


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes splits: decoded inputs for the network, targets and groups."""

    config: TrainConfig
    data: TrainingData
    network: Network
    tokenizer: Tokenizer | None
    store: Store

    def split(self, samples: Sequence[Sample], augmentation: Augmentation) -> LabelledSplit:
        """Inputs, targets and groups of some samples."""
        targets = np.array([s.label for s in samples])
        shares = np.eye(len(self.data.labels))[targets]
        for row, sample in zip(shares, samples, strict=True):
            if sample.distribution is not None:
                row[:] = sample.distribution
        units = self.columns(samples) if self.network.n_action_units else None
        split = Split(self._inputs(self.network, samples, augmentation), shares, units)
        groups = np.array([s.speaker or f"\0{i}" for i, s in enumerate(samples)])
        return LabelledSplit(tuple(samples), split, targets, groups)

    def columns(self, samples: Sequence[Sample]) -> np.ndarray | None:
        """Numbers (n, d) that came with the samples, NaN where a sample has none."""
        width = len(self.data.column_names)
        if not width:
            return None
        return np.stack([np.full(width, np.nan) if s.columns is None else s.columns for s in samples])

    def _inputs(self, network: Network, samples: Sequence[Sample], augmentation: Augmentation) -> Inputs:
        if network.reads == "blocks":
            return self._blocks(network, samples, augmentation)
        return inputs_of(network, samples, self.store, self.config.data.seconds, self.tokenizer, augmentation)

    def _blocks(self, network: Network, samples: Sequence[Sample], augmentation: Augmentation) -> Inputs:
        held = [_held(sample) for sample in samples]
        parts, rows = {}, {}
        for name, encoder in network.encoders.items():
            has = np.array([encoder.reads in blocks for blocks in held])
            if not has.any():
                raise DataError(f"no row of one of the parts holds {encoder.reads}; leave its encoder out")
            rows[name] = np.flatnonzero(has)
            own = [sample for sample, holds in zip(samples, has, strict=True) if holds]
            parts[name] = self._inputs(encoder, own, augmentation)
        columns = self.columns(samples) if network.columns else None
        return Blocks(parts, rows, columns, len(samples))
