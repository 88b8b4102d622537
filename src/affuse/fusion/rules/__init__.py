"""Fixed rules: probabilities of modalities in, one answer out.

What each does with gaps and ties stands in its docstring.
"""

from affuse.fusion.rules.averaging import EntropyWeighted, MeanRule, PerformanceWeighted, WeightedMeanRule
from affuse.fusion.rules.extremes import MaxRule, MedianRule, MinRule
from affuse.fusion.rules.product import ProductRule
from affuse.fusion.rules.voting import BordaCount, ConfidenceWeightedVote, MajorityVote, WeightedVote

__all__ = [
    "BordaCount",
    "ConfidenceWeightedVote",
    "EntropyWeighted",
    "MajorityVote",
    "MaxRule",
    "MeanRule",
    "MedianRule",
    "MinRule",
    "PerformanceWeighted",
    "ProductRule",
    "WeightedMeanRule",
    "WeightedVote",
]
