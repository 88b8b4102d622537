"""Shipped networks in INT8 that were quantised before `affuse.training.networks.no_overflow`, made safe.

``python -m recipes.no_overflow runs/text_en/text_en.onnx --out runs/no_overflow``

What a network shares with others (`recipes.shared`) is inside of it afterwards. Networks that are exported now need
nothing of this.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from affuse.files import replacing
from affuse.training.networks.no_overflow import make_safe
from recipes.command import errors_as_sentences
from recipes.shared import read_whole

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="networks in INT8")
    parser.add_argument("--out", type=Path, required=True, help="folder for the networks, under their names")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        for path in options.weights:
            model = read_whole(path)
            count = make_safe(model)
            options.out.mkdir(parents=True, exist_ok=True)
            with replacing(options.out / path.name) as (part,):
                part.write_bytes(model.SerializeToString())
            print(f"{path.name}: {count} products changed")


if __name__ == "__main__":
    main()
