"""Receiving forms from clients that may be slow, endless or malicious."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affuse.service.settings import Settings
from affuse.service.storage import Storage

__all__ = [
    "BODY_REFUSALS",
    "MAX_JSON",
    "Intake",
    "display_name",
    "first_problem",
    "form_content",
    "keep",
    "keep_text",
    "read_form",
    "refusals",
]

MAX_JSON = 32_000_000
"""Bytes of a body that is no form."""

_MAX_FILES, _MAX_FIELDS = 32, 32
_MAX_FIELD = 1 << 20  # bytes of a text field
_LONGEST_NAME = 120
_OVERHEAD = 1 << 16  # bytes that a form takes besides its largest file
_PATIENCE, _SLOWEST = 60.0, 1000  # after a minute, a client that sends fewer bytes a second holds the line for nothing


def refusals(texts: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of answers without a result, by status."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {status: {"description": text, "content": content} for status, text in texts.items()}


def form_content(required: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """What the OpenAPI document says of a form: its one ``required`` field, and the schemas of all by name."""
    schema = {"type": "object", "required": [required], "properties": properties, "additionalProperties": False}
    return {"multipart/form-data": {"schema": schema}}


def first_problem(errors: Sequence[Any]) -> str:
    """The first of pydantic's errors as a sentence: where it is, and what is wrong."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{place}: {first['msg']}" if place else str(first["msg"])


BODY_REFUSALS = refusals(
    {
        400: "The body is broken",
        408: "The client paused for too long, or sends too slowly",
        413: "The body is too large",
        415: "The body is of another kind",
    }
)
"""How any request that brings a body may be refused."""


class Intake:
    """Middleware that bounds what any request may send: its bytes, its pauses, and so the time it may take.

    The HTTPExceptions 413 and 408 come up where the body is read.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on with its body under watch."""
        bounded = self._bounded(Headers(scope=scope), receive) if scope["type"] == "http" else receive
        await self.app(scope, bounded, send)

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        most = self.settings.max_upload + _OVERHEAD if _is_form(headers) else MAX_JSON
        announced = headers.get("content-length", "")
        received, began, over = 0, time.monotonic(), False

        async def bounded() -> Message:
            nonlocal received, over
            if over:  # whoever waits now waits for the client to leave
                return await receive()
            if announced.isdecimal() and int(announced) > most:
                raise _too_large(most)
            message = await self._soon(receive)
            received += len(message.get("body", b""))
            over = not message.get("more_body", False)
            if received > most:
                raise _too_large(most)
            if time.monotonic() - began > _PATIENCE + received / _SLOWEST:
                raise _broken_off(408, f"the upload is too slow; at least {_SLOWEST} bytes a second are needed")
            return message

        return bounded

    async def _soon(self, receive: Receive) -> Message:
        try:
            return await asyncio.wait_for(receive(), self.settings.upload_pause)
        except TimeoutError:
            raise _broken_off(408, f"nothing arrived for {self.settings.upload_pause:g} s; send it again") from None


async def read_form(request: Request) -> FormData:
    """The form of a request. Its files lie in unnamed temporary files, or in memory where the service is encrypted.

    Raises HTTPException 415 for another kind of body, 400 for a broken form.
    """
    if not _is_form(request.headers):
        raise HTTPException(415, "send a form: Content-Type multipart/form-data")
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD
    )
    settings: Settings = request.app.state.settings
    if settings.key_file is not None:
        parser.spool_max_size = settings.max_upload + _OVERHEAD
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form is broken: {error.message}") from error
    except (LookupError, ValueError, AssertionError) as error:  # python-multipart on headers that are no headers
        raise HTTPException(400, "the form is broken") from error


def _is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


def _too_large(most: int) -> HTTPException:
    return _broken_off(413, f"the upload is too large; at most {most / 1e6:.3g} MB are taken")


def _broken_off(status: int, sentence: str) -> HTTPException:
    return HTTPException(status, sentence, {"Connection": "close"})  # the rest of the body is not waited for


def keep(upload: UploadFile, storage: Storage) -> str:
    """Copy a received file under a random name into the folder of uploads, and return that name.

    The ending is kept, where it is a plain one, since some formats are known by it only.
    """
    suffix = PurePosixPath(display_name(upload.filename)).suffix.lower()
    name = secrets.token_hex(16) + (suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else "")
    storage.keep(upload.file, name)
    return name


def keep_text(text: str, storage: Storage) -> str:
    """Write a text under a random name into the folder of uploads, and return that name."""
    name = secrets.token_hex(16) + ".txt"
    storage.keep(BytesIO(text.encode("utf-8")), name)
    return name


def display_name(filename: str | None) -> str:
    """What a client called its file, without folders and control characters; for showing only."""
    last = re.split(r"[/\\]", filename or "")[-1]
    printable = "".join(c for c in last if c.isprintable()).strip()
    return printable[-_LONGEST_NAME:] or "recording"
