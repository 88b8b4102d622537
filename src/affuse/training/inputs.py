"""Samples as networks read them: decoded once, kept in memory-mapped files, cut and augmented anew for every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from affuse.data.own.samples import Sample
from affuse.media import SAMPLE_RATE
from affuse.progress import progress_bar
from affuse.training.augment import PictureAugmentation, SoundAugmentation, WordAugmentation
from affuse.training.networks import tokenizers
from affuse.training.networks.base import Network
from affuse.training.settings import build

__all__ = [
    "Augmentation",
    "Blocks",
    "Clips",
    "Draw",
    "Inputs",
    "Pictures",
    "SpectrumAugmentation",
    "Store",
    "Texts",
    "Waveforms",
    "inputs_of",
    "to_int16",
    "tracked",
]

T = TypeVar("T")

_FULL_SCALE = 32767  # sound is kept as 16-bit integers, half of what float32 takes


@dataclass(frozen=True)
class Draw:
    """Sources of chance of one epoch on one device: for what numpy draws, and for what torch does."""

    rng: np.random.Generator
    generator: torch.Generator

    @classmethod
    def of(cls, *entropy: int) -> Draw:
        """Both from numbers such as seed, epoch and rank."""
        numpy_seed, torch_seed = np.random.SeedSequence(entropy).generate_state(2)
        return cls(np.random.default_rng(int(numpy_seed)), torch.Generator().manual_seed(int(torch_seed)))


@dataclass(frozen=True)
class SpectrumAugmentation:
    """Masks on the log-mel of networks that have one, as `affuse.training.augment.spec_augment` takes them."""

    bands: int = 10
    frames: int = 25
    n_bands: int = 2
    n_frames: int = 2


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew every epoch, by kind of input; None leaves it as it is."""

    sound: SoundAugmentation | None = None
    spectrum: SpectrumAugmentation | None = None
    picture: PictureAugmentation | None = None
    words: WordAugmentation | None = None

    @classmethod
    def of(cls, tables: Mapping[str, Any] | None) -> Augmentation:
        """From the tables of a configuration. Raises ConfigError, naming the key, where they do not fit."""
        return build(cls, tables or {}, "augmentation")


class Inputs(Protocol):
    """Inputs of samples for one kind of network; rows are numbers of samples."""

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """Inputs by name, cut and augmented at random."""

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Inputs by name, as they are, in a batch of one shape."""

    def whole(self, row: int) -> dict[str, Tensor]:
        """Inputs of a single sample in full length, as an expert reads it."""


def tracked(items: Sequence[T], title: str) -> Iterator[T]:
    """``items``, with a bar on a terminal."""
    with progress_bar(title) as report:
        for number, item in enumerate(items, start=1):
            yield item
            if report is not None:
                report(title, number / len(items))


class Store:
    """Decoded inputs in memory-mapped files of one folder, each decoded once.

    The system keeps as much of them in memory as there is room for.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._kept: dict[tuple[Any, ...], Any] = {}

    def waveforms(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """Clips (n,) int16 at 16 kHz."""
        from affuse.data.own import waveform

        def decode() -> list[np.ndarray]:
            lengths, path = [], self._path()
            with path.open("wb") as file:
                for sample in tracked(samples, "decoding sound"):
                    clip = to_int16(waveform(sample))
                    lengths.append(len(clip))
                    file.write(clip.tobytes())
            return np.split(np.memmap(path, np.int16, "r"), np.cumsum(lengths)[:-1])

        return self._once(("sound", _identity(samples)), decode)

    def pictures(self, samples: Sequence[Sample], size: int, channels: int) -> np.ndarray:
        """Face crops (n, channels, size, size) uint8."""
        from affuse.data.own import picture

        shape = (len(samples), channels, size, size)
        return self._once(
            ("pictures", size, channels, _identity(samples)),
            lambda: self._filled(shape, (picture(s, size, channels) for s in tracked(samples, "cutting faces"))),
        )

    def clips(self, samples: Sequence[Sample], frames: int, size: int) -> np.ndarray:
        """Short films of faces (n, 3, frames, size, size) uint8."""
        from affuse.data.own import clip

        shape = (len(samples), 3, frames, size, size)
        return self._once(
            ("clips", frames, size, _identity(samples)),
            lambda: self._filled(shape, (clip(s, frames, size) for s in tracked(samples, "cutting films"))),
        )

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept

    def _filled(self, shape: tuple[int, ...], items: Iterable[np.ndarray]) -> np.ndarray:
        path = self._path()
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        for row, item in zip(array, items, strict=True):
            row[:] = item
        array.flush()
        return np.load(path, mmap_mode="r")

    def _path(self) -> Path:
        return self.folder / f"{len(self._kept)}.npy"


def _identity(samples: Sequence[Sample]) -> tuple[int, ...]:
    return tuple(map(id, samples))


def to_int16(clip: np.ndarray) -> np.ndarray:
    """A clip (n,) within -1…1 as 16-bit integers, as `Waveforms` takes it."""
    return np.rint(np.clip(clip, -1, 1) * _FULL_SCALE).astype(np.int16)


class Waveforms:
    """Sound: pieces of ``seconds``, cut anew every epoch; shorter clips are repeated, since silence is no speech."""

    def __init__(self, clips: Sequence[np.ndarray], seconds: float, augmentation: SoundAugmentation | None) -> None:
        self.clips, self.augmentation = clips, augmentation
        self.length = round(seconds * SAMPLE_RATE)

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """Pieces (n, samples) float32 from random places, augmented."""
        pieces = [_piece(self._clip(row), self._drawn_length, draw.rng) for row in rows]
        if self.augmentation is not None:
            others = [self._clip(row) for row in draw.rng.choice(len(self.clips), 3)]
            pieces = [self.augmentation(piece, draw.rng, others) for piece in pieces]
        return _waveform([_piece(piece, self.length, draw.rng) for piece in pieces])

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Pieces (n, samples) float32 from the middle."""
        return _waveform([_piece(self._clip(row), self.length) for row in rows])

    def whole(self, row: int) -> dict[str, Tensor]:
        """The clip (1, samples) float32."""
        return _waveform([self._clip(row)])

    @property
    def _drawn_length(self) -> int:
        """A faster clip is shorter, so that more has to be cut than is kept."""
        speed = None if self.augmentation is None else self.augmentation.speed
        return round(self.length * max(1.0, 1.0 if speed is None else speed[1]))

    def _clip(self, row: int) -> np.ndarray:
        return self.clips[row].astype(np.float32) / _FULL_SCALE


def _piece(clip: np.ndarray, length: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """A piece (length,) of a clip: from a random place, or from the middle; a shorter clip is repeated."""
    room = len(clip) - length
    if room < 0:
        return np.resize(clip, length)
    start = room // 2 if rng is None else int(rng.integers(room + 1))
    return clip[start : start + length]


def _waveform(pieces: Sequence[np.ndarray]) -> dict[str, Tensor]:
    return {"waveform": torch.from_numpy(np.stack(pieces).astype(np.float32, copy=False))}


class Pictures:
    """Faces as "images" (n, c, s, s) float32 with values 0…255."""

    name = "images"

    def __init__(self, pixels: np.ndarray, augmentation: PictureAugmentation | None) -> None:
        self.pixels, self.augmentation = pixels, augmentation

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """Augmented."""
        inputs = self.plain(rows)
        if self.augmentation is not None:
            inputs[self.name] = self.augmentation(inputs[self.name], draw.generator)
        return inputs

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """As they are."""
        return {self.name: torch.from_numpy(self.pixels[rows].astype(np.float32))}

    def whole(self, row: int) -> dict[str, Tensor]:
        """A single one."""
        return self.plain(np.array([row]))


class Clips(Pictures):
    """Short films of faces as "clips" (n, 3, t, s, s) float32; the frames of one are augmented alike."""

    name = "clips"


class Texts:
    """Words as "ids" and "mask" (n, t) int64; augmentation acts on the text, before it is cut into tokens."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, augmentation: WordAugmentation | None) -> None:
        self.texts, self.tokenizer, self.augmentation = texts, tokenizer, augmentation

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """Texts with words left out and letters mistyped."""
        texts = [self.texts[row] for row in rows]
        if self.augmentation is not None:
            texts = [self.augmentation(text, draw.rng) for text in texts]
        return self._encoded(texts)

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Texts as they are."""
        return self._encoded([self.texts[row] for row in rows])

    def whole(self, row: int) -> dict[str, Tensor]:
        """One text."""
        return self._encoded([self.texts[row]])

    def _encoded(self, texts: Sequence[str]) -> dict[str, Tensor]:
        ids, mask = tokenizers.encode(self.tokenizer, texts)
        return {"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}


def inputs_of(
    network: Network,
    samples: Sequence[Sample],
    store: Store,
    seconds: float,
    tokenizer: Tokenizer | None,
    augmentation: Augmentation,
) -> Inputs:
    """Inputs of samples for a network that reads one kind of input: "waveform", "tokens", "images" or "clips".

    ``seconds`` is the length of the pieces of sound, ``tokenizer`` that of a network over tokens.
    """
    if network.reads == "waveform":
        return Waveforms(store.waveforms(samples), seconds, augmentation.sound)
    if network.reads == "tokens":
        assert tokenizer is not None
        return Texts([sample.text or "" for sample in samples], tokenizer, augmentation.words)
    assert network.picture is not None
    size, channels = network.picture
    if network.reads == "images":
        return Pictures(store.pictures(samples, size, channels), augmentation.picture)
    assert network.frames is not None
    return Clips(store.clips(samples, network.frames, size), augmentation.picture)


class Blocks:
    """Inputs of a joint network: those of its parts, "columns" and "present", 1 where a row holds a block.

    Parameters
    ----------
    parts: inputs of every block by name, in the network's order, each over its own rows only. rows: of every block, the
    samples (n,) that hold it. columns: numbers (n, d), NaN where they are missing, or None.
    """

    def __init__(
        self, parts: Mapping[str, Inputs], rows: Mapping[str, np.ndarray], columns: np.ndarray | None, n: int
    ) -> None:
        self.parts, self.columns = parts, columns
        self.places = {name: np.full(n, -1) for name in parts}
        for name, held in rows.items():
            self.places[name][held] = np.arange(len(held))
        there = [places >= 0 for places in self.places.values()]
        if columns is not None:
            there.append(~np.isnan(columns).all(axis=1))
        self.present = np.stack(there, axis=1).astype(np.float32)

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """Every part cut and augmented at random."""
        return self._joined(rows, lambda part, own: part.learning(own, draw))

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Every part as it is, in a batch of one shape."""
        return self._joined(rows, lambda part, own: part.plain(own))

    def whole(self, row: int) -> dict[str, Tensor]:
        """Every part of one sample in full length."""
        return self._joined(np.array([row]), lambda part, own: part.whole(int(own[0])))

    def _joined(self, rows: np.ndarray, take: Callable[[Inputs, np.ndarray], dict[str, Tensor]]) -> dict[str, Tensor]:
        joined: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            places = self.places[name][rows]
            # What stands in for a block that a row lacks is another row's, which "present" keeps from the network.
            joined |= take(part, np.where(places < 0, 0, places))
        if self.columns is not None:
            joined["columns"] = torch.from_numpy(self.columns[rows].astype(np.float32))
        return {**joined, "present": torch.from_numpy(self.present[rows])}
