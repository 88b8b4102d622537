"""Changed copies of clips from which the networks of synchrony learn."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the recipes need torch: pip install 'affuse[train]'")

from recipes.synchrony_changes import LARGER, STACK, changed_sequence, has_room

LENGTH = 12


def clip(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture that grows light and dark twice a second, with a sound that grows loud and soft with it."""
    times = np.arange(round(seconds * 25)) / 25
    light = 128 + 60 * np.sin(4 * np.pi * times)
    level = np.sin(4 * np.pi * np.arange(4 * len(times)) / 100)
    pictures = np.tile(light[:, None, None], (1, LARGER, LARGER)).astype(np.uint8)
    return pictures, np.tile(3 * level, (40, 1)).astype(np.float32)


def test_shapes():
    stacks, spectrum = changed_sequence(*clip(2.0), LENGTH, np.random.default_rng(0))
    assert stacks.shape == (LENGTH, STACK, 28, 28)
    assert spectrum.shape == (40, 4 * (LENGTH + 12))


def test_pictures_and_sound_stay_in_step():
    # Whatever is changed, the middle picture of a stack is as light as its sound is loud.
    pictures, spectrum = clip(4.0)
    found = []
    for seed in range(20):
        stacks, heard = changed_sequence(pictures, spectrum, LENGTH, np.random.default_rng(seed))
        light = stacks[:, STACK // 2].mean(dim=(1, 2)).numpy()
        loud = heard.mean(dim=0).numpy()[4 * 6 :: 4][:LENGTH]
        found.append(np.corrcoef(light, loud)[0, 1])
    assert min(found) > 0.8
    assert np.median(found) > 0.98


def test_same_draw_same_copy():
    copies = [changed_sequence(*clip(2.0), LENGTH, np.random.default_rng(5))[0] for _ in range(2)]
    assert (copies[0] == copies[1]).all()


@pytest.mark.parametrize(("pictures", "enough"), [(16, False), (17, True)])
def test_a_clip_has_to_be_longer_than_a_sequence(pictures, enough):
    # Two pictures more on either side are seen.
    assert has_room(np.zeros((pictures, LARGER, LARGER)), np.zeros((40, 4 * pictures)), LENGTH) == enough
