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


SILENCE = np.zeros((40, 200), dtype=np.float32)  # of somebody else


def test_shapes():
    stacks, spectrum = changed_sequence(*clip(2.0), SILENCE, LENGTH, np.random.default_rng(0))
    assert stacks.shape == (LENGTH, STACK, 28, 28)
    assert spectrum.shape == (40, 4 * (LENGTH + 12))


def test_pictures_and_sound_stay_in_step():
    # Whatever is changed, the middle picture of a stack is as light as its sound is loud.
    pictures, spectrum = clip(4.0)
    found = []
    for seed in range(20):
        stacks, heard = changed_sequence(pictures, spectrum, SILENCE, LENGTH, np.random.default_rng(seed))
        light = stacks[1:-1, STACK // 2].mean(dim=(1, 2)).numpy()  # somebody else may be heard at the ends
        loud = heard.mean(dim=0).numpy()[4 * 7 :: 4][: LENGTH - 2]
        found.append(np.corrcoef(light, loud)[0, 1])
    assert min(found) > 0.8
    assert np.median(found) > 0.98


def test_same_draw_same_copy():
    copies = [changed_sequence(*clip(2.0), SILENCE, LENGTH, np.random.default_rng(5))[0] for _ in range(2)]
    assert (copies[0] == copies[1]).all()


@pytest.mark.parametrize(("pictures", "enough"), [(16, False), (17, True)])
def test_a_clip_has_to_be_longer_than_a_sequence(pictures, enough):
    # Two pictures more on either side are seen.
    assert has_room(np.zeros((pictures, LARGER, LARGER)), np.zeros((40, 4 * pictures)), LENGTH) == enough


def test_somebody_else_is_heard_before_and_after():
    # Sound that is louder than the clip ever is stands at the ends of some sequences, and never in the middle.
    loud = np.full((40, 200), 300.0, dtype=np.float32)
    levels = []
    for seed in range(20):
        _, heard = changed_sequence(*clip(2.0), loud, LENGTH, np.random.default_rng(seed))
        levels.append(heard.median(dim=0).values.numpy())
    foreign = np.array(levels) > 200
    assert 0.1 < foreign[:, :8].mean() < 0.8
    assert 0.1 < foreign[:, -8:].mean() < 0.8
    assert not foreign[:, 28:-28].any()
