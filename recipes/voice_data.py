"""What the voice recipe learns from: clips of its corpora, statistics of them, and of augmented copies.

Augmentation is of the speaker (`augment_speaker`: another speed, another microphone) and of the channel (`CHANNELS`:
telephone lines, rooms, other people who talk).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from scipy.signal import fftconvolve, firwin2

from affuse.data.corpora import load
from affuse.evaluation.experts import waveform as read_waveform
from affuse.labels import EMODB, RAVDESS, VOICE, LabelSpace
from affuse.media import SAMPLE_RATE
from affuse.training.augment import SoundAugmentation
from affuse.training.augment.sound import add_noise, change_speed, coloured_noise
from recipes.voice_network import audible, pooled
from recipes.whisper import LogMel, SpeechEncoder

__all__ = [
    "CHANNELS",
    "CORPORA",
    "Clips",
    "assign_folds",
    "augment_speaker",
    "read_clips",
    "statistics_table",
]

JAVANESE = LabelSpace("javanese", ("anger", "fear", "happiness", "sadness", "surprise", "neutral"))
CORPORA: dict[str, LabelSpace] = {"ravdess": RAVDESS, "emodb": EMODB, "javanese": JAVANESE}
"""Labels of every corpus that is learned from."""

_SETS = {"ravdess": ("ravdess",), "emodb": ("emodb",), "javanese": ("javanese_speech", "javanese_av")}
"""The sets that a corpus consists of; both of the Javanese ones are by the same actors."""

_ALWAYS = 1.0
CHANNELS = (
    SoundAugmentation(codec=("telephone",), probability=_ALWAYS),
    SoundAugmentation(codec=("amr",), probability=_ALWAYS),
    SoundAugmentation(reverberation=(0.2, 1.3), probability=_ALWAYS),
    SoundAugmentation(reverberation=(0.2, 1.3), probability=_ALWAYS),
    SoundAugmentation(noise_snr=(3.0, 20.0), noises=("babble",), probability=_ALWAYS),
)
"""Channel augmentation, one of which a share of the clips goes through: lines, rooms, and other people who talk."""


@dataclass(frozen=True)
class Clips:
    """Clips of all corpora.

    ``targets`` (n,) are columns of `labels.VOICE`, ``groups`` (n,) are "corpus/speaker", ``corpus`` (n,) names, and
    ``names`` (n,) those of the files.
    """

    waveforms: Sequence[np.ndarray]
    targets: np.ndarray
    groups: np.ndarray
    corpus: np.ndarray
    names: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def without(self, corpus: str) -> Clips:
        """All clips but those of one corpus."""
        return self._chosen(np.flatnonzero(self.corpus != corpus))

    def only(self, corpus: str) -> Clips:
        """The clips of one corpus."""
        return self._chosen(np.flatnonzero(self.corpus == corpus))

    def _chosen(self, rows: np.ndarray) -> Clips:
        arrays = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "waveforms"}
        return Clips(waveforms=[self.waveforms[row] for row in rows.tolist()], **arrays)


def read_clips(data: Path, *splits: str) -> Clips:
    """Decode splits of all corpora to 16 kHz mono."""
    waveforms, targets, groups, corpus, names = [], [], [], [], []
    for split in splits:
        for name, sets in _SETS.items():
            for rows in (load(own, data, split) for own in sets):
                waveforms += [read_waveform(path) for path in rows.inputs]
                targets += [VOICE.index(rows.labels.labels[target]) for target in rows.targets]
                groups += [f"{name}/{group}" for group in rows.groups]
                corpus += [name] * len(rows)
                names += [path.stem for path in rows.inputs]
    return Clips(waveforms, np.array(targets), np.array(groups), np.array(corpus), np.array(names))


def assign_folds(groups: np.ndarray, n: int) -> np.ndarray:
    """Fold (n,) of every clip: whole speakers dealt out in turn, the women of RAVDESS (even numbers) before its men."""
    folds: dict[str, int] = {}
    for name in CORPORA:
        speakers = sorted({g for g in groups if g.startswith(f"{name}/")})
        if name == "ravdess":
            speakers.sort(key=lambda g: (int(g.split("/")[1]) % 2, g))
        folds |= {speaker: i % n for i, speaker in enumerate(speakers)}
    return np.array([folds[g] for g in groups])


def _others(clips: Clips, folds: np.ndarray, row: int, rng: np.random.Generator, n: int = 6) -> list[np.ndarray]:
    """Clips of other speakers in the fold of ``row``."""
    places = np.flatnonzero((folds == folds[row]) & (clips.groups != clips.groups[row]))
    return [clips.waveforms[i] for i in rng.choice(places, min(n, len(places)), replace=False)]


def augment_speaker(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another speed by up to 15 %; by chance cut to 1.6 s or more, filtered smoothly, and with white or brown noise.

    The noise is 5 to 40 dB below the clip.
    """
    changed = change_speed(waveform, rng.uniform(0.87, 1.17))
    if rng.random() < 0.6:
        n = min(len(changed), int(rng.uniform(1.6, 3.2) * SAMPLE_RATE))
        start = rng.integers(0, len(changed) - n + 1)
        changed = changed[start : start + n]
    if rng.random() < 0.7:
        grid = np.linspace(0, 1, 33)
        gain = 10 ** (np.interp(grid, np.linspace(0, 1, 6), rng.normal(0, 4, 6)) / 20)
        changed = fftconvolve(changed, firwin2(129, grid, gain), "same")
    if rng.random() < 0.5:
        noise = coloured_noise(len(changed), str(rng.choice(["white", "brown"])), rng)
        changed = add_noise(changed, noise, rng.uniform(5, 40))
    return np.ascontiguousarray(changed, dtype=np.float32)


@torch.no_grad()
def statistics_table(
    clips: Clips, folds: np.ndarray, encoder: SpeechEncoder, copies: int, channel_share: float, seed: int
) -> np.ndarray:
    """Statistics (n, 1 + copies, d) float16 of every clip as it is and of augmented copies of it.

    The other voices that a copy may stand among are from its own fold, so that no fold's head hears a speaker that it
    is asked about.
    """
    mel = LogMel()

    def measured(waveform: np.ndarray) -> np.ndarray:
        sound = mel(torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))[None])
        return pooled(encoder(sound), audible(sound))[0].numpy().astype(np.float16)

    def augmented(row: int, rng: np.random.Generator) -> np.ndarray:
        changed = augment_speaker(clips.waveforms[row], rng)
        if rng.random() >= channel_share:
            return changed
        channel = CHANNELS[int(rng.integers(len(CHANNELS)))]
        return channel(changed, rng, _others(clips, folds, row, rng))

    def versions(row: int) -> np.ndarray:
        rng = np.random.default_rng((seed, row))
        return np.stack([measured(clips.waveforms[row]), *(measured(augmented(row, rng)) for _ in range(copies))])

    return np.stack([versions(row) for row in range(len(clips))])
