"""Arousal in the voice recipe: a ridge regression on the statistics of the encoder, and how good it is.

Nobody rated the clips. What is learned of a clip is what `affuse.fusion.affect.VALENCE_AROUSAL` says of the emotion
that was acted; RAVDESS' actors spoke most emotions normally and strongly, and strong speech is `INTENSITY` more aroused
than that, normal speech as much less. The statistics do not know the level of a recording, so neither does what is
learned.

Valence was learned in the same way and told less than the probabilities of the emotions do, so it is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from affuse.fusion.affect import VALENCE_AROUSAL
from affuse.labels import VOICE
from recipes.voice_data import CORPORA, Clips
from recipes.voice_network import VoiceArousal
from recipes.voice_training import VoiceConfig, row_weights

__all__ = ["INTENSITY", "arousal_report", "arousal_targets", "intensities", "learn_arousal"]

INTENSITY = 0.4
"""How far strong and normal speech lie from the arousal of their emotion."""

_MAP = np.array([VALENCE_AROUSAL[label][1] for label in VOICE.labels])


def intensities(clips: Clips) -> np.ndarray:
    """How clips were acted (n,): 1 strongly, -1 normally; 0 where it is not said. RAVDESS says it, but of neutral."""
    told = (clips.corpus == "ravdess") & (clips.targets != VOICE.index("neutral"))
    strong = np.array([name.split("-")[3:4] == ["02"] for name in clips.names])
    return np.where(told, np.where(strong, 1, -1), 0)


def arousal_targets(clips: Clips) -> np.ndarray:
    """Arousal (n,) that is learned of clips."""
    return np.asarray(_MAP[clips.targets] + INTENSITY * intensities(clips))


def learn_arousal(plain: Tensor, clips: Clips, rows: np.ndarray, config: VoiceConfig) -> VoiceArousal:
    """The ridge regression of ``rows`` (m,) of the statistics (n, d) of clips as they are; corpora weigh as for heads.

    The penalty is ``config.arousal_penalty`` times the mean variance of a statistic.
    """
    own = plain[torch.from_numpy(rows)]
    model = VoiceArousal(own.mean(dim=0), own.std(dim=0) + 1e-3)
    X, y = model.standardised(own).double(), torch.from_numpy(arousal_targets(clips)[rows])
    w = torch.from_numpy(row_weights(clips.corpus[rows], config.corpus_power))
    X_mean, y_mean = w @ X, w @ y
    X, y = X - X_mean, y - y_mean
    covariance = X.T @ (w[:, None] * X)
    ridge = config.arousal_penalty * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    weight = torch.linalg.solve(covariance + ridge, X.T @ (w * y))
    with torch.no_grad():
        model.linear.weight.copy_(weight[None])
        model.linear.bias.copy_(y_mean - X_mean @ weight)
    return model.eval()


def arousal_report(rated: np.ndarray, clips: Clips) -> dict[str, Any]:
    """By corpus, the correlation of arousal (n,) of unheard speakers with the map of the emotions.

    Where clips were acted strongly and normally, also how often a strong clip is rated more aroused than a normal one
    of the same emotion, in the mean over emotions (area under the ROC curve).
    """
    report: dict[str, Any] = {}
    for name in CORPORA:
        own = clips.corpus == name
        if own.any():
            report[name] = round(float(np.corrcoef(rated[own], _MAP[clips.targets[own]])[0, 1]), 3)
    strength = intensities(clips)
    told = [(strength != 0) & (clips.targets == label) for label in range(len(VOICE))]
    areas = [roc_auc_score(strength[own] > 0, rated[own]) for own in told if len(np.unique(strength[own])) == 2]
    if areas:
        report["strong_against_normal"] = round(float(np.mean(areas)), 3)
    return report
