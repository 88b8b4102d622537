"""Fitted fusers to disk and back, without pickle.

A folder holds a card of JSON with all that was learned, a file of its arrays (NumPy's, read without pickle) and,
only where a part of the fuser is scikit-learn's own (a classifier in a stack, a tree), that part in a file of skops,
whose types are checked before anything is built. Every file is known to the card by its SHA-256, the card by its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from affuse.errors import AssetError
from affuse.files import replacing
from affuse.fusion.schema import check_saved
from affuse.fusion.state import Decoder, Encoder, class_name
from affuse.fusion.trial import try_out

__all__ = ["ARRAYS", "CARD", "FILES", "MODEL", "holds_fuser", "load", "read_notes", "save", "untrusted_types"]

CARD = "fuser.json"
ARRAYS = "arrays.npz"
MODEL = "fuser.skops"
FILES = (CARD, ARRAYS, MODEL)
FORMAT = 2
_VERBS = ("predict_proba", "predict_set", "transform")
_FIRST_FORMAT = 1  # the whole fuser in a file of skops; read, no longer written

# Our own fusers, registered or not: what is found under such a name must be an estimator of affuse.
_OURS = re.compile(r"affuse\.fusion(\.[a-z_]+)+\.[A-Za-z]\w*")
# Classes of affuse that are parts of fusers, and estimators of scikit-learn's own kind.
_PARTS = (
    "affuse.fusion.early.correlated.CCAFusion",
    "affuse.fusion.early.joined.Concatenation",
    "affuse.fusion.early.joined.WeightedConcatenation",
    "affuse.fusion.early.projected.ProductFusion",
    "affuse.fusion.early.projected.SumFusion",
    "affuse.fusion.adaptive.AdaptiveFuser",
    "affuse.fusion.late.LateFusion",
    "affuse.fusion.transfer.ExtendedFuser",
    "affuse.fusion.transfer.Recalibrated",
    "affuse.fusion.trust.calibration.IsotonicScaling",
    "affuse.fusion.trust.calibration.TemperatureScaling",
    "affuse.fusion.trust.calibration.VectorScaling",
    "affuse.fusion.trust.conformal.ConformalSets",
)
# Parts of scikit-learn that are plain Python and numbers. Trees, neighbours and the like hold memory that compiled
# code walks through unchecked, so their types are trusted only by name.
_TRUSTED = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)


def save(fuser: Any, folder: str | Path, notes: Mapping[str, Any] | None = None) -> None:
    """Write a fitted fuser to a folder, without pickle; files of another fuser there are replaced.

    Parameters
    ----------
    fuser : Fuser
        Fitted, or a scikit-learn pipeline around one.
    folder : str or Path
        Made where it is missing.
    notes : mapping, optional
        Values that JSON can hold (names of modalities, labels, figures), kept beside the fuser.

    Raises
    ------
    OutputError
        If the folder cannot be written.

    Examples
    --------
    >>> from affuse.fusion import MeanRule
    >>> P = np.array([[[0.9, 0.1]], [[0.2, 0.8]]])
    >>> save(MeanRule().fit(P, [0, 1]), "my_fuser", {"modalities": ["face"]})
    >>> load("my_fuser").predict(P), read_notes("my_fuser")
    (array([0, 1]), {'modalities': ['face']})
    """
    import affuse
    from affuse.fusion.estimator import Parameters

    encoder = Encoder(lambda value: isinstance(value, Parameters) or class_name(type(value)) in _PARTS)
    state = encoder.encode(fuser)
    files: dict[str, bytes] = {}
    if encoder.arrays:
        files[ARRAYS] = _packed(encoder.arrays)
    if encoder.foreign:
        files[MODEL] = _skops().dumps(encoder.foreign)
    card = {
        "format": FORMAT,
        "fuser": class_name(type(fuser)),
        "affuse": affuse.__version__,
        "scikit-learn": version("scikit-learn"),
        "files": {name: _sha256(content) for name, content in files.items()},
        "notes": dict(notes or {}),
        "state": state,
    }
    card["sha256"] = _card_checksum(card)
    files[CARD] = (json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode()
    folder = Path(folder)
    with replacing(*(folder / name for name in files)) as parts:
        for part, content in zip(parts, files.values(), strict=True):
            part.write_bytes(content)
    for name in {ARRAYS, MODEL} - set(files):
        (folder / name).unlink(missing_ok=True)


def load(folder: str | Path, trusted: Collection[str] = ()) -> Any:
    """Read a fuser that `save` wrote.

    Parameters
    ----------
    folder : str or Path
    trusted : collection of str
        Types that may be built although affuse does not know them, as "module.Class".

    Returns
    -------
    Fuser

    Raises
    ------
    AssetError
        If a file is missing, was changed, does not hold a fuser, or holds a type that is not trusted; if an attribute
        is of another type, shape or range than its class declares (`Fuser.learned`), or the fuser gives no distribution
        for every set of its modalities.

    Examples
    --------
    >>> from affuse.fusion import MeanRule
    >>> P = np.array([[[0.9, 0.1]], [[0.2, 0.8]]])
    >>> save(MeanRule().fit(P, ["happy", "sad"]), "my_fuser")
    >>> load("my_fuser").predict(P)
    array(['happy', 'sad'], dtype='<U5')
    """
    card, files = _read(folder)
    unknown = sorted(_foreign_types(folder, card, files) - set(trusted))
    if unknown:
        place = MODEL if MODEL in files else CARD
        raise AssetError(
            f"{Path(folder) / place} holds types that affuse does not trust by itself: {', '.join(unknown)}; if you "
            f"know where the file comes from, name them: load(folder, trusted={unknown})"
        )
    try:
        fuser: Any = _built(card, files, trusted)
        _check_built(fuser, card["fuser"])
        try_out(fuser)
    except Exception as error:  # whatever an estimator of another version trips over
        raise AssetError(
            f"{folder} holds a {card['fuser']} of affuse {card['affuse']} and scikit-learn {card['scikit-learn']} "
            f"that cannot be read here: {_reason(error)}"
        ) from error
    return fuser


def holds_fuser(folder: str | Path) -> bool:
    """Whether a folder has the card of a fuser, of whatever format."""
    return (Path(folder) / CARD).is_file()


def read_notes(folder: str | Path) -> dict[str, Any]:
    """The notes that were saved with a fuser. Raises AssetError as `load`."""
    return dict(_read(folder)[0]["notes"])


def untrusted_types(folder: str | Path) -> list[str]:
    """Types in a saved fuser that `load` refuses unless they are named. Raises AssetError as `load`."""
    return sorted(_foreign_types(folder, *_read(folder)))


# --- reading -------------------------------------------------------------------------------------------------------


def _read(folder: str | Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Card and files, found to belong together."""
    folder = Path(folder)
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        _check_card(card)
    except OSError as error:
        raise _missing(folder, error) from error
    except (ValueError, RecursionError) as error:
        raise AssetError(f"{folder / CARD} is not a card of affuse: {_reason(error)}") from error
    named = {MODEL: card["sha256"]} if card["format"] == _FIRST_FORMAT else card["files"]
    files = {}
    for name, checksum in named.items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise _missing(folder, error) from error
        found = _sha256(files[name])
        if found != checksum:
            raise AssetError(f"{folder / name} was changed or is incomplete: its SHA-256 is {found}, not {checksum}")
    return card, files


def _check_card(card: Any) -> None:
    """Raise ValueError where a card lacks a field, or holds it as another type."""
    known = f"not a card of format {FORMAT}, the one this affuse reads"
    if not isinstance(card, dict) or card.get("format") not in (FORMAT, _FIRST_FORMAT):
        raise ValueError(known)
    fields: dict[str, type] = {"fuser": str, "affuse": str, "scikit-learn": str, "sha256": str, "notes": dict}
    if card["format"] == FORMAT:
        fields |= {"files": dict, "state": dict}
    for name, kind in fields.items():
        if not isinstance(card.get(name), kind):
            raise ValueError(f"its field {name!r} is missing or no {kind.__name__}")
    if card["format"] == FORMAT:
        if not set(card["files"]) <= {ARRAYS, MODEL}:
            raise ValueError(f"it names the files {', '.join(card['files'])}; known are {ARRAYS} and {MODEL}")
        if card["sha256"] != _card_checksum(card):
            raise ValueError("it was changed: its SHA-256 is not the one that it states")


def _missing(folder: Path, error: OSError) -> AssetError:
    return AssetError(f"{folder} holds no fuser: {error.strerror or error} ({Path(error.filename or '').name})")


def _built(card: dict[str, Any], files: dict[str, bytes], trusted: Collection[str]) -> Any:
    foreign: Any = {}
    if MODEL in files:
        foreign = _skops().loads(files[MODEL], trusted=_skops().get_untrusted_types(data=files[MODEL]))
    if card["format"] == _FIRST_FORMAT:
        return foreign
    arrays = _unpacked(files[ARRAYS]) if ARRAYS in files else {}

    return Decoder(arrays, foreign, lambda name: _class_named(name, trusted)).decode(card["state"])


def _check_built(fuser: Any, name: str) -> None:
    """Raise ValueError for what is not the estimator that the card names, or holds what its class does not declare."""
    if class_name(type(fuser)) != name:
        raise ValueError(f"it holds a {class_name(type(fuser))}")
    if not any(callable(getattr(type(fuser), verb, None)) for verb in _VERBS):
        raise ValueError("it answers nothing")
    check_saved(fuser)


def _foreign_types(folder: str | Path, card: dict[str, Any], files: dict[str, bytes]) -> set[str]:
    """Types in a saved fuser that are neither of Python, NumPy, scikit-learn nor affuse."""
    named = set() if card["format"] == _FIRST_FORMAT else _named_classes(card["state"])
    foreign = {name for name in named if not _may_be_built(name)}
    if MODEL not in files:
        return foreign
    try:
        inside = set(_skops().get_untrusted_types(data=files[MODEL]))
    except Exception as error:  # skops names neither its own errors nor those of the zip inside
        raise AssetError(f"{Path(folder) / MODEL} is not a file of skops: {_reason(error)}") from error
    return foreign | (inside - set(_TRUSTED) - set(_PARTS) - _registered())


def _named_classes(state: Any) -> set[str]:
    """Classes that a state wants to be built."""
    if isinstance(state, dict):
        parts: list[Any] = list(state.values())
    elif isinstance(state, list):
        parts = state
    else:
        return set()
    found = set().union(*(_named_classes(part) for part in parts))
    content = state.get("object") if isinstance(state, dict) else None
    return found | {str(content[0])} if isinstance(content, list) and content else found


def _may_be_built(name: str) -> bool:
    """Whether a class, as "module.Class", may be built without being named by the user."""
    return name in _PARTS or _OURS.fullmatch(name) is not None or name in _registered()


def _registered() -> set[str]:
    from affuse.fusion import registry

    third_party = {f"{point.module}.{point.attr}" for point in registry.third_party().values()}
    return {place.replace(":", ".") for place in registry.BUILT_IN.values()} | third_party


def _class_named(name: str, trusted: Collection[str]) -> type:
    from affuse.fusion.estimator import Parameters

    if not (name in trusted or _may_be_built(name)):
        raise ValueError(f"{name} is not one of the types that may be built")
    module, _, attribute = name.rpartition(".")
    found = getattr(import_module(module), attribute)
    foreign = name not in trusted and name not in _PARTS
    if not isinstance(found, type) or (foreign and not issubclass(found, Parameters) and _OURS.fullmatch(name)):
        raise TypeError(f"{name} is no class of a fuser")
    return found


# --- files ---------------------------------------------------------------------------------------------------------


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    parts: dict[str, Any] = dict(arrays)
    np.savez(buffer, **parts)  # none holds Python objects, so nothing is pickled
    return buffer.getvalue()


def _unpacked(content: bytes) -> dict[str, np.ndarray]:
    """Arrays by name. Raises ValueError for what is packed tighter than we pack: it may be of any size unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
            raise ValueError(f"{ARRAYS} is compressed")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _card_checksum(card: Mapping[str, Any]) -> str:
    """SHA-256 of a card without the field that states it, whatever the layout of its file."""
    content = {name: value for name, value in card.items() if name != "sha256"}
    return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _skops() -> Any:
    return import_module("skops.io")  # takes seconds: it looks up every estimator of scikit-learn
