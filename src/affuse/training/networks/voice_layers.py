"""Parts of networks over sound: spectrum and log-mel inside the graph, and pooling over time."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = [
    "HOP",
    "WINDOW",
    "AttentiveStatistics",
    "MelBands",
    "Spectrum",
    "mel_filterbank",
    "normalise",
]

SAMPLE_RATE = 16_000
WINDOW = 1024
"""Samples of a frame (64 ms): long enough to hold a man's pitch periods apart, which 32 ms are not."""
HOP = 160
"""Samples from frame to frame (10 ms)."""
LOW, HIGH = 50.0, 7600.0
# Below the mean power of a clip by this factor (60 dB) nothing is heard: what hides there is the recording's own noise.
_FLOOR = 1e-6
_BIN = SAMPLE_RATE / WINDOW
_FIRST_BIN = math.ceil(LOW / _BIN)


def mel_filterbank(n_mels: int) -> torch.Tensor:
    """Triangles of equal height on the mel scale 2595 log10(1 + f/700), shape (`WINDOW` // 2 + 1, n_mels).

    Source of the scale: O'Shaughnessy 1987, Speech Communication.
    """

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    corners = 700 * (10 ** (torch.linspace(mel(LOW), mel(HIGH), n_mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.arange(WINDOW // 2 + 1, dtype=torch.float64) * _BIN
    rising = (bins[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins[:, None]) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


class Spectrum(nn.Module):
    """Waveforms (n, samples) at 16 kHz in, power (n, frames, bins) of the bins from `LOW` to `HIGH` out.

    Hann window and DFT; a clip of less than `WINDOW` samples has no frame. The DFT is a product with constant matrices,
    so that the exported graph needs no operator beyond MatMul. A real frame's cosine sums see only its even part about
    the middle, its sine sums the odd part: half the work each.
    """

    def __init__(self) -> None:
        super().__init__()
        half = WINDOW // 2
        bins = torch.arange(_FIRST_BIN, math.floor(HIGH / _BIN) + 1)
        phase = torch.outer(torch.arange(1, half), bins) % WINDOW  # reduced while still exact
        angle = 2 * math.pi * phase.double() / WINDOW
        hann = torch.hann_window(WINDOW, periodic=True, dtype=torch.float64)[half + 1 :, None]
        self.register_buffer("cosine", (torch.cos(angle) * hann).float(), persistent=False)
        self.register_buffer("sine", (torch.sin(angle) * hann).float(), persistent=False)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        half = WINDOW // 2
        count = (waveform.shape[1] - WINDOW) // HOP + 1
        middles = torch.arange(count) * HOP + half
        offsets = torch.arange(1, half)
        after = waveform[:, middles[:, None] + offsets]
        before = waveform[:, middles[:, None] - offsets]
        real = (after + before) @ self.cosine + waveform[:, middles].unsqueeze(2)
        imaginary = (after - before) @ self.sine
        return real * real + imaginary * imaginary


class MelBands(nn.Module):
    """Power spectrum (n, frames, bins) of `Spectrum` in, mel power (n, frames, n_mels) out."""

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        filterbank = mel_filterbank(n_mels)[_FIRST_BIN : math.floor(HIGH / _BIN) + 1]
        self.register_buffer("filterbank", filterbank.contiguous(), persistent=False)

    def forward(self, power: torch.Tensor) -> torch.Tensor:
        return power @ self.filterbank


def normalise(power: torch.Tensor) -> torch.Tensor:
    """Logarithm of mel power (n, frames, n_mels) relative to the clip's mean, so that the level does not matter."""
    mean = power.mean(dim=(1, 2), keepdim=True) + 1e-12
    return (torch.log(power / mean + _FLOOR) + 6) / 4


class AttentiveStatistics(nn.Module):
    """Mean and spread over time, weighted by attention (Okabe et al. 2018, arXiv:1803.10963): (n, d, t) to (n, 2 d)."""

    def __init__(self, width: int, hidden: int = 32) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Conv1d(width, hidden, 1), nn.Tanh(), nn.Conv1d(hidden, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.attention(x), dim=2)
        mean = (x * weights).sum(dim=2)
        spread = ((x - mean.unsqueeze(2)) ** 2 * weights).sum(dim=2)
        return torch.cat([mean, (spread + 1e-4).sqrt()], dim=1)
