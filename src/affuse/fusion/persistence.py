"""Fitted fusers to disk and back, without pickle.

A folder holds a file of skops, whose types are checked before anything is built, and a card of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.errors import AssetError, OutputError

if TYPE_CHECKING:
    from affuse.fusion.estimator import Fuser

__all__ = ["load", "read_notes", "save", "untrusted_types"]

MODEL = "fuser.skops"
CARD = "fuser.json"
FORMAT = 1

# Parts of fitted estimators that are plain Python and numbers. Trees, neighbours and the like hold memory that
# compiled code walks through unchecked, so their types are trusted only by name.
TRUSTED = frozenset(
    {
        "affuse.fusion.early.correlated.CCAFusion",
        "affuse.fusion.early.joined.Concatenation",
        "affuse.fusion.early.joined.WeightedConcatenation",
        "affuse.fusion.early.projected.ProductFusion",
        "affuse.fusion.early.projected.SumFusion",
        "affuse.fusion.trust.calibration.IsotonicScaling",
        "affuse.fusion.trust.calibration.TemperatureScaling",
        "affuse.fusion.trust.calibration.VectorScaling",
        "affuse.fusion.trust.conformal.ConformalSets",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)


def save(fuser: Any, folder: str | Path, notes: Mapping[str, Any] | None = None) -> None:
    """Write a fitted fuser to ``folder``, which is made where it is missing; what `load` reads is replaced as a whole.

    ``notes`` (whatever JSON can hold: names of modalities, files, figures) are kept beside it, see `read_notes`. Raises
    OutputError where the folder cannot be written.
    """
    import sklearn

    import affuse

    model = _skops().dumps(fuser)
    card = {
        "format": FORMAT,
        "fuser": f"{type(fuser).__module__}.{type(fuser).__qualname__}",
        "affuse": affuse.__version__,
        "scikit-learn": sklearn.__version__,
        "sha256": hashlib.sha256(model).hexdigest(),
        "notes": dict(notes or {}),
    }
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / MODEL, model)
        _replace(folder / CARD, (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def load(folder: str | Path, trusted: Collection[str] = ()) -> Fuser:
    """Read what `save` wrote.

    Types that affuse does not know are refused unless ``trusted`` names them, as "module.Class". Raises AssetError
    where a file is missing, was changed, or holds such a type.
    """
    card, model = _read(folder)
    unknown = sorted(set(_untrusted(model)) - set(trusted))
    if unknown:
        raise AssetError(
            f"{Path(folder) / MODEL} holds types that affuse does not trust by itself: {', '.join(unknown)}; if you "
            f"know where the file comes from, name them: load(folder, trusted={unknown})"
        )
    try:
        return _skops().loads(model, trusted=_skops().get_untrusted_types(data=model))
    except Exception as error:  # whatever an estimator of another version trips over
        raise AssetError(
            f"{folder} holds a {card['fuser']} of affuse {card['affuse']} and scikit-learn {card['scikit-learn']} "
            f"that cannot be read here: {error}"
        ) from error


def read_notes(folder: str | Path) -> dict[str, Any]:
    """The notes that were saved with a fuser. Raises AssetError as `load`."""
    return dict(_read(folder)[0]["notes"])


def untrusted_types(folder: str | Path) -> list[str]:
    """Types in a saved fuser that `load` refuses unless they are named. Raises AssetError as `load`."""
    return sorted(_untrusted(_read(folder)[1]))


def _read(folder: str | Path) -> tuple[dict[str, Any], bytes]:
    """Card and model, found to belong together."""
    folder = Path(folder)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        model = (folder / MODEL).read_bytes()
    except OSError as error:
        raise AssetError(
            f"{folder} holds no fuser: {error.strerror or error} ({Path(error.filename or '').name})"
        ) from error
    except ValueError as error:
        raise AssetError(f"{folder / CARD} is not a card of affuse: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise AssetError(f"{folder / CARD} is not a card of format {FORMAT}, the one this affuse reads")
    found = hashlib.sha256(model).hexdigest()
    if found != card.get("sha256"):
        raise AssetError(
            f"{folder / MODEL} was changed or is incomplete: its SHA-256 is {found}, not {card.get('sha256')}"
        )
    return card, model


def _untrusted(model: bytes) -> set[str]:
    from affuse.fusion import registry

    try:
        types = set(_skops().get_untrusted_types(data=model))
    except Exception as error:  # skops names neither its own errors nor those of the zip inside
        raise AssetError(f"not a file of skops: {error}") from error
    ours = {place.replace(":", ".") for place in registry.BUILT_IN.values()}
    theirs = {point.value.replace(":", ".") for point in registry.third_party().values()}
    return types - TRUSTED - ours - theirs


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _skops() -> Any:
    return import_module("skops.io")  # takes seconds: it looks up every estimator of scikit-learn
