"""Augmentation of pictures: place, light, what stands before a face and what a poor camera leaves of it.

All functions take and return float tensors (n, c, h, w) with values 0…255 on any device and draw from a generator;
each change is a function with its strength (n,) as an argument, which is what robustness is measured with, and
`PictureAugmentation` draws the strengths. Lengths are shares of the picture's side, so they hold at any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from affuse.training.augment.ranges import Range, check_range, check_share, uniform
from affuse.training.augment.spectrum import mask_ranges

__all__ = [
    "PictureAugmentation",
    "blur",
    "change_gamma",
    "compress",
    "darken",
    "lower_resolution",
    "occlude",
    "transform",
    "wear_glasses",
    "wear_mask",
]

_GAMMA = 2.2  # of displays: light is about the 2.2th power of a pixel's value
_FULL_WELL = 1000.0  # photons at white: a small sensor at high sensitivity


@dataclass(frozen=True)
class PictureAugmentation:
    """Another picture of the same face: framing, light, what hides it, and what a poor camera leaves of it.

    Calling it changes pictures (n, c, h, w), or clips (n, c, t, h, w) whose frames all change alike, with values 0…255;
    every random choice comes from the generator given. 0 and None switch a change off.

    Parameters
    ----------
    crop : float
        Largest share of the side that is cut away at random.
    flip : float
        Probability of a mirror image.
    rotation : float
        Largest angle in degrees.
    scale : float
        Largest relative change of size.
    shift : float
        Largest shift, as a share of the side.
    brightness : float
        Largest change of the logarithm of gamma.
    occlusion : tuple of float, optional
        Smallest and largest share of the area behind a noisy rectangle.
    blur : tuple of float, optional
        Standard deviations of a Gaussian, as shares of the side.
    darkness : tuple of float, optional
        Stops of exposure too few.
    resolution : tuple of float, optional
        Sides that the picture is brought down to, as shares of its own.
    jpeg : tuple of float, optional
        Qualities 1…100.
    mask, glasses : float
        Probability of a surgical mask over nose and mouth, and of sunglasses, on a crop as the face expert cuts it.
    probability : float
        Of each of the changes that a range gives.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> images = torch.full((2, 1, 48, 48), 128.0)
    >>> changed = PictureAugmentation(occlusion=(0.1, 0.2), probability=1)(images, torch.Generator().manual_seed(0))
    >>> changed.shape, bool((changed != images).any())
    (torch.Size([2, 1, 48, 48]), True)
    """

    crop: float = 0.0
    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    occlusion: Range | None = None
    blur: Range | None = None
    darkness: Range | None = None
    resolution: Range | None = None
    jpeg: Range | None = None
    mask: float = 0.0
    glasses: float = 0.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        for name in ("crop", "flip", "scale", "shift", "mask", "glasses", "probability"):
            check_share(name, getattr(self, name))
        check_range("rotation", (0.0, self.rotation), 0, 180)
        check_range("brightness", (0.0, self.brightness), 0, 3)
        check_range("occlusion", self.occlusion, 0, 1)
        check_range("blur", self.blur, 0, 0.5)
        check_range("darkness", self.darkness, 0, 12)
        check_range("resolution", self.resolution, 0.01, 1)
        check_range("jpeg", self.jpeg, 1, 100)

    @torch.no_grad()
    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures (n, c, h, w), or clips (n, c, t, h, w) whose frames all change alike, with values 0…255."""
        if images.ndim == 5:
            return self(images.flatten(1, 2), generator).view(images.shape)
        images = self._moved(images.float(), generator)
        images = _sometimes(images, self.mask, generator, lambda x: wear_mask(x, _shades(x, 120, 230, generator)))
        images = _sometimes(images, self.glasses, generator, lambda x: wear_glasses(x, _shades(x, 5, 70, generator)))
        images = self._ranged(images, self.occlusion, generator, lambda x, share: occlude(x, share, generator))
        if self.brightness:
            log_gamma = uniform(len(images), (-self.brightness, self.brightness), generator)
            images = change_gamma(images, log_gamma.exp())
        images = self._ranged(images, self.darkness, generator, lambda x, stops: darken(x, stops, generator))
        images = self._ranged(images, self.blur, generator, blur)
        images = self._ranged(images, self.resolution, generator, lower_resolution)
        return self._ranged(images, self.jpeg, generator, compress)

    def _moved(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not (self.crop or self.flip or self.rotation or self.scale or self.shift):
            return images
        n = len(images)
        cut = uniform(n, (0.0, self.crop), generator)
        mirrored = uniform(n, (0.0, 1.0), generator) < self.flip
        angle = uniform(n, (-self.rotation, self.rotation), generator)
        scale = 1 + uniform(n, (-self.scale, self.scale), generator)
        x, y = (
            uniform(n, (-self.shift, self.shift), generator) + uniform(n, (-0.5, 0.5), generator) * cut
            for _ in range(2)
        )
        return transform(images, angle, scale / (1 - cut.clamp(max=0.99)), x, y, mirrored)

    def _ranged(
        self,
        images: Tensor,
        values: Range | None,
        generator: torch.Generator,
        change: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        if values is None:
            return images
        return _sometimes(images, self.probability, generator, lambda x: change(x, uniform(len(x), values, generator)))


def transform(images: Tensor, angle: Tensor, scale: Tensor, x: Tensor, y: Tensor, mirrored: Tensor) -> Tensor:
    """Mirrored where asked, turned counter-clockwise by ``angle`` (n,) degrees, ``scale`` times as large, and moved.

    ``x`` and ``y`` (n,) point right and down. One bilinear interpolation for all; what comes from beyond the edge
    repeats it.
    """
    n, _, height, width = images.shape
    radians = torch.deg2rad(angle)
    c, s = torch.cos(radians) / scale, torch.sin(radians) / scale
    # From a place of the result to one of the source, in units of half the height; affine_grid wants half sides.
    flip = 1 - 2 * mirrored.to(c.dtype)
    aspect = width / height
    right, down = 2 * x * aspect, 2 * y
    rows = [
        torch.stack([flip * c, -flip * s / aspect, flip * (s * down - c * right) / aspect], dim=1),
        torch.stack([s * aspect, c, -(s * right + c * down)], dim=1),
    ]
    theta = torch.stack(rows, dim=1).to(images.device, images.dtype)
    grid = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def change_gamma(images: Tensor, gamma: Tensor) -> Tensor:
    """Pixel values to the power of ``gamma`` (n,), white staying white: above 1 is darker, below 1 brighter."""
    return 255 * (images / 255).clamp(0, 1) ** _per_picture(gamma, images)


def darken(images: Tensor, stops: Tensor, generator: torch.Generator) -> Tensor:
    """The scene with 2^-``stops`` (n,) of its light: darker, with the noise of photons, rounded to whole values.

    Photons arrive as a Poisson process (shot noise: Hasinoff 2014, doi:10.1007/978-0-387-31439-6_482), a thousand of
    them at white without darkening.
    """
    light = (images / 255).clamp(0, 1) ** _GAMMA * 2 ** -_per_picture(stops, images)
    photons = torch.poisson((light * _FULL_WELL).to(generator.device), generator=generator).to(images.device)
    return (255 * (photons / _FULL_WELL).clamp(max=1) ** (1 / _GAMMA)).round()


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation of ``sigma`` (n,) heights; edges are repeated."""
    n, channels, height, width = images.shape
    spread = (sigma * height).clamp(min=1e-3).to(images.device, images.dtype)
    radius = max(1, math.ceil(3 * float(spread.max())))
    place = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (place / spread[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    # Every picture has a kernel of its own, so all channels of all pictures become groups of one convolution.
    flat = F.pad(images.reshape(1, n * channels, height, width), (radius,) * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, :, None], groups=n * channels)
    return F.conv2d(flat, kernel[..., None], groups=n * channels).view(images.shape)


def lower_resolution(images: Tensor, side: Tensor) -> Tensor:
    """Brought down to ``side`` (n,) of their height and width, averaging areas, and back up bilinearly."""
    size = images.shape[2:]
    changed = [
        F.interpolate(
            F.interpolate(image[None], [max(1, round(s * share)) for s in size], mode="area"),
            list(size),
            mode="bilinear",
        )
        for image, share in zip(images, side.tolist(), strict=True)
    ]
    return torch.cat(changed) if changed else images


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """Through JPEG with ``quality`` (n,) 1…100: three channels as colours, otherwise each one as a grey picture."""
    changed = [_jpeg(image, round(q)) for image, q in zip(images.cpu(), quality.tolist(), strict=True)]
    return torch.stack(changed).to(images) if changed else images


def _jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = image.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
    if pixels.shape[2] == 3:
        return torch.from_numpy(_through_jpeg(pixels[..., ::-1], quality)[..., ::-1].copy()).permute(2, 0, 1)
    return torch.stack([torch.from_numpy(_through_jpeg(grey, quality)) for grey in np.moveaxis(pixels, 2, 0)])


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    _, coded = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return decoded


def occlude(images: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle over ``share`` (n,) of the area, half to twice as wide as high, somewhere, filled with noise.

    Source: random erasing, Zhong et al. 2017 (arXiv:1708.04896).
    """
    n, _, height, width = images.shape
    aspect = uniform(n, (math.log(0.5), math.log(2)), generator).exp()
    share = share.to(aspect.device)
    high = (torch.sqrt(share / aspect) * height).clamp(max=height).round()
    wide = torch.where(high > 0, share * height * width / high.clamp(min=1), 0).clamp(max=width).round()
    top, left = (
        (uniform(n, (0, 1), generator) * (size - side + 1)).long() for size, side in ((height, high), (width, wide))
    )
    inside = mask_ranges(height, top, high.long())[:, :, None] & mask_ranges(width, left, wide.long())[:, None]
    noise = torch.rand(images.shape, generator=generator, device=generator.device).to(images) * 255
    return torch.where(inside[:, None].to(images.device), noise, images)


def wear_mask(images: Tensor, shade: Tensor) -> Tensor:
    """A surgical mask with brightness ``shade`` (n,) 0…255 over nose, mouth and chin of a crop from brow to chin."""
    x, y = _places(images)
    edge = 0.62 - 0.10 * torch.cos(math.pi * (x - 0.5))  # higher on the nose than on the cheeks
    inside = (y > edge) & ((x - 0.5).abs() < 0.44 - 0.25 * (y - 0.6).clamp(min=0))
    folds = 1 - 0.06 * torch.cos(12 * math.pi * y)
    return torch.where(inside, _per_picture(shade, images) * folds, images)


def wear_glasses(images: Tensor, shade: Tensor) -> Tensor:
    """Sunglasses with brightness ``shade`` (n,) 0…255 over the eyes of a crop from brow to chin."""
    x, y = _places(images)
    lens = (((x - 0.5).abs() - 0.19) / 0.16) ** 2 + ((y - _EYES) / 0.12) ** 2 < 1
    frame = ((y - _EYES + 0.05).abs() < 0.02) & ((x - 0.5).abs() < 0.46)
    return torch.where(lens | frame, _per_picture(shade, images).expand_as(images), images)


_EYES = 0.37  # height of the eyes in a crop of the pipeline: where the mean training picture of FER+ has them


def _places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Centres of the pixels as shares of the sides: x (1, w) and y (h, 1)."""
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    return x[None], y[:, None]


def _per_picture(value: Tensor, images: Tensor) -> Tensor:
    return value.to(images.device, images.dtype).view(-1, 1, 1, 1)


def _shades(images: Tensor, darkest: float, brightest: float, generator: torch.Generator) -> Tensor:
    return uniform(len(images), (darkest, brightest), generator)


def _sometimes(
    images: Tensor, probability: float, generator: torch.Generator, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """``change`` on each picture with ``probability``; the others keep their place."""
    if probability == 0:
        return images
    chosen = uniform(len(images), (0, 1), generator).to(images.device) < probability
    if not chosen.any():
        return images
    result = images.clone()
    result[chosen] = change(images[chosen])
    return result
