"""Bundles: folders that hold a trained network and everything that is needed to ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affuse.errors import ConfigError
from affuse.experts import expert_names, make_expert
from affuse.packages.description import BundleDescription
from affuse.packages.folder import Bundle, is_bundle, read_bundle, write_bundle
from affuse.packages.system import System, is_system, read_system

__all__ = [
    "Bundle",
    "BundleDescription",
    "System",
    "is_bundle",
    "is_system",
    "load_bundle",
    "load_expert",
    "read_bundle",
    "read_system",
    "write_bundle",
]


def load_expert(name: str, **options: Any) -> Any:
    """Make the expert registered under ``name``, or that of the bundle in the folder ``name``, with ``options``.

    A registered name comes first. Raises ConfigError for an unknown one, and what `load_bundle` raises.
    """
    if name not in expert_names() and Path(name).is_dir():
        return load_bundle(name, **options)
    return make_expert(name, **options)


def load_bundle(path: str | Path, **options: Any) -> Any:
    """The expert of a bundle, its files checked, with ``options`` of its class.

    Raises AssetError where a file is missing, was changed or does not fit the others, ConfigError where this affuse
    has no expert for what the network reads.
    """
    from affuse.packages import experts, windows  # bring OpenCV

    bundle = read_bundle(path)
    bundle.session  # noqa: B018 (a network that does not fit is told now, not in the middle of a recording)
    reads = bundle.description.reads
    unread = [block for block in reads if block not in windows.READ]
    if unread:
        raise ConfigError(
            f"{path} reads {' and '.join(unread)}, which affuse does not find in recordings by itself; "
            f"it finds {', '.join(windows.READ)}"
        )
    kinds: dict[tuple[str, ...], Any] = {
        ("waveform",): experts.BundledVoice,
        ("images",): experts.BundledFace,
        ("tokens",): experts.BundledText,
    }
    single = bundle.description.kind == "expert"
    return (kinds.get(reads, windows.BundledWindows) if single else windows.BundledWindows)(bundle, **options)
