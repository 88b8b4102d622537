"""Prior knowledge of an answer: label frequencies, a lexicon of words, and soft rules."""

from affuse.fusion.priors.frequencies import DEFAULT_PRIOR, MELD_TRAIN, NAMES, TEMPER, named_frequencies, reweight
from affuse.fusion.priors.prior import LEXICON_CAP, Prior, apply
from affuse.fusion.priors.rules import Fired, Rule, Windows
from affuse.fusion.priors.weights import WEIGHT_SPREAD, fit_rule_weights, weigh

__all__ = [
    "DEFAULT_PRIOR",
    "LEXICON_CAP",
    "MELD_TRAIN",
    "NAMES",
    "TEMPER",
    "WEIGHT_SPREAD",
    "Fired",
    "Prior",
    "Rule",
    "Windows",
    "apply",
    "fit_rule_weights",
    "named_frequencies",
    "reweight",
    "weigh",
]
