"""Published predictions and judgements of people on known corpora: one file a set, found by name."""

from affuse.data.prediction_sets.registry import PREDICTION_SETS, load, names

__all__ = ["PREDICTION_SETS", "load", "names"]
