"""Still pictures, by Pillow: told apart by content, turned upright and read as RGB."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from affuse.errors import MediaError

__all__ = ["decode_picture", "is_animated", "is_picture", "read_picture"]

# Pillow would also claim MPEG streams and PDF pages; only these are pictures to us.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# FFmpeg plays these as videos. It cannot read animated WebP, of which the first picture is taken.
_PLAYABLE = ("GIF", "PNG")

# What cameras on the web send.
_SENT = ("JPEG", "PNG", "WEBP")

# A progressive JPEG comes in about ten scans. Each is decoded over all pixels, so a few bytes more can cost seconds.
_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"
_MOST_SCANS = 30

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


@cache
def _formats() -> tuple[str, ...]:
    readable = set(Image.registered_extensions().values())  # AVIF and WebP are optional parts of Pillow
    return tuple(f for f in _FORMATS if f in readable)


def is_picture(path: Path) -> bool:
    """Whether a file holds a still picture; raises MediaError for HEIC, which neither Pillow nor FFmpeg reads whole."""
    try:
        with Image.open(path, formats=_formats()) as image:
            return not (image.format in _PLAYABLE and getattr(image, "n_frames", 1) > 1)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
            raise MediaError(f"{path} is a HEIC picture, which is not supported; convert it to JPEG or PNG") from None
        return False
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path} is a damaged picture: {error}") from error


def is_animated(path: Path) -> bool:
    """Whether a picture file holds more than one picture of which only the first is read."""
    with Image.open(path, formats=_formats()) as image:
        return image.format == "WEBP" and getattr(image, "n_frames", 1) > 1


def read_picture(path: Path, max_side: int | None = None) -> np.ndarray:
    """Read a picture as RGB uint8 (h, w, 3), upright by its EXIF orientation, transparent parts on white.

    ``max_side`` bounds the longer side in pixels; the aspect is kept. Raises MediaError where the file is damaged.
    """
    try:
        with Image.open(path, formats=_formats()) as image:
            upright = _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path} is a damaged picture: {error}") from error
    return _as_array(upright, max_side)


def decode_picture(payload: bytes, max_side: int, max_pixels: int) -> np.ndarray:
    """Decode a JPEG, PNG or WebP of unknown origin as `read_picture` does.

    Raises MediaError where it is something else or damaged; and before anything is decoded where it has more than
    ``max_pixels``, or so many scans that it was made to take long.
    """
    try:
        with Image.open(BytesIO(payload), formats=_SENT) as image:
            if image.width * image.height > max_pixels:
                raise MediaError(f"a picture of {image.width} x {image.height} pixels; {max_pixels:,} are the most")
            if payload.startswith(_JPEG) and payload.count(_SCAN) > _MOST_SCANS:
                raise MediaError(f"a JPEG of {payload.count(_SCAN)} scans; {_MOST_SCANS} are the most")
            upright = _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise MediaError("a picture that is neither JPEG nor PNG nor WebP") from None
    except Image.DecompressionBombError:
        raise MediaError(f"a picture of far more than {max_pixels:,} pixels, which are the most") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"a damaged picture: {error}") from error
    return _as_array(upright, max_side)


def _as_array(image: Image.Image, max_side: int | None) -> np.ndarray:
    if max_side is not None and max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    return np.array(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
