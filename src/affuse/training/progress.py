"""What a run shows while it trains: a bar on a terminal, a line an epoch, and curves."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from affuse.progress import Progress, progress_bar
from affuse.tables import write_table

__all__ = ["Curves", "TrainingProgress", "duration"]


class Curves(Callback):
    """Metrics of every epoch in a CSV file, written anew after each; checkpoints carry the rows of a resumed run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a row and write all."""
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        self.rows.append({"epoch": trainer.current_epoch + 1, "learning_rate": rate, **figures})
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Write all rows."""
        if not self.rows:
            return
        import pandas as pd

        write_table(pd.DataFrame(self.rows), self.path)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.rows = list(state_dict["rows"])


class TrainingProgress(Callback):
    """How far a run is, on standard error: a bar on a terminal, and a line an epoch."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._shown = ExitStack()
        self._report: Progress | None = None
        self._started = 0.0
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and the bar."""
        self._started, self._first = time.monotonic(), trainer.current_epoch
        if trainer.is_global_zero:
            self._report = self._shown.enter_context(progress_bar(self.title))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._report is not None:
            total = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
            self._report(self.title, (trainer.fit_loop.total_batch_idx + 1) / total)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the epoch brought."""
        if not trainer.is_global_zero:
            return
        figures = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        each = (time.monotonic() - self._started) / (epoch - self._first)
        left = f"{duration(each)} an epoch, at most {duration(each * (epochs - epoch))} left"
        print(f"epoch {epoch}/{epochs}: {told}; {left}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal as it was."""
        self._shown.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._shown.close()


def duration(seconds: float) -> str:
    """Seconds as people say them: "8 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
