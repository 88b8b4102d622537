"""Put the weights of a run among the shipped ones: the file, and its line in ``assets/manifest.json``.

``python -m recipes.ship runs/face/face.onnx --name face --version 1 --licence "FER2013: research use" --commercial no
--data "FER2013 (research use)" --data "FER+ (MIT)"``

The model card beside it (``assets/NAME.md``) is written by a person, from the figures in the run's ``card.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import affuse
from affuse.files import replacing, write_json
from affuse.fusion.persistence import CARD
from affuse.weight_sets import COMMERCIAL
from affuse.weights import sha256_of
from recipes.command import errors_as_sentences
from recipes.shared import refer_to_shipped

__all__ = ["main", "ship"]

_ASSETS = Path(affuse.__file__).parent / "assets"


def ship(
    weights: Path,
    name: str,
    version: str,
    licence: str,
    assets: Path = _ASSETS,
    commercial: str = "",
    data: Sequence[str] = (),
    part: str = "",
    beside: Sequence[str] = (),
) -> None:
    """Copy ``weights`` into ``assets`` and enter size, SHA-256, version, licence and data in the manifest there.

    ``commercial``, ``data`` and ``beside`` are those of `affuse.weights.Shipped`. With a ``part``, the weights take it
    in the commercial set. A network refers to tensors that shipped ones share, where it holds the same
    (`recipes.shared`).

    Of the folder of a fuser all files are copied; the manifest pins its card, which pins the others.
    """
    target = _copied(weights, assets) / CARD if weights.is_dir() else _copied(weights, assets)
    beside = sorted({*beside, *refer_to_shipped(target, assets)})
    path = assets / "manifest.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    entries[name] = {
        "file": target.relative_to(assets).as_posix(),
        "sha256": sha256_of(target),
        "bytes": target.stat().st_size,
        "version": version,
        "licence": licence,
        "commercial": commercial,
        "data": list(data),
    }
    if part:
        entries[name] |= {"of_set": COMMERCIAL, "part": part}
    if beside:
        entries[name]["beside"] = list(beside)
    write_json(path, dict(sorted(entries.items())))


def _copied(source: Path, place: Path) -> Path:
    """Copy a file or a folder into ``place``, whole or not at all; returns where it is."""
    target = place / source.name
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for path in sorted(p for p in source.iterdir() if p.is_file()):
            _copied(path, target)
        return target
    with replacing(target) as (part,):
        shutil.copyfile(source, part)
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="file that a recipe made, or the folder of a fuser")
    parser.add_argument("--name", required=True, help="name of the weights, for example face")
    parser.add_argument("--version", required=True, help="version of the weights")
    parser.add_argument("--licence", required=True, help="licence of the data, in short")
    parser.add_argument("--commercial", required=True, choices=("yes", "no"), help="whether it allows commercial use")
    parser.add_argument(
        "--data", action="append", required=True, help="what it learned from, with the licence in brackets; repeatable"
    )
    parser.add_argument("--part", default="", help="what they are for in the commercial set, for example voice")
    parser.add_argument(
        "--beside", action="append", default=[], help="name of weights that hold some of their tensors; repeatable"
    )
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        ship(
            options.weights,
            options.name,
            options.version,
            options.licence,
            commercial=options.commercial,
            data=options.data,
            part=options.part,
            beside=options.beside,
        )


if __name__ == "__main__":
    main()
