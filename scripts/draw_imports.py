"""Draw which room of affuse imports which, as measured from the code: ``python scripts/draw_imports.py``.

::

    python scripts/draw_imports.py --out docs/imports.svg    # the picture of docs/architecture.md
    python scripts/draw_imports.py --lines                   # lines of code by room instead

The ground is at the bottom, and every arrow points down, from the room that imports to the one that is imported. A
light arrow is an import between rooms that dark arrows over other rooms connect as well. The same imports give the same
picture, byte for byte.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # so that the command runs from anywhere

from affuse.files import write_text  # noqa: E402
from scripts.imports import ROOMS, lines_by_room, room_imports  # noqa: E402

__all__ = ["draw", "heights", "layout", "main", "neighbours"]

Arrow = tuple[str, str]
"""The room that imports, and the one that is imported."""

Stop = str | tuple[str, int]
"""A room, or a gap of the row at a height, through which the arrow of a name runs."""

_WIDTH, _ROW, _MARGIN = 1000, 92, 24
_GAP = 0.4  # width of a gap, as a share of that of a box
_BOX = (112, 34)
_DARK, _LIGHT, _BOX_LINE = "#1f2933", "#c3cad1", "#52606d"


def heights(arrows: Iterable[Arrow], rooms: Sequence[str] = ROOMS) -> dict[str, int]:
    """Height of every room, 0 on the ground: as close as it can below the lowest room that imports it.

    ``rooms`` are in an order in which each imports only earlier ones.
    """
    arrows = list(arrows)
    depth: dict[str, int] = {}
    for room in reversed(rooms):
        depth[room] = max((depth[above] + 1 for above, below in arrows if below == room), default=0)
    ground = max(depth.values())
    return {room: ground - depth[room] for room in rooms}


def layout(arrows: Iterable[Arrow], rooms: Sequence[str] = ROOMS) -> tuple[list[list[Stop]], list[list[Stop]]]:
    """Rows of stops from the ground up, and the stops that every arrow, sorted, runs over.

    A stop is a room, or the gap (arrow, height) through which an arrow passes a row. In a row stops stand where those
    that they are connected to are, found by going up and down several times (Sugiyama et al. 1981,
    doi:10.1109/TSMC.1981.4308636).
    """
    height = heights(arrows, rooms)
    ways: list[list[Stop]] = [
        [above, *((f"{above} {below}", h) for h in range(height[above] - 1, height[below], -1)), below]
        for above, below in sorted(arrows)
    ]
    rows: list[list[Stop]] = [[] for _ in range(max(height.values()) + 1)]
    for stop in dict.fromkeys([*rooms, *(stop for way in ways for stop in way)]):
        rows[height[stop] if isinstance(stop, str) else stop[1]].append(stop)
    for _ in range(12):
        for row in [*rows, *reversed(rows)]:
            place = {stop: x for own in rows for stop, x in zip(own, _places(own), strict=True)}
            row.sort(key=lambda stop: (round(_centre(stop, ways, place), 6), str(stop)))
    return rows, ways


def _centre(stop: Stop, ways: Sequence[Sequence[Stop]], place: Mapping[Stop, float]) -> float:
    pairs = [pair for way in ways for pair in pairwise(way) if stop in pair]
    near = [place[b if a == stop else a] for a, b in pairs]
    return sum(near) / len(near) if near else place[stop]


def _places(row: Sequence[Stop]) -> list[float]:
    """Middles of the stops of a row, side by side; a gap is narrower than a box."""
    widths = [1.0 if isinstance(stop, str) else _GAP for stop in row]
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    return [_WIDTH * (end - width / 2) / ends[-1] for end, width in zip(ends, widths, strict=True)]


def neighbours(arrows: Iterable[Arrow]) -> set[Arrow]:
    """Arrows that no way over other rooms stands for (the transitive reduction)."""
    below: dict[str, set[str]] = {}
    for a, b in arrows:
        below.setdefault(a, set()).add(b)

    def reached(room: str) -> set[str]:
        return set().union(*({b} | reached(b) for b in below.get(room, ())))

    return {(a, b) for a, own in below.items() for b in own if not any(b in reached(c) for c in own if c != b)}


def draw(arrows: Iterable[Arrow]) -> str:
    """The picture as SVG."""
    arrows = sorted(arrows)
    near = sorted(neighbours(arrows))
    rows, ways = layout(near)
    places = {
        stop: (x, _MARGIN + _BOX[1] / 2 + (len(rows) - 1 - height) * _ROW)
        for height, row in enumerate(rows)
        for stop, x in zip(row, _places(row), strict=True)
    }
    height = 2 * _MARGIN + _BOX[1] + (len(rows) - 1) * _ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        "<title>Imports between the rooms of affuse</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _head("far", _LIGHT),
        _head("near", _DARK),
    ]
    lines += [_arrow(arrow, [places[room] for room in arrow], False) for arrow in arrows if arrow not in near]
    lines += [_arrow(arrow, [places[stop] for stop in way], True) for arrow, way in zip(near, ways, strict=True)]
    lines += [_box(room, *places[room]) for room in ROOMS]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _head(name: str, colour: str) -> str:
    size = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    return f'<marker id="{name}" {size}><path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'


def _arrow(arrow: Arrow, stops: Sequence[tuple[float, float]], near: bool) -> str:
    """A curve over all ``stops``, which leaves and reaches each of them upright."""
    half = _BOX[1] / 2
    points = [(stops[0][0], stops[0][1] + half), *stops[1:-1], (stops[-1][0], stops[-1][1] - half)]
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(points):
        middle = (y + to_y) / 2
        path += f" C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
    colour, width, head = (_DARK, "1.6", "near") if near else (_LIGHT, "1", "far")
    names = f'data-from="{arrow[0]}" data-to="{arrow[1]}"'
    style = f'fill="none" stroke="{colour}" stroke-width="{width}" marker-end="url(#{head})"'
    return f'<path {names} d="{path}" {style}><title>{arrow[0]} imports {arrow[1]}</title></path>'


def _box(room: str, x: float, y: float) -> str:
    width, height = _BOX
    corner = f'x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width}" height="{height}" rx="5"'
    text = f'<text x="{x:.1f}" y="{y + 5:.1f}" font-size="15" text-anchor="middle" fill="{_DARK}">{room}</text>'
    return f'<rect {corner} fill="#f5f7fa" stroke="{_BOX_LINE}"/>{text}'


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture, or print the lines of code by room."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "imports.svg", help="picture to write (SVG)")
    parser.add_argument("--lines", action="store_true", help="print lines of code by room instead")
    options = parser.parse_args(arguments)
    if options.lines:
        _print_lines()
    else:
        write_text(options.out, draw(room_imports()))


def _print_lines() -> None:
    counts = lines_by_room()
    total = sum(counts.values())
    for room, count in counts.items():
        print(f"{room:<12}{count:>7,}{100 * count / total:>7.1f} %")
    print(f"{'all':<12}{total:>7,}")


if __name__ == "__main__":
    main()
