"""Changes of bytes, as Hypothesis draws and shrinks them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hypothesis import strategies as st

from fuzz.kinds import kind_of

__all__ = ["Input", "inputs"]

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TEXTS = (
    *(b"9" * 400, b"9" * 5000, b"1e308", b"-1", b"NaN", b"Infinity", b"1e999", b"\xff\xfe", b"\x00", b"\xef\xbb\xbf"),
    *(b"\n\n", b"\r", b" --> ", b":", b"<v ", b"<", b"{\\", b"[", b"]", b"(", b"...", b'"', b"{", b"}", b"null"),
    *(b"99:59:59,999", b"999999999:00:00,000", "客服：".encode(), b"Speaker 1: ", b"\\ud800", b"NOTE", b"-->"),
)

Change = Callable[[bytes], bytes]


class Input(NamedTuple):
    """A mutated file."""

    name: str
    data: bytes


def _place(share: float, data: bytes) -> int:
    return int(share * len(data))


def _bits(share: float, mask: int) -> Change:
    def change(data: bytes) -> bytes:
        at = min(_place(share, data), len(data) - 1)
        return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :] if data else data

    return change


def _number(share: float, value: int, code: str) -> Change:
    def change(data: bytes) -> bytes:
        at = _place(share, data)
        packed = struct.pack(code, value & (1 << 8 * struct.calcsize(code)) - 1)
        return data[:at] + packed + data[at + len(packed) :]

    return change


def _cut(share: float) -> Change:
    return lambda data: data[: _place(share, data)]


def _without(share: float, length: int) -> Change:
    return lambda data: data[: _place(share, data)] + data[_place(share, data) + length :]


def _with(share: float, piece: bytes, times: int) -> Change:
    return lambda data: data[: _place(share, data)] + piece * times + data[_place(share, data) :]


def _twice(share: float, length: int, times: int) -> Change:
    def change(data: bytes) -> bytes:
        at = _place(share, data)
        return data[:at] + data[at : at + length] * times + data[at + length :]

    return change


def _changes(binary: bool) -> st.SearchStrategy[Change]:
    share = st.floats(0.0, 1.0)
    head = share.map(lambda value: value**4)  # headers are where numbers stand
    length = st.sampled_from((1, 2, 4, 8, 16, 100, 1000))
    text = st.builds(_with, share, st.sampled_from(_TEXTS), st.sampled_from((1, 1, 1, 2, 50, 20_000)))
    both = (
        st.builds(_bits, head, st.integers(1, 255)),
        st.builds(_cut, share),
        st.builds(_without, share, length),
        st.builds(_twice, share, length, st.sampled_from((2, 3, 300))),
    )
    if not binary:
        return st.one_of(text, text, *both)
    numbers = st.builds(_number, head, st.sampled_from(_NUMBERS), st.sampled_from((">I", "<I", ">H", "<H", "B")))
    return st.one_of(numbers, numbers, *both, text)


_TEXT_SUFFIXES = (".srt", ".vtt", ".txt", ".json", ".csv", ".tsv", ".toml", ".rttm", ".eaf")


@st.composite
def inputs(draw: st.DrawFn, seeds: Mapping[str, bytes]) -> Input:
    """A seed, or the beginning of one with the end of another, with up to six changes; sometimes under another name."""
    kind = draw(st.sampled_from(sorted({kind_of(name) for name in seeds})))
    names = st.sampled_from(sorted(name for name in seeds if kind_of(name) == kind))
    name = draw(names)
    data = seeds[name]
    if draw(st.integers(0, 9)) == 9:
        other = seeds[draw(names)]
        share = draw(st.floats(0.0, 1.0))
        data = data[: _place(share, data)] + other[_place(share, other) :]
    binary = not name.endswith(_TEXT_SUFFIXES)
    for change in draw(st.lists(_changes(binary), max_size=6)):
        data = change(data)[:2_000_000]
    if draw(st.integers(0, 19)) == 19:
        name = draw(names)
    return Input(name, data)
