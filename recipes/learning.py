"""What recipes with a loss of their own share: batches for the loop, its settings, the learning rate's course."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from affuse.loop import LoopConfig
from affuse.training.progress import Curves, TrainingProgress
from affuse.training.schedules import learning_rate_factor

__all__ = ["TrainBatches", "loop_config", "one_cycle"]


class TrainBatches(LightningDataModule):
    """Batches to learn from, and none to validate on: recipes train for a fixed number of epochs."""

    def __init__(self, batches: Iterable[Any]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Iterable[Any]:
        """The batches; an iteration over them is one epoch."""
        return self.batches


def one_cycle(optimizer: Optimizer, module: LightningModule, warmup: float = 0.15) -> dict[str, Any]:
    """What ``configure_optimizers`` returns: the optimiser and a rate that rises, and falls, once in the whole run."""
    steps = max(1, int(module.trainer.estimated_stepping_batches))
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(min(1.0, step / steps), "one-cycle", warmup))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loop_config(config: Any, title: str, run: Path | None, **options: Any) -> LoopConfig:
    """Settings of the loop for a recipe: on the CPU, without clipping; ``options`` are further ones of `LoopConfig`.

    ``config`` has ``epochs``, ``seed`` and ``bfloat16``. Checkpoints and curves.csv go into the folder ``run``; None
    keeps neither.
    """
    callbacks: list[Any] = []
    if run is not None:
        callbacks = [TrainingProgress(title), Curves(run / "curves.csv")]
    settings: dict[str, Any] = {
        "max_epochs": config.epochs,
        "seed": config.seed,
        "precision": "bf16-mixed" if config.bfloat16 else "32-true",
        "accelerator": "cpu",
        "gradient_clip": None,
        "checkpoints": None if run is None else run / "checkpoints",
        "progress": False,
        "trainer": {"callbacks": callbacks},
    }
    return LoopConfig(**{**settings, **options})
