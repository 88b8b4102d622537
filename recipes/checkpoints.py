"""Checkpoints that survive a kill at any moment: safetensors, written beside the old one and renamed over it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

__all__ = ["load_checkpoint", "restore_optimizer", "save_checkpoint"]


def save_checkpoint(path: Path, parts: dict[str, dict[str, Any]], progress: dict[str, Any]) -> None:
    """Write the state dicts in ``parts`` and the JSON-able ``progress`` to ``path`` in one step."""
    tensors: dict[str, torch.Tensor] = {}
    for name, state in parts.items():
        for key, value in _flatten(state).items():
            tensors[f"{name}/{key}"] = value.detach().clone().contiguous()
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, metadata={"progress": json.dumps(progress)})
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Read what `save_checkpoint` wrote: flat tensors by part, and the progress."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        progress = json.loads(file.metadata()["progress"])
        for key in file.keys():  # noqa: SIM118 - a safetensors file is no dict
            name, _, rest = key.partition("/")
            parts.setdefault(name, {})[rest] = file.get_tensor(key)
    return parts, progress


def restore_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, torch.Tensor]) -> None:
    """Put the moments of an Adam-like optimiser back in place; learning rates come from the schedule."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        _, index, field = key.split("/")
        parameter = parameters[int(index)]
        # Fused steps walk through memory: a moment has to lie there in the order of its parameter (channels last).
        same = value.shape == parameter.shape
        state.setdefault(int(index), {})[field] = torch.empty_like(parameter).copy_(value) if same else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _flatten(state: dict[Any, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    flat: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            flat[f"{prefix}{key}"] = value
        elif isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}/")
    return flat
