"""What the voice recipe learns from: clips of RAVDESS and EMO-DB, their features, and augmented copies of them.

Three kinds of augmentation: of the speaker (`augment_speaker`, and `augment` on log-mel features: another voice in
another room), of the channel (`CHANNELS`: telephone lines, rooms, other people who talk), and masks (SpecAugment, Park
et al. 2019, arXiv:1904.08779). Warping of frequency after Jaitly & Hinton 2013 (vocal tract length perturbation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.signal import fftconvolve, firwin2
from torch import Tensor
from torch.nn import functional as F

from affuse.data.corpora import load
from affuse.evaluation.experts import waveform as read_waveform
from affuse.labels import EMODB, RAVDESS, VOICE, LabelSpace
from affuse.media import SAMPLE_RATE
from affuse.training.augment import SoundAugmentation, spec_augment
from affuse.training.augment.sound import add_noise, change_speed, coloured_noise
from affuse.training.networks.voice_layers import HOP, Functionals, MelBands, Spectrum, normalise

__all__ = [
    "CHANNELS",
    "CORPORA",
    "Clips",
    "Features",
    "assign_folds",
    "augment",
    "augment_speaker",
    "channel_copies",
    "functionals_table",
    "read_clips",
]

CORPORA: dict[str, LabelSpace] = {"ravdess": RAVDESS, "emodb": EMODB}

_ALWAYS = 1.0
CHANNELS = (
    SoundAugmentation(codec=("telephone",), probability=_ALWAYS),
    SoundAugmentation(codec=("amr",), probability=_ALWAYS),
    SoundAugmentation(reverberation=(0.2, 1.3), probability=_ALWAYS),
    SoundAugmentation(reverberation=(0.2, 1.3), probability=_ALWAYS),
    SoundAugmentation(noise_snr=(3.0, 20.0), noises=("babble",), probability=_ALWAYS),
)
"""Channel augmentation, one of which a share of the clips goes through: lines, rooms, and other people who talk."""

_QUIET = -16.1  # log power of the frames that pad a short clip: 70 dB below the clip's mean


@dataclass(frozen=True)
class Clips:
    """Clips of both corpora.

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


def read_clips(data: Path, *splits: str) -> Clips:
    """Decode splits of RAVDESS and EMO-DB to 16 kHz mono."""
    waveforms, targets, groups, corpus, names = [], [], [], [], []
    for split in splits:
        for name, labels in CORPORA.items():
            rows = load(name, data, split)
            waveforms += [read_waveform(path) for path in rows.inputs]
            targets += [VOICE.index(labels.labels[target]) for target in rows.targets]
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


# --- augmentation of sound -------------------------------------------------------------------------------------------


def channel_copies(clips: Clips, folds: np.ndarray, seed: int) -> list[list[np.ndarray]]:
    """Every clip through each of `CHANNELS`.

    The other voices of a clip are from its own fold, so that no fold's network hears a speaker that it is asked about.
    """
    found = []
    for row, waveform in enumerate(clips.waveforms):
        rng = np.random.default_rng((seed, row))
        found.append([channel(waveform, rng, _others(clips, folds, row, rng)) for channel in CHANNELS])
    return found


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
def functionals_table(clips: Clips, folds: np.ndarray, copies: int, channel_share: float, seed: int) -> Tensor:
    """Functionals (n, 1 + copies, d) of every clip as it is and of augmented copies of it."""
    spectrum, functionals = Spectrum(), Functionals()
    rng = np.random.default_rng(seed)

    def measured(waveform: np.ndarray) -> Tensor:
        return functionals(spectrum(torch.from_numpy(waveform)[None]))[0]

    def augmented(row: int) -> np.ndarray:
        changed = augment_speaker(clips.waveforms[row], rng)
        if rng.random() >= channel_share:
            return changed
        channel = CHANNELS[int(rng.integers(len(CHANNELS)))]
        return channel(changed, rng, _others(clips, folds, row, rng))

    return torch.stack(
        [
            torch.stack([measured(waveform), *(measured(augmented(row)) for _ in range(copies))])
            for row, waveform in enumerate(clips.waveforms)
        ]
    )


# --- log-mel features ------------------------------------------------------------------------------------------------


class Features:
    """Log-mel of every clip at several speeds and of its ``channels`` copies, held in half precision.

    ``channel_share`` of what `draw` gives are such copies.
    """

    def __init__(
        self,
        waveforms: Sequence[np.ndarray],
        channels: Sequence[Sequence[np.ndarray]],
        speeds: Sequence[float],
        n_mels: int,
        channel_share: float,
    ) -> None:
        self._spectrum, self._bands = Spectrum(), MelBands(n_mels)
        self._plain = [[self._log_mel(change_speed(waveform, speed)) for speed in speeds] for waveform in waveforms]
        self._channels = [[self._log_mel(copy) for copy in copies] for copies in channels]
        self._share = channel_share

    def _log_mel(self, waveform: np.ndarray) -> Tensor:
        power = self._bands(self._spectrum(torch.from_numpy(waveform)[None]))[0]
        return torch.log(power / (power.mean() + 1e-12) + 1e-7).half()

    def draw(self, rows: Tensor, n_frames: int, generator: torch.Generator) -> Tensor:
        """Log power (batch, n_frames, n_mels): a random copy and stretch of each clip, short ones amid silence."""
        batch = torch.full((len(rows), n_frames, self._plain[0][0].shape[1]), _QUIET)
        for into, row in zip(batch, rows.tolist(), strict=True):
            through_channel = float(torch.rand(1, generator=generator)) < self._share
            variants = self._channels[row] if through_channel else self._plain[row]
            clip = variants[_integer(0, len(variants) - 1, generator)]
            spare = len(clip) - n_frames
            start = _integer(0, abs(spare), generator)
            if spare >= 0:
                into.copy_(clip[start : start + n_frames])
            else:
                into[start : start + len(clip)] = clip
        return batch

    def whole(self, row: int) -> Tensor:
        """Normalised features (1, frames, n_mels) of an unchanged clip."""
        return normalise(self._plain[row][0].float().exp()[None])


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (1,), generator=generator))


def augment(log_power: Tensor, generator: torch.Generator) -> Tensor:
    """Another voice in another room: (n, frames, bands) log power in, normalised features with masks out."""
    log_power = _warp(log_power, generator)
    log_power = _reverberate(log_power, generator)
    log_power = _equalise(log_power, generator)
    features = normalise(_add_noise(log_power.exp(), generator))
    return spec_augment(features.transpose(1, 2), generator).transpose(1, 2)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _warp(log_power: Tensor, generator: torch.Generator) -> Tensor:
    """Change tempo by up to 15 %, stretch the mel axis by up to 10 % and move it by up to 2 %: another vocal tract."""
    n = len(log_power)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = _uniform((n,), 0.9, 1.1, generator)
    theta[:, 0, 2] = _uniform((n,), -0.04, 0.04, generator)
    theta[:, 1, 1] = _uniform((n,), 0.85, 1.15, generator)
    grid = F.affine_grid(theta, [n, 1, *log_power.shape[1:]], align_corners=False)
    return F.grid_sample(log_power[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _reverberate(log_power: Tensor, generator: torch.Generator, share: float = 0.25) -> Tensor:
    """Smear a share of the clips by a tail that dies away in 0.15 to 0.65 s."""
    chosen = torch.nonzero(torch.rand(len(log_power), generator=generator) < share).flatten()
    if len(chosen) == 0:
        return log_power
    seconds, strength = _uniform((2,), 0.0, 1.0, generator).tolist()
    length = 40
    decay = 13.8 * (HOP / SAMPLE_RATE) / (0.15 + 0.5 * seconds)  # 60 dB of power within the reverberation time
    tail = torch.exp(-decay * torch.arange(length)) * (0.05 + 0.25 * strength)
    tail[0] = 1.0
    power = log_power[chosen].exp().transpose(1, 2)
    smeared = F.conv1d(F.pad(power.flatten(0, 1)[:, None], (length - 1, 0)), tail.flip(0)[None, None])
    result = log_power.clone()
    result[chosen] = torch.log(smeared.view_as(power).transpose(1, 2) + 1e-8)
    return result


def _equalise(log_power: Tensor, generator: torch.Generator) -> Tensor:
    """Add a smooth random curve over the bands: microphones, codecs and distance colour a voice."""
    n, _, n_bands = log_power.shape
    band = torch.linspace(0, 1, n_bands)
    phase = _uniform((n, 4, 1), 0, 2 * math.pi, generator)
    ripples = _uniform((n, 4, 1), 0, 2.5, generator)
    heights = torch.randn((n, 4, 1), generator=generator) * 0.35
    tilt = torch.randn((n, 1), generator=generator) * 0.7 * (band - 0.5)
    curve = (heights * torch.cos(2 * math.pi * ripples * band + phase)).sum(dim=1) + tilt
    return log_power + curve[:, None]


def _add_noise(power: Tensor, generator: torch.Generator, share: float = 0.5) -> Tensor:
    """Add noise of a random spectral slope to a share of the clips, 5 to 45 dB below them."""
    n, n_frames, n_bands = power.shape
    noisy = (torch.rand(n, generator=generator) < share).float()
    ratio = 10 ** (-_uniform((n,), 0.5, 4.5, generator)) * noisy
    slope = torch.randn((n, 1), generator=generator) * 2 - 2
    shape = torch.exp(slope * torch.linspace(-0.5, 0.5, n_bands))
    shape = shape / shape.mean(dim=1, keepdim=True)
    # The power of a noise in one band and frame is exponentially distributed; a band of several bins varies less.
    flicker = 0.4 - 0.6 * torch.log(_uniform((n, n_frames, n_bands), 1e-3, 1.0, generator))
    scale = power.mean(dim=(1, 2)) * ratio
    return power + scale[:, None, None] * shape[:, None] * flicker
