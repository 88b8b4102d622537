"""Training on data of one's own (extra ``train``): what ``affuse train`` runs.

A configuration says what is learned from and how, `train` makes a run folder with a package in it, `resume` goes on
with an interrupted run, and `suggest` names what to label next. Nothing here imports torch until it is used; where it
is missing, MissingExtraError names the pip command.
"""

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.training.config import (
        DataConfig,
        DeviceConfig,
        NetworkConfig,
        TrainConfig,
        TrainingConfig,
        read_config,
        write_config,
    )
    from affuse.training.low_resource.active import Suggestion, suggest, write_suggestions
    from affuse.training.run import Run, resume, train

__all__ = [
    "DataConfig",
    "DeviceConfig",
    "NetworkConfig",
    "Run",
    "Suggestion",
    "TrainConfig",
    "TrainingConfig",
    "read_config",
    "resume",
    "suggest",
    "train",
    "write_config",
    "write_suggestions",
]

_HOMES = {
    "config": [
        "DataConfig",
        "DeviceConfig",
        "NetworkConfig",
        "TrainConfig",
        "TrainingConfig",
        "read_config",
        "write_config",
    ],
    "low_resource.active": ["Suggestion", "suggest", "write_suggestions"],
    "run": ["Run", "resume", "train"],
}

__getattr__, __dir__ = lazy_names(
    __name__, {name: f".{home}" for home, names in _HOMES.items() for name in names}, extra="train"
)
