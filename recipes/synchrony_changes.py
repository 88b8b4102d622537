"""Changed copies of a moving mouth and its sound, from which the networks of synchrony learn.

Six actors are few, and in their clips nobody else speaks. What makes one face or voice look and sound unlike another,
and has nothing to do with when somebody speaks, is changed at random in every sequence: shape, skin, light and camera
of the pictures; throat and microphone of the sound; who is heard before and after; and how fast both go.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from affuse.people.mouths import MOUTH_SIZE

__all__ = ["LARGER", "STACK", "changed_sequence", "has_room"]

LARGER = 40
"""Pixels of the pictures that training draws its own from."""

STACK = 5
"""Pictures that are seen at once."""

_EDGE = STACK // 2
_AROUND = 6  # pictures before and after a sequence whose sound is heard too
_SPEED = 0.12  # standard deviation of the logarithm
_INTERRUPTED = 0.4  # how often somebody else is heard before a sequence, and after it


def has_room(pictures: np.ndarray, spectrum: np.ndarray, length: int) -> bool:
    """Whether a clip is long enough for sequences of a length, as it is played.

    Parameters
    ----------
    pictures : array of shape (t, 40, 40)
        25 a second.
    spectrum : array of shape (40, about 4 t)
        100 frames a second.
    length : int
        Pictures of a sequence.

    Returns
    -------
    bool
    """
    return _room(pictures, spectrum, length) > 0


def changed_sequence(
    pictures: np.ndarray, spectrum: np.ndarray, other: np.ndarray, length: int, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A moment of a clip, played a little faster or slower, as another person might look and sound.

    Somebody else may be heard before and after it, as where turns are short.

    Parameters
    ----------
    pictures : array of shape (t, 40, 40), uint8
        Of a mouth, 25 a second.
    spectrum : array of shape (40, about 4 t)
        Log-mel, 100 frames a second.
    other : array of shape (40, n)
        Spectrum of somebody else, at least as long as what is returned.
    length : int
        Pictures of the sequence.
    draw : numpy.random.Generator
        Where in the clip, and what is changed.

    Returns
    -------
    stacks : tensor of shape (length, 5, 28, 28)
        Grey values.
    spectrum : tensor of shape (40, 4 (length + 12))
        Six pictures more on either side than there are stacks.
    """
    speed = float(np.exp(draw.normal(0, _SPEED)))
    first = _EDGE + draw.uniform(0, max(_room(pictures, spectrum, length * speed), 0.0))
    seen = _between(pictures, first + speed * np.arange(-_EDGE, length + _EDGE), 0)
    seen = _disturbed(_moved(torch.from_numpy(seen), draw), draw)
    heard = _between(spectrum, 4 * first + speed * np.arange(-4 * _AROUND, 4 * (length + _AROUND)), 1)
    heard = _interrupted(_other_throat(heard, draw), other, draw)
    stacks = torch.stack([seen[i : i + length] for i in range(STACK)], dim=1)
    return stacks, torch.from_numpy(_other_microphone(heard, draw))


def _room(pictures: np.ndarray, spectrum: np.ndarray, length: float) -> float:
    """How many pictures lie between the first and the last sequence of a clip."""
    return min(len(pictures), spectrum.shape[1] // 4) - length - 2 * _EDGE


def _between(rows: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Rows at places that lie between two of them; beyond the ends the first or the last one."""
    at = at.clip(0, rows.shape[axis] - 1.001)
    before = at.astype(int)
    shape = [1] * rows.ndim
    shape[axis] = len(at)
    share = (at - before).reshape(shape).astype(np.float32)
    return np.asarray(rows.take(before, axis) * (1 - share) + rows.take(before + 1, axis) * share, dtype=np.float32)


def _moved(pictures: Tensor, draw: np.random.Generator) -> Tensor:
    """Pictures of 28 pixels out of larger ones: mirrored, turned, wider or narrower, sheared, and drifting as an
    imperfect tracker lets them."""
    zoom, turn = MOUTH_SIZE / LARGER * np.exp(draw.normal(0, 0.1)), draw.normal(0, 0.1)
    across = np.exp(draw.normal(0, 0.1))
    drift = draw.normal(0, 0.07, 2) + np.cumsum(draw.normal(0, 0.008, (len(pictures), 2)), axis=0)
    across = -across if draw.random() < 0.5 else across
    cosine, sine, shear = np.cos(turn) * zoom, np.sin(turn) * zoom, draw.normal(0, 0.08) * zoom
    maps = torch.zeros(len(pictures), 2, 3)
    maps[:, :, :2] = torch.tensor([[cosine * across, shear - sine], [sine * across, cosine]], dtype=torch.float32)
    maps[:, :, 2] = torch.from_numpy(drift)
    grid = F.affine_grid(maps, [len(pictures), 1, MOUTH_SIZE, MOUTH_SIZE], align_corners=False)
    return F.grid_sample(pictures[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _disturbed(pictures: Tensor, draw: np.random.Generator) -> Tensor:
    """Pictures of another skin, light and camera."""
    pictures = 255 * (pictures / 255).clamp(0, 1) ** float(np.exp(draw.normal(0, 0.35)))
    if draw.random() < 0.5:  # light from one side
        across, down = (torch.linspace(-1, 1, MOUTH_SIZE) * float(draw.normal(0, 20)) for _ in range(2))
        pictures = pictures + across[None, None, :] + down[None, :, None]
    pictures = pictures * float(np.exp(draw.normal(0, 0.2))) + float(draw.normal(0, 15))
    if draw.random() < 0.3:
        noise = draw.normal(0, draw.uniform(0, 10), pictures.shape).astype(np.float32)
        pictures = pictures + torch.from_numpy(noise)
    if draw.random() < 0.3:  # sharper, softer, or with edges
        kernel = draw.normal(0, 0.15, (3, 3)).astype(np.float32)
        kernel[1, 1] += 1
        pictures = F.conv2d(_bordered(pictures), torch.from_numpy(kernel)[None, None])[:, 0]
    for _ in range(2):
        if draw.random() < 0.3:
            pictures = F.avg_pool2d(_bordered(pictures), 3, 1)[:, 0]
    return pictures


def _bordered(pictures: Tensor) -> Tensor:
    return F.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")


def _other_throat(spectrum: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The spectrum with its bands moved up or down (vocal tract length perturbation, Jaitly & Hinton 2013)."""
    bands = np.arange(len(spectrum)) * np.exp(draw.normal(0, 0.08)) + draw.normal(0, 0.7)
    return _between(spectrum, bands, 0)


def _interrupted(spectrum: np.ndarray, other: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The spectrum with that of somebody else before or after it, up to one picture inside the sequence."""
    first = int(draw.integers(other.shape[1] - spectrum.shape[1] + 1))
    other, spectrum = other[:, first : first + spectrum.shape[1]], spectrum.copy()
    if draw.random() < _INTERRUPTED:
        end = int(draw.integers(8, 4 * (_AROUND + 1)))
        spectrum[:, :end] = other[:, :end]
    if draw.random() < _INTERRUPTED:
        start = spectrum.shape[1] - int(draw.integers(8, 4 * (_AROUND + 1)))
        spectrum[:, start:] = other[:, start:]
    return spectrum


def _other_microphone(spectrum: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The spectrum with a floor of noise, a slope over the bands, and bands lost (SpecAugment, Park et al. 2019)."""
    if draw.random() < 0.5:
        floor = spectrum.mean() + draw.uniform(-4, 1) + draw.normal(0, 0.5, spectrum.shape)
        spectrum = np.logaddexp(spectrum, floor)
    slope = draw.normal(0, draw.uniform(0, 1.5)) * np.linspace(-1, 1, len(spectrum))
    spectrum = np.asarray(spectrum + slope[:, None], dtype=np.float32)
    if draw.random() < 0.3:
        first = int(draw.integers(len(spectrum) - 5))
        spectrum[first : first + int(draw.integers(1, 6))] = spectrum.mean()
    return spectrum
