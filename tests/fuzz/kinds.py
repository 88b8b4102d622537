"""What is read beside recordings: tables, packages and fusers, configurations, and messages of live streams.

A seed is called by its kind, a slash and the name of a file; ``READERS`` reads a file of each kind.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affuse.errors import AffuseError

__all__ = ["READERS", "kind_of", "seeds_of_kinds"]

_LABELS = ("anger", "happiness", "sadness")
_WORDS = "I am so happy."


def kind_of(name: str) -> str:
    """The kind of a seed by its name; media where it names none."""
    return name.partition("/")[0] if "/" in name else "media"


def _all(path: Path, readers: Sequence[Callable[[Path], Any]]) -> None:
    """Read a file in several ways; raises the first error of affuse's where none of them reads it."""
    refused: list[AffuseError] = []
    for read in readers:
        try:
            read(path)
        except AffuseError as error:
            refused.append(error)
    if len(refused) == len(readers):
        raise refused[0]


# --- tables -----------------------------------------------------------------------------------------------------------


def _read_tables(path: Path) -> None:
    from affuse.batch.consent import read_consents
    from affuse.batch.sources import find_items
    from affuse.data.own.reading import read
    from affuse.data.predictions import join, read_predictions, read_targets
    from affuse.evaluation.manifest import read_manifest
    from affuse.packages.columns import FeatureTable
    from affuse.tables import read_table

    _all(
        path,
        [
            read_table,
            read_manifest,
            find_items,
            read_consents,
            lambda p: FeatureTable(read_table(p), p.name),
            lambda p: join([read_predictions(p, modality="voice")], read_targets(p)),
            lambda p: read(p, "text"),
        ],
    )


def _tables() -> dict[str, bytes]:
    rows = {"id": ["a", "b", "c"], **{label: [0.5, 0.25, 0.125] for label in _LABELS}, "label": ["anger", *_LABELS[:2]]}
    clips = {"path": ["a.wav", "b.mp4", "c.srt"], "text": [_WORDS, "Oh no.", "=1+1"], "label": list(_LABELS)}
    more = {"start": [0.0, 1.5, 2.0], "end": [1.0, 2.5, 3.0], "speaker": ["P1", "P2", "P2"], "split": ["train"] * 3}
    with tempfile.TemporaryDirectory() as folder:
        for name, columns in (("rows", rows), ("clips", clips | more)):
            for suffix in ("csv", "tsv", "parquet", "xlsx"):
                _write(pd.DataFrame(columns), Path(folder) / f"{name}.{suffix}")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _write(table: pd.DataFrame, path: Path) -> None:
    from affuse.tables import write_table

    write_table(table, path)


# --- packages and fusers ----------------------------------------------------------------------------------------------


@cache
def _folders() -> dict[str, Path]:
    """A package of a network, a fitted fuser and a gallery, each in a folder of its own."""
    from affuse.fusion import registry
    from affuse.fusion.named import NamedFuser
    from affuse.packages import write_package
    from affuse.people.gallery import Gallery
    from small_networks import description, loudness

    place = Path(tempfile.mkdtemp(prefix="affuse-fuzz-"))
    package = write_package(place / "package", description(), {"model.onnx": loudness(), "card.md": b"# mine\n"})
    rng = np.random.default_rng(0)
    P, y = rng.dirichlet(np.ones(3), size=(60, 2)), np.arange(60) % 3
    found = {"package": package}
    for method in ("product", "stacking"):
        NamedFuser(registry.make(method).fit(P, y), ("face", "voice"), _LABELS, method).write(place / method)
        found[method] = place / method
    Gallery(place / "gallery").enrol("Anna", faces=np.ones((2, 128)), voices=np.ones((1, 256)))
    return found | {"gallery": place / "gallery"}


def _packages() -> dict[str, bytes]:
    return {
        f"{name}-{path.name}": path.read_bytes() for name, folder in _folders().items() for path in folder.iterdir()
    }


def _read_packages(path: Path) -> None:
    """Put a file in its place in a whole folder, with checksums made anew, and use what the folder holds."""
    name, _, file = path.name.partition("-")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        shutil.copytree(_folders()[name], folder)
        shutil.copyfile(path, folder / file)
        {"package": _use_package, "gallery": _use_gallery}.get(name, _use_fuser)(folder)


def _signed(card: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Make the checksums of a card anew, where it still is JSON."""
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
        change(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    card.write_text(json.dumps(content), encoding="utf-8")


def _sums(content: dict[str, Any], folder: Path) -> None:
    for file in list(content["files"]):
        if (folder / file).is_file():
            content["files"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()


def _use_package(folder: Path) -> None:
    from affuse.media import Recording
    from affuse.packages import load_package
    from affuse.timeline import Timeline

    _signed(folder / "bundle.json", lambda content: _sums(content, folder))
    expert = load_package(folder)
    expert.predict(Recording.open(_sound()), Timeline.windows(1.0))


@cache
def _sound() -> Path:
    from fuzz.makers import wav

    path = Path(tempfile.mkdtemp(prefix="affuse-fuzz-")) / "tone.wav"
    path.write_bytes(wav(bytes(range(256)) * 64))
    return path


def _use_fuser(folder: Path) -> None:
    from affuse.fusion.named import NamedFuser
    from affuse.fusion.persistence import _card_checksum

    def sign(content: dict[str, Any]) -> None:
        _sums(content, folder)
        content["sha256"] = _card_checksum(content)

    _signed(folder / "fuser.json", sign)
    fuser = NamedFuser.read(folder)
    P = np.full((2, len(fuser.modalities), len(fuser.labels)), 1 / len(fuser.labels))
    P[1, 0] = np.nan
    np.testing.assert_allclose(fuser.fuser.predict_proba(P).sum(axis=1), 1.0, rtol=1e-6)


def _use_gallery(folder: Path) -> None:
    from affuse.people.gallery import Gallery

    for person in Gallery(folder).people().values():
        assert np.isfinite(person.faces).all()


# --- configurations ---------------------------------------------------------------------------------------------------

_CONFIGS = {
    "train.toml": 'name = "mine"\n[data]\nsource = "clips.csv"\nmodality = "voice"\n[network]\nname = "auto"\n'
    '[training]\nepochs = 3\nlearning_rate = 0.001\nseed = 1\n[device]\nprecision = "32-true"\n',
    "map.toml": 'angry = "anger"\n[voice]\nhappy = "happiness"\n',
    "prior.json": '{"format": 1, "labels": ["anger", "happiness", "sadness"], "frequencies": [0.2, 0.5, 0.3]}',
    "turns.rttm": "SPEAKER clip 1 0.000 1.500 <NA> <NA> Anna <NA> <NA>\nSPEAKER clip 1 1.5 2 <NA> <NA> Bob 0.5 <NA>\n",
    "labels.json": '[{"data": {"video": "clip.mp4"}, "annotations": [{"result": [{"type": "labels", "from_name": '
    '"emotion", "value": {"start": 0.0, "end": 1.5, "labels": ["anger"]}}]}]}]',
    "labels.eaf": '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds">'
    '<MEDIA_DESCRIPTOR MEDIA_URL="file:clip.mp4" MIME_TYPE="video/mp4"/></HEADER><TIME_ORDER><TIME_SLOT '
    'TIME_SLOT_ID="t1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="1500"/></TIME_ORDER><TIER '
    'TIER_ID="emotion" LINGUISTIC_TYPE_REF="d"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" '
    'TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2"><ANNOTATION_VALUE>anger</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'
    "</ANNOTATION></TIER></ANNOTATION_DOCUMENT>\n",
    "key.json": '{"format": "affuse/service-key/1", "salt": "00112233445566778899aabbccddeeff", "scrypt": '
    '{"n": 16, "r": 8, "p": 1}, "check": "AAAA"}',
}


def _read_configs(path: Path) -> None:
    from affuse.data.predictions import read_label_map
    from affuse.fusion.priors import Prior
    from affuse.people.given import read_rttm
    from affuse.training.config import read_config

    readers: dict[str, list[Callable[[Path], Any]]] = {
        ".toml": [read_config, read_label_map],
        ".rttm": [read_rttm],
        ".eaf": [_import],
        ".json": [Prior.find, _import, _open_service],
    }
    _all(path, readers.get(path.suffix, [Prior.find]))


def _import(path: Path) -> None:
    from affuse.data.corrections import import_corrections

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "clip.mp4").write_bytes(b"")
        import_corrections([path], Path(folder) / "manifest.csv", Path(folder))


def _open_service(path: Path) -> None:
    from affuse.service.storage import _sealer

    _sealer(path, "a key that fits nothing")


# --- messages of live streams -----------------------------------------------------------------------------------------


def _messages() -> dict[str, bytes]:
    from PIL import Image

    found = {
        "start.txt": b'{"type": "start", "language": "en", "step": 0.5, "window": 3.0}',
        "text.txt": b'{"type": "text", "text": "I am so happy.", "time": 0.5, "duration": 1.0}',
        "stop.txt": b'{"type": "stop"}',
        "sound.bin": b"\x02" + np.float64(0.0).tobytes() + (1000 * np.sin(np.arange(1600))).astype("<i2").tobytes(),
    }
    for kind in ("JPEG", "PNG", "WEBP"):
        picture = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)).save(picture, kind)
        found[f"picture-{kind.lower()}.bin"] = b"\x01" + np.float64(0.1).tobytes() + picture.getvalue()
    return found


@cache
def _experts() -> Any:
    from affuse.service.stream import LiveExperts

    return LiveExperts()


def _read_messages(path: Path) -> None:
    """Take a message in as a stream does that has begun, and answer."""
    from affuse.service import live

    stream = _experts().stream(3.0, "en")
    content = path.read_bytes()
    live._take_in(stream, b"\x02" + np.float64(0.0).tobytes() + bytes(320), 0.02)
    try:
        if path.suffix == ".bin":
            live._take_in(stream, content, 0.1)
        else:
            parsed = live._parsed(content.decode("utf-8", "replace"))  # a server decodes, and refuses what is no UTF-8
            if isinstance(parsed, live.Text):
                stream.add_words(parsed.text, parsed.time, parsed.duration, 0.5)
            if isinstance(parsed, live.Start):
                _experts().stream(parsed.window, parsed.language)
    except live._RefusalError as refused:
        raise AffuseError(str(refused)) from refused
    stream.look(stream.next_pictures())
    json.dumps(stream.answer(stream.moment()).verdict.to_dict(), allow_nan=False)


READERS: dict[str, Callable[[Path], Any]] = {
    "tables": _read_tables,
    "packages": _read_packages,
    "configs": _read_configs,
    "messages": _read_messages,
}


def seeds_of_kinds() -> dict[str, bytes]:
    """Whole files of every kind but media, by their names."""
    made = {
        "tables": _tables(),
        "packages": _packages(),
        "configs": {name: text.encode() for name, text in _CONFIGS.items()},
        "messages": _messages(),
    }
    return {f"{kind}/{name}": data for kind, files in made.items() for name, data in sorted(files.items())}
