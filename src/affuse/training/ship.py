"""Put the weights of a run among the shipped ones: the file, and its line in ``assets/manifest.json``.

``python -m affuse.training.ship runs/face/face.onnx --name face --version 1 --licence "FER2013: research use"``

The model card beside it (``assets/NAME.md``) is written by a person, from the figures in the run's ``card.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

from affuse.experts.weights import sha256_of

__all__ = ["ship"]

_ASSETS = Path(__file__).resolve().parent.parent / "assets"


def ship(weights: Path, name: str, version: str, licence: str, assets: Path = _ASSETS) -> None:
    """Copy ``weights`` into ``assets`` and enter size, SHA-256, version and licence in the manifest there."""
    target = assets / weights.name
    temporary = target.with_suffix(".part")
    shutil.copyfile(weights, temporary)
    os.replace(temporary, target)
    path = assets / "manifest.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    entries[name] = {
        "file": target.name,
        "sha256": sha256_of(target),
        "bytes": target.stat().st_size,
        "version": version,
        "licence": licence,
    }
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="file that a recipe made")
    parser.add_argument("--name", required=True, help="name of the weights, for example face")
    parser.add_argument("--version", required=True)
    parser.add_argument("--licence", required=True, help="licence of the data, in short")
    options = parser.parse_args()
    ship(options.weights, options.name, options.version, options.licence)


if __name__ == "__main__":
    _main()
