"""Fields of protobuf's wire format, to change an ONNX network before it is loaded.

The packages that read ONNX, and protobuf alone, would take longer to load than a whole network.
The format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

__all__ = ["changed", "fields", "message"]

_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def changed(content: bytes | memoryview, path: Sequence[int], change: Callable[[bytes], bytes | None]) -> bytes:
    """A message with the fields at the end of a path changed, and all others as they are.

    ``change`` gives None for a field that is left out. Raises ValueError where it is no message.
    """
    pieces: list[bytes | memoryview] = []
    for number, value, whole in _fields(memoryview(content)):
        if number == path[0] and isinstance(value, memoryview):
            inner = changed(value, path[1:], change) if path[1:] else change(bytes(value))
            if inner is not None:
                pieces.append(message((number, inner)))
        else:
            pieces.append(whole)
    return b"".join(pieces)


def fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a message; fixed ones are passed over.

    Raises ValueError where it is no message.
    """
    for number, value, _ in _fields(memoryview(content)):
        if value is not None:
            yield number, bytes(value) if isinstance(value, memoryview) else value


def message(*parts: tuple[int, int | float | str | bytes]) -> bytes:
    """A message of fields, each a number and its value; a float is one of 32 bits."""
    return b"".join(_field(number, value) for number, value in parts)


def _field(number: int, value: int | float | str | bytes) -> bytes:
    if isinstance(value, int):
        return _as_varint(number << 3 | _NUMBER) + _as_varint(value % (1 << 64))  # negative ones by two's complement
    if isinstance(value, float):
        return _as_varint(number << 3 | _FOUR_BYTES) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview | None, memoryview]]:
    """Number, value and bytes of every field; the value is None for those of fixed size."""
    place = 0
    while place < len(content):
        start, (key, place) = place, _varint(content, place)
        kind, value = key & 7, None  # type: tuple[int, int | memoryview | None]
        if kind == _BYTES:
            length, place = _varint(content, place)
            value, place = content[place : place + length], place + length
        elif kind == _NUMBER:
            value, place = _varint(content, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            place += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError("it is no ONNX file")
        yield key >> 3, value, content[start:place]


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """A number, and where the next field starts."""
    number = 0
    for i, byte in enumerate(content[place : place + 10]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number, place + i + 1
    raise ValueError("it is no ONNX file")


def _as_varint(number: int) -> bytes:
    rest = []
    while number >= 0x80:
        rest.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*rest, number])
