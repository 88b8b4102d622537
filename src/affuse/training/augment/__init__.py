"""Augmentation: what a training sees instead of the same clip twice, and what robustness is measured with.

Sound (`sound`), pictures (`picture`), texts and token ids (`words`), spectrograms (`spectrum`), mixes of two samples
(`mixing`) and samples that are changed against the network (`adversarial`). Every random choice comes from the
generator given, so a seed repeats it; every option is off at its default.
"""

from affuse.training.augment.adversarial import adversarial_step
from affuse.training.augment.mixing import cutmix, mixup
from affuse.training.augment.picture import PictureAugmentation
from affuse.training.augment.sound import SoundAugmentation
from affuse.training.augment.spectrum import spec_augment
from affuse.training.augment.words import WordAugmentation, drop_tokens

__all__ = [
    "PictureAugmentation",
    "SoundAugmentation",
    "WordAugmentation",
    "adversarial_step",
    "cutmix",
    "drop_tokens",
    "mixup",
    "spec_augment",
]
