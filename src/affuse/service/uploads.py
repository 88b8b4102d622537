"""Receiving forms from clients that may be slow, endless or malicious."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path, PurePosixPath

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from affuse.service.settings import Settings

__all__ = ["display_name", "keep", "keep_text", "read_form"]

_MAX_FILES, _MAX_FIELDS = 32, 32
_MAX_FIELD = 1 << 20  # bytes of a text field
_LONGEST_NAME = 120
_OVERHEAD = 1 << 16  # bytes that a form takes besides its largest file


async def read_form(request: Request, settings: Settings) -> FormData:
    """The form of a request. Its files lie in unnamed temporary files, which vanish with the process.

    Raises HTTPException 413 for too much, 408 for too long a pause, 400 for what is no form.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > settings.max_upload + _OVERHEAD:
        raise _too_large(settings)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "send a form: Content-Type multipart/form-data")
    parser = MultiPartParser(
        request.headers,
        _limited(request, settings),
        max_files=_MAX_FILES,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form is broken: {error.message}") from error
    except (KeyError, ValueError, AssertionError) as error:  # python-multipart on headers that are no headers
        raise HTTPException(400, "the form is broken") from error


async def _limited(request: Request, settings: Settings) -> AsyncGenerator[bytes, None]:
    stream = request.stream()
    received = 0
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), settings.upload_pause)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, f"nothing arrived for {settings.upload_pause:.0f} s; send it again") from None
        received += len(chunk)
        if received > settings.max_upload + _OVERHEAD:
            raise _too_large(settings)
        yield chunk


def _too_large(settings: Settings) -> HTTPException:
    return HTTPException(413, f"the upload is too large; at most {settings.max_upload / 1e6:.0f} MB are taken")


def keep(upload: UploadFile, settings: Settings) -> str:
    """Copy a received file under a random name into the folder of uploads, and return that name.

    The ending is kept, where it is a plain one, since some formats are known by it only.
    """
    suffix = PurePosixPath(display_name(upload.filename)).suffix.lower()
    name = secrets.token_hex(16) + (suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else "")
    with _PrivateFile(settings.uploads / name) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
        shutil.copyfileobj(upload.file, file)
    return name


def keep_text(text: str, settings: Settings) -> str:
    """Write a text under a random name into the folder of uploads, and return that name."""
    name = secrets.token_hex(16) + ".txt"
    with _PrivateFile(settings.uploads / name) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(text.encode("utf-8"))
    return name


class _PrivateFile:
    """A new file that only this user may read; it goes again if writing it fails."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> int:
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return self.descriptor

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        os.close(self.descriptor)
        if kind is not None:
            self.path.unlink(missing_ok=True)


def display_name(filename: str | None) -> str:
    """What a client called its file, without folders and control characters; for showing only."""
    last = re.split(r"[/\\]", filename or "")[-1]
    printable = "".join(c for c in last if c.isprintable()).strip()
    return printable[-_LONGEST_NAME:] or "recording"
