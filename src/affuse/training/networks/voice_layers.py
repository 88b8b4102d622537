"""Networks of the voice expert: spectrum, log-mel and pitch inside the graph, and the classifiers over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from affuse.training.networks.layers import ResidualBlock

__all__ = [
    "HOP",
    "WINDOW",
    "AttentiveStatistics",
    "Functionals",
    "FunctionalsNetwork",
    "MelBands",
    "PitchSalience",
    "Spectrum",
    "VoiceEnsemble",
    "VoiceNetwork",
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


class VoiceNetwork(nn.Module):
    """Normalised log-mel (n, frames, n_mels) in, embedding (n, 2 ``joined``) and logits (n, n_classes) out."""

    def __init__(self, n_mels: int, widths: Sequence[int], n_classes: int, dropout: float, joined: int = 128) -> None:
        super().__init__()
        first, strides = widths[0], ((2, 2), (2, 2), (1, 2))
        self.stem = nn.Sequential(nn.Conv2d(1, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.body = nn.Sequential(*map(ResidualBlock, widths[:-1], widths[1:], strides))
        bands = n_mels
        for _ in widths:
            bands = (bands + 1) // 2
        self.join = nn.Sequential(
            nn.Conv1d(widths[-1] * bands, joined, 1, bias=False), nn.BatchNorm1d(joined), nn.ReLU()
        )
        self.pool = AttentiveStatistics(joined)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * joined, n_classes)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(self.stem(features.unsqueeze(1)))
        embedding = self.pool(self.join(x.permute(0, 1, 3, 2).flatten(1, 2)))
        return embedding, self.head(self.dropout(embedding))


class PitchSalience(nn.Module):
    """Power spectrum (n, frames, bins) in; pitch between 60 and 500 Hz and periodicity, 1 for a perfect one, out.

    Autocorrelation of the spectrum's magnitude below 2 kHz, divided by that of the window (Boersma 1993) and compressed
    (Tolonen & Karjalainen 2000, doi:10.1109/89.876309).
    """

    def __init__(self, n_pitches: int = 110, top: float = 2000.0) -> None:
        super().__init__()
        bins = torch.arange(_FIRST_BIN, int(top / _BIN) + 1).double()
        octaves = torch.linspace(math.log2(60), math.log2(500), n_pitches, dtype=torch.float64)
        lags = SAMPLE_RATE / 2**octaves
        hann = torch.hann_window(WINDOW, periodic=True, dtype=torch.float64)
        spectrum = torch.fft.rfft(hann, 4 * WINDOW).abs() ** 2
        waves = torch.cos(2 * math.pi * torch.outer(lags, torch.arange(len(spectrum)).double()) / (4 * WINDOW))
        own = (waves @ spectrum / spectrum.sum()).clamp(min=0.3)
        kernel = torch.cos(2 * math.pi * torch.outer(bins, lags) / WINDOW) / own
        self.register_buffer("kernel", kernel.float(), persistent=False)
        self.register_buffer("octaves", octaves.float(), persistent=False)
        # A lag of two periods fits a periodic sound as well as one of one period: prefer the higher pitch a little.
        self.register_buffer("preference", (0.08 * (octaves - octaves[0])).float(), persistent=False)

    def forward(self, power: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pitch (n, frames, 1) in octaves above 1 Hz, and how periodic the frame is (n, frames, 1)."""
        magnitude = (power[:, :, : self.kernel.shape[0]] + 1e-12).sqrt()
        salience = magnitude @ self.kernel / magnitude.sum(dim=2, keepdim=True)
        likely = torch.softmax(40 * (salience + self.preference), dim=2)
        return (likely * self.octaves).sum(dim=2, keepdim=True), salience.amax(dim=2, keepdim=True)


def _weighted_moments(x: torch.Tensor, weights: torch.Tensor, order: int) -> list[torch.Tensor]:
    """Mean, standard deviation and standardised moments up to ``order`` of x (n, frames, d) over time: each (n, d)."""
    total = weights.sum(dim=1, keepdim=True) + 1e-6
    mean = (x * weights).sum(dim=1, keepdim=True) / total
    deviation = x - mean
    spread = ((deviation**2 * weights).sum(dim=1, keepdim=True) / total + 1e-4).sqrt()
    scaled = deviation / spread
    higher = [((scaled**k) * weights).sum(dim=1) / total[:, 0] for k in range(3, order + 1)]
    return [mean[:, 0], spread[:, 0], *higher]


class Functionals(nn.Module):
    """Statistics of cepstrum, bands, pitch and rhythm over the audible frames of a clip, after openSMILE.

    Power spectrum (n, frames, bins) in, (n, d) out. Nothing in them depends on the level. Eyben et al. 2010,
    doi:10.1145/1873951.1874246.
    """

    N_MELS, N_CEPSTRA = 40, 20

    def __init__(self) -> None:
        super().__init__()
        self.bands = MelBands(self.N_MELS)
        self.pitch = PitchSalience()
        i, k = torch.arange(self.N_MELS).double(), torch.arange(self.N_CEPSTRA).double()
        cosines = torch.cos(math.pi * torch.outer(i + 0.5, k) / self.N_MELS) * math.sqrt(2 / self.N_MELS)
        self.register_buffer("dct", cosines.float(), persistent=False)

    def forward(self, power: torch.Tensor) -> torch.Tensor:
        mel = self.bands(power)
        energy = mel.sum(dim=2, keepdim=True)
        loudness = torch.log(energy / (energy.amax(dim=1, keepdim=True) + 1e-12) + _FLOOR)
        audible = torch.sigmoid(2 * (loudness + 7))  # within 30 dB of the loudest frame
        logmel = torch.log(mel / (mel.mean(dim=(1, 2), keepdim=True) + 1e-12) + _FLOOR)
        parts = [*self._timbre(logmel, audible), *self._rhythm(logmel, audible)]
        step = slice(None, None, 2)  # pitch every 20 ms
        parts += self._melody(power[:, step], loudness[:, step], audible[:, step])
        return torch.cat(parts, dim=1)

    def _timbre(self, logmel: torch.Tensor, audible: torch.Tensor) -> list[torch.Tensor]:
        cepstra = logmel @ self.dct
        delta = (cepstra[:, 2:] - cepstra[:, :-2]) / 2
        delta_delta = delta[:, 2:] - delta[:, :-2]
        return [
            *_weighted_moments(cepstra, audible, 4),
            _weighted_moments(delta, audible[:, 1:-1], 2)[1],
            _weighted_moments(delta_delta, audible[:, 2:-2], 2)[1],
            *_weighted_moments(logmel[:, :, ::2], audible, 3),
        ]

    def _rhythm(self, logmel: torch.Tensor, audible: torch.Tensor) -> list[torch.Tensor]:
        """How far eight wide bands move in 20 to 320 ms (structure functions)."""
        wide = logmel.unflatten(2, (8, self.N_MELS // 8)).mean(dim=3)
        parts = []
        for lag in (2, 4, 8, 16, 32):
            weights = audible[:, lag:] * audible[:, :-lag]
            moved = ((wide[:, lag:] - wide[:, :-lag]) ** 2 * weights).sum(dim=1) / (weights.sum(dim=1) + 1e-6)
            parts.append(torch.log(moved + 1e-3))
        return parts

    def _melody(self, power: torch.Tensor, loudness: torch.Tensor, audible: torch.Tensor) -> list[torch.Tensor]:
        octave, periodicity = self.pitch(power)
        voiced = audible * torch.sigmoid(20 * (periodicity - 0.45))
        total = voiced.sum(dim=1) + 1e-3
        mean = (octave * voiced).sum(dim=1, keepdim=True) / total.unsqueeze(1)
        relative = octave - mean
        time = torch.cumsum(torch.ones_like(octave), dim=1) * 0.02
        time = time - (time * voiced).sum(dim=1, keepdim=True) / total.unsqueeze(1)
        slope = (time * relative * voiced).sum(dim=1) / ((time**2 * voiced).sum(dim=1) + 0.01)
        step, both = relative[:, 1:] - relative[:, :-1], voiced[:, 1:] * voiced[:, :-1]
        movement = (step.abs().clamp(max=0.3) * both).sum(dim=1) / (both.sum(dim=1) + 1e-3)
        highest = torch.log((torch.exp(4 * relative) * voiced).sum(dim=1) / total + 1e-6)
        lowest = torch.log((torch.exp(-4 * relative) * voiced).sum(dim=1) / total + 1e-6)
        heard = audible.sum(dim=1) + 1e-3
        return [
            *_weighted_moments(octave, voiced, 4),
            slope,
            torch.log(movement + 1e-3),
            highest,
            lowest,
            total / heard,
            (voiced[:, 1:] - voiced[:, :-1]).abs().sum(dim=1) / heard,
            *_weighted_moments(periodicity, audible, 3),
            *_weighted_moments(loudness, audible, 3),
            torch.log(((loudness[:, 1:] - loudness[:, :-1]).abs() * audible[:, 1:]).sum(dim=1) / heard + 1e-3),
        ]


class FunctionalsNetwork(nn.Module):
    """A perceptron over standardised functionals (n, d): logits (n, n_classes)."""

    def __init__(self, mean: torch.Tensor, spread: torch.Tensor, n_classes: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.layers = nn.Sequential(
            nn.Dropout(dropout / 2),
            nn.Linear(len(mean), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )

    def forward(self, functionals: torch.Tensor) -> torch.Tensor:
        # Beyond four standard deviations a statistic says "this is another kind of sound", not "four times as angry".
        return self.layers(((functionals - self.mean) / self.spread).clamp(-4, 4))


class VoiceEnsemble(nn.Module):
    """What is exported: waveforms (n, samples) in, calibrated probabilities (n, k) and embedding (n, d) out.

    The logits of all networks and perceptrons are averaged. The embedding is the principal components of the networks'
    pooled layers, set by `fit_projection`.
    """

    def __init__(
        self,
        networks: Sequence[VoiceNetwork],
        perceptrons: Sequence[FunctionalsNetwork],
        n_mels: int,
        temperature: float,
    ) -> None:
        super().__init__()
        self.spectrum, self.bands, self.functionals = Spectrum(), MelBands(n_mels), Functionals()
        self.networks, self.perceptrons = nn.ModuleList(networks), nn.ModuleList(perceptrons)
        self.temperature = temperature
        width = sum(network.head.in_features for network in networks)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("projection", torch.eye(width))

    def fit_projection(self, embeddings: torch.Tensor, size: int) -> None:
        """Learn the ``size`` principal components of embeddings (rows, width) with unit variance each."""
        self.centre = embeddings.mean(dim=0)
        _, spread, axes = torch.linalg.svd(embeddings - self.centre, full_matrices=False)
        # The sign of an axis is arbitrary; a fixed one makes runs comparable.
        signs = torch.sign(axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)))
        self.projection = ((axes * signs)[:size] / spread[:size, None] * math.sqrt(len(embeddings))).T.contiguous()

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        power = self.spectrum(waveform)
        features = normalise(self.bands(power))
        answers = [network(features) for network in self.networks]
        functionals = self.functionals(power)
        logits = [logits for _, logits in answers] + [perceptron(functionals) for perceptron in self.perceptrons]
        probabilities = torch.softmax(torch.stack(logits).mean(dim=0) / self.temperature, dim=1)
        embedding = (torch.cat([embedding for embedding, _ in answers], dim=1) - self.centre) @ self.projection
        return probabilities, embedding
