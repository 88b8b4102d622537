"""Still pictures, by Pillow: told apart by content, turned upright and read as RGB."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from affuse.budget import Budget, budget_in_use
from affuse.errors import MediaError

__all__ = ["decode_picture", "is_animated", "is_picture", "read_picture"]

# Pillow would also claim MPEG streams and PDF pages; only these are pictures to us.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# FFmpeg plays these as videos. It cannot read animated WebP, of which the first picture is taken.
_PLAYABLE = ("GIF", "PNG")

# What cameras on the web send.
_SENT = ("JPEG", "PNG", "WEBP")

# A progressive JPEG comes in about ten scans. Each is decoded over all pixels, so a few bytes more can cost seconds.
_MOST_SCANS = 30
_JPEG = b"\xff\xd8"
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # neither data of a scan nor its restarts
_SCAN, _END, _BARE = b"\xda", b"\xd9", (b"\x01", b"\xd8")

# How recordings begin. Pillow loads all of its forty plugins before it says that such a file is no picture.
_RECORDINGS = (b"\x1a\x45\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"OggS", b"fLaC", b"ID3", b"FLV")
_PICTURE_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


@cache
def _formats() -> tuple[str, ...]:
    readable = set(Image.registered_extensions().values())  # AVIF and WebP are optional parts of Pillow
    return tuple(f for f in _FORMATS if f in readable)


@contextmanager
def _opened(path: Path, given: Budget | None) -> Iterator[Image.Image]:
    """A picture whose header is read and whose size is within the budget; raises MediaError where it is damaged.

    `UnidentifiedImageError` is passed on.
    """
    budget = budget_in_use() if given is None else given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the budget decides
            image = Image.open(path, formats=_formats())
        with image:
            if why := budget.excess("max_pixels", image.width * image.height):
                raise MediaError(f"{path} has {image.width} x {image.height} pixels; {why}")
            yield image
    except UnidentifiedImageError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} has far too many pixels; {budget.named('max_pixels')}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"{path} is a damaged picture: {error}") from error


def is_picture(path: Path, budget: Budget | None = None) -> bool:
    """Whether a file holds a still picture.

    Raises MediaError where it is damaged or exceeds the budget, and for HEIC, which neither Pillow nor FFmpeg reads
    whole.
    """
    with path.open("rb") as file:
        head = file.read(12)
    try:
        if not _is_recording(head):
            with _opened(path, budget) as image:
                return not (image.format in _PLAYABLE and getattr(image, "is_animated", False))
    except UnidentifiedImageError:
        pass
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        raise MediaError(f"{path} is a HEIC picture, which is not supported; convert it to JPEG or PNG")
    return False


def _is_recording(head: bytes) -> bool:
    """Whether a file with these first twelve bytes is a video or sound, which no picture begins like."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _PICTURE_BRANDS
    return head.startswith(_RECORDINGS) or (head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"))


def is_animated(path: Path, budget: Budget | None = None) -> bool:
    """Whether a picture file holds more than one picture of which only the first is read."""
    with _opened(path, budget) as image:
        return image.format == "WEBP" and getattr(image, "is_animated", False)


def read_picture(path: Path, max_side: int | None = None, budget: Budget | None = None) -> np.ndarray:
    """Read a picture as RGB uint8 (h, w, 3), upright by its EXIF orientation, transparent parts on white.

    ``max_side`` bounds the longer side in pixels; the aspect is kept. Raises MediaError where the file is damaged, and
    before anything is decoded where it has more pixels than the budget, or so many scans that it was made to take long.
    """
    try:
        with _opened(path, budget) as image:
            if image.format == "JPEG":
                _check_scans(path.read_bytes(), f"{path} is a JPEG")
            return _as_array(_upright(image), max_side)
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is a damaged picture: {error}") from error


def _check_scans(payload: bytes, name: str) -> None:
    scans = _scans(payload)
    if scans > _MOST_SCANS:
        raise MediaError(f"{name} of {scans} scans; {_MOST_SCANS} are the most")


def _scans(payload: bytes) -> int:
    """Number of scans of a JPEG, without those of pictures and films that its metadata or its tail hold."""
    scans, place = 0, 2
    while (found := _MARKER.search(payload, place)) is not None and found[1] != _END:
        scans += found[1] == _SCAN
        length = int.from_bytes(payload[found.end() : found.end() + 2], "big")
        place = found.end() + (length if found[1] not in _BARE else 0)
    return scans


def decode_picture(payload: bytes, max_side: int, max_pixels: int) -> np.ndarray:
    """Decode a JPEG, PNG or WebP of unknown origin as `read_picture` does.

    Raises MediaError where it is something else or damaged; and before anything is decoded where it has more than
    ``max_pixels``, or so many scans that it was made to take long.
    """
    try:
        with Image.open(BytesIO(payload), formats=_SENT) as image:
            if image.width * image.height > max_pixels:
                raise MediaError(f"a picture of {image.width} x {image.height} pixels; {max_pixels:,} are the most")
            if payload.startswith(_JPEG):
                _check_scans(payload, "a JPEG")
            return _as_array(_upright(image), max_side)
    except UnidentifiedImageError:
        raise MediaError("a picture that is neither JPEG nor PNG nor WebP") from None
    except Image.DecompressionBombError:
        raise MediaError(f"a picture of far more than {max_pixels:,} pixels, which are the most") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"a damaged picture: {error}") from error


def _as_array(image: Image.Image, max_side: int | None) -> np.ndarray:
    if max_side is not None and max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    return np.array(image)


def _upright(image: Image.Image) -> Image.Image:
    """The picture upright and as RGB; as few copies as can be, since one may take hundreds of megabytes."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        values = np.array(image)
        values >>= 8
        image = Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer)
    return page
