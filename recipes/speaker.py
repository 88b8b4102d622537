"""Recipe of the speaker encoder: the weights of the package Resemblyzer as an ONNX file, unchanged.

::

    pip install --no-deps Resemblyzer
    python -m recipes.speaker --out runs/speaker

writes ``speaker.onnx``, the licence and ``card.json`` with the SHA-256. The graph is that of
`affuse.people.speaker_weights`, which ``affuse people setup`` writes too; here it is also compared with torch before
anything is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from affuse.errors import AssetError
from affuse.files import replacing, write_json, write_text
from affuse.lazy import needs_extra
from affuse.people.speaker_weights import HIDDEN, LAYERS, State, build, checkpoint, licence
from affuse.people.voices import FRAMES, MELS
from affuse.weights import session, sha256_of
from recipes.command import errors_as_sentences

__all__ = ["FILE", "main", "make", "reference"]

FILE = "speaker.onnx"
_TOLERANCE = 1e-5


def reference(state: State, mels: np.ndarray) -> np.ndarray:
    """What torch makes of ``mels`` (n, 160, 40): (n, 256)."""
    with needs_extra("train"):
        import torch

    lstm = torch.nn.LSTM(MELS, HIDDEN, LAYERS, batch_first=True)
    lstm.load_state_dict(
        {name.removeprefix("lstm."): torch.tensor(v) for name, v in state.items() if name.startswith("lstm.")}
    )
    with torch.no_grad():
        _, (last, _) = lstm(torch.from_numpy(mels))
        weight, bias = torch.tensor(state["linear.weight"]), torch.tensor(state["linear.bias"])
        projected = torch.relu(torch.nn.functional.linear(last[-1], weight, bias))
        return np.asarray(torch.nn.functional.normalize(projected, dim=1).numpy())


def _difference(path: Path, state: State) -> float:
    """Largest difference between the file and torch on mel powers as loud as speech."""
    mels = np.random.default_rng(0).exponential(0.05, (4, FRAMES, MELS)).astype(np.float32)
    (found,) = session(path).run(["embedding"], {"mels": mels})
    return float(np.abs(found - reference(state, mels)).max())


def make(out: Path) -> Path:
    """Write the file, its licence and its card into the folder ``out``.

    Raises AssetError where the file does not give what torch gives.
    """
    state = checkpoint()
    path = out / FILE
    with replacing(path) as (part,):
        part.write_bytes(build(state).SerializeToString(deterministic=True))
        difference = _difference(part, state)
        if difference > _TOLERANCE:
            raise AssetError(f"the ONNX file differs from torch by {difference:.1e}; at most {_TOLERANCE:.0e} is right")
    write_text(out / "LICENSE", licence())
    facts = {
        "source": f"Resemblyzer {version('Resemblyzer')}",
        "licence": "Apache-2.0",
        "difference_to_torch": difference,
    }
    write_json(out / "card.json", {"file": FILE, "sha256": sha256_of(path), "bytes": path.stat().st_size, **facts})
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for speaker.onnx; AFFUSE_MODELS may name it")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        path = make(options.out)
        print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {sha256_of(path)}")


if __name__ == "__main__":
    main()
