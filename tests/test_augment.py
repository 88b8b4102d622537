"""Augmentation does what its numbers say: ratios, durations, pitches, rooms, areas and shares, in closed form."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="augmentation is part of training, which needs torch")

from torch.nn import functional as F  # noqa: E402

from affuse.errors import ConfigError  # noqa: E402
from affuse.training.augment import (  # noqa: E402  # noqa: E402
    PictureAugmentation,
    SoundAugmentation,
    WordAugmentation,
    adversarial_step,
    cutmix,
    drop_tokens,
    mixup,
    picture,
    sound,
    spec_augment,
    words,
)
from affuse.training.config import TrainingConfig  # noqa: E402
from affuse.training.module import Classification  # noqa: E402
from affuse.training.networks.base import Output  # noqa: E402

RATE = sound.SAMPLE_RATE


def tone(frequency: float, seconds: float = 2.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def peak_frequency(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 4 * len(waveform)))
    return float(spectrum.argmax() * RATE / (4 * len(waveform)))


def speechlike(rng: np.random.Generator, seconds: float = 2.0) -> np.ndarray:
    """Noise that swells and fades a few times a second, at the level of speech."""
    noise = sound.coloured_noise(round(seconds * RATE), "pink", rng)
    swell = np.abs(np.sin(2 * np.pi * 2 * np.arange(len(noise)) / RATE))
    return (0.05 * noise * swell).astype(np.float32)


def seeded(seed: int = 0) -> Any:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


# Sound


@pytest.mark.parametrize("ratio", [20.0, 0.0, -7.5])
@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
def test_noise_has_the_ratio_asked_for(colour: str, ratio: float, rng: np.random.Generator) -> None:
    clean = speechlike(rng)
    noisy = sound.add_noise(clean, sound.coloured_noise(len(clean), colour, rng), ratio)
    measured = 10 * np.log10(np.mean(clean.astype(float) ** 2) / np.mean((noisy - clean).astype(float) ** 2))
    assert measured == pytest.approx(ratio, abs=0.1)


@pytest.mark.parametrize(("colour", "decibels"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_noise_falls_by_its_colour_an_octave(colour: str, decibels: float, rng: np.random.Generator) -> None:
    from scipy.signal import welch

    frequency, density = welch(sound.coloured_noise(60 * RATE, colour, rng), RATE, nperseg=1024)
    octave = [10 * np.log10(density[(frequency >= low) & (frequency < 2 * low)].mean()) for low in (500, 1000, 2000)]
    assert np.diff(octave) == pytest.approx([decibels, decibels], abs=0.3)


def test_silence_stays_silent(rng: np.random.Generator) -> None:
    silence = np.zeros(RATE, dtype=np.float32)
    assert not sound.add_noise(silence, sound.coloured_noise(RATE, "white", rng), 10).any()


def test_babble_is_several_voices_at_once(rng: np.random.Generator) -> None:
    voices = [tone(f, 0.5) for f in (200, 300, 400, 500, 600, 700)]
    crowd = sound.babble(voices, 2 * RATE, rng)
    spectrum = np.abs(np.fft.rfft(crowd))[[400, 600, 800, 1000, 1200, 1400]]
    assert len(crowd) == 2 * RATE
    assert (spectrum > 0.1 * spectrum.max()).sum() >= 2


def test_speed_shortens_by_its_factor_and_raises_the_pitch() -> None:
    faster = sound.change_speed(tone(400), 1.5)
    assert len(faster) == pytest.approx(2 * RATE / 1.5, abs=1)
    assert peak_frequency(faster) == pytest.approx(600, rel=0.002)


@pytest.mark.parametrize(("semitones", "frequency"), [(12, 440.0), (-12, 110.0), (7, 329.63), (0, 220.0)])
def test_pitch_moves_by_semitones_in_the_same_time(semitones: float, frequency: float) -> None:
    shifted = sound.shift_pitch(tone(220), semitones)
    assert len(shifted) == 2 * RATE
    assert peak_frequency(shifted) == pytest.approx(frequency, rel=0.005)


@pytest.mark.parametrize("rt60", [0.3, 0.9])
def test_a_room_falls_by_60_decibels_in_its_time(rt60: float, rng: np.random.Generator) -> None:
    response = sound.room_response(rt60, rng, direct=0.0).astype(float)
    decay = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))  # Schroeder 1965
    early = np.flatnonzero((decay < -5) & (decay > -25))  # T20, the straight part of the curve
    slope = np.polyfit(early / RATE, decay[early], 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.08)


def test_a_room_has_its_share_of_direct_sound_and_unit_energy(rng: np.random.Generator) -> None:
    response = sound.room_response(0.5, rng, direct=3.0).astype(float)
    assert response[0] ** 2 == pytest.approx(0.75, abs=1e-4)
    assert np.sum(response**2) == pytest.approx(1.0, abs=1e-5)


def test_reverberation_is_a_convolution(rng: np.random.Generator) -> None:
    waveform = np.zeros(RATE, dtype=np.float32)
    waveform[100] = 1.0
    response = sound.room_response(0.2, rng)
    heard = sound.reverberate(waveform, response)
    np.testing.assert_allclose(heard[100 : 100 + len(response)], response, atol=1e-6)
    assert np.abs(heard[:100]).max() < 1e-6


def test_gain_is_in_decibels_and_clips() -> None:
    np.testing.assert_allclose(sound.change_gain(tone(400), -6.0206), 0.5 * tone(400), rtol=1e-4)
    loud = sound.change_gain(tone(400), 20)
    assert loud.max() == 1.0
    assert loud.min() == -1.0
    assert (np.abs(loud) == 1.0).mean() > 0.5


@pytest.mark.parametrize("codec", sound.CODECS)
def test_codecs_keep_the_voice_and_what_they_pass(codec: str) -> None:
    spectrum = np.abs(np.fft.rfft(sound.through_codec(tone(1000) + tone(6000), codec)))
    power = {frequency: spectrum[2 * frequency - 20 : 2 * frequency + 20].max() for frequency in (1000, 6000)}
    before = np.abs(np.fft.rfft(tone(1000))).max()
    assert power[1000] > 0.5 * before
    narrow = codec in {"telephone", "amr"}
    assert bool(power[6000] < 0.02 * before) is narrow


def test_the_telephone_has_the_steps_of_mu_law() -> None:
    # Between neighbouring values of the 8-bit code the error is half a step: 2 % of the value over the whole range.
    loud, soft = (sound.through_codec(gain * tone(1000), "telephone")[4000:-4000] for gain in (1.0, 0.01))
    inner = tone(1000)[4000:-4000]
    for heard, meant in ((loud, inner), (soft, 0.01 * inner)):
        error = np.sqrt(np.mean((heard - meant) ** 2) / np.mean(meant**2))
        assert 0.001 < error < 0.06


def test_sound_is_left_alone_by_default_and_repeats_by_its_seed(rng: np.random.Generator) -> None:
    waveform = speechlike(rng)
    np.testing.assert_array_equal(SoundAugmentation(probability=1.0)(waveform, rng), waveform)
    all_on = SoundAugmentation(
        noise_snr=(0, 20), speed=(0.8, 1.2), pitch=(-2, 2), reverberation=(0.2, 0.6), codec=sound.CODECS, gain=(-6, 6)
    )
    first, second, other = (all_on(waveform, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert first.dtype == np.float32


@pytest.mark.parametrize("n", [0, 1, 50, 700])
def test_the_shortest_clips_pass(n: int, rng: np.random.Generator) -> None:
    waveform = (0.1 * rng.standard_normal(n)).astype(np.float32)
    for codec in sound.CODECS:
        all_on = SoundAugmentation(
            (0, 20), speed=(0.8, 1.2), pitch=(-4, -2), reverberation=(0.2, 0.6), codec=(codec,), probability=1.0
        )
        changed = all_on(waveform, rng)
        assert np.isfinite(changed).all()
        assert abs(len(changed) - n) <= 0.25 * n + 1


def test_each_change_happens_with_its_probability(rng: np.random.Generator) -> None:
    quieter = SoundAugmentation(gain=(-20, -20), probability=0.3)
    waveform = tone(400, 0.01)
    changed = [quieter(waveform, rng)[1] != waveform[1] for _ in range(3000)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.03)


def test_noise_comes_from_a_folder_of_recordings(tmp_path: Path, rng: np.random.Generator) -> None:
    import wave

    with wave.open(str(tmp_path / "hum.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((tone(50) * 32767).astype("<i2").tobytes())
    augmentation = SoundAugmentation(noise_snr=(0, 0), noise_folder=str(tmp_path), probability=1.0)
    clean = speechlike(rng)
    added = augmentation(clean, rng) - clean
    assert peak_frequency(added) == pytest.approx(50, abs=0.5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"noise_snr": (20, 0)}, "noise_snr takes two rising numbers"),
        ({"speed": (0.0, 1.0)}, "speed takes two rising numbers within 0.25 and 4"),
        ({"codec": ("gsm",)}, "unknown name 'gsm' for codec; known: telephone, opus, amr"),
        ({"noises": ("red",)}, "unknown name 'red' for noises"),
        ({"probability": 2.0}, "probability takes a share"),
        ({"noise_folder": "nowhere"}, "noise_folder nowhere is not a folder"),
    ],
)
def test_wrong_options_of_sound_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        SoundAugmentation(**options)


# Spectrograms


def test_spec_augment_masks_whole_bands_and_frames_up_to_the_width_asked() -> None:
    S = torch.randn(200, 40, 90, generator=seeded(1), dtype=torch.double)
    masked = spec_augment(S, seeded(2), bands=7, frames=11, n_bands=1, n_frames=1)
    hidden = masked != S
    bands, frames = hidden.all(dim=2), hidden.all(dim=1)
    assert torch.equal(hidden, bands[:, :, None] | frames[:, None])
    for lines, widest in ((bands, 7), (frames, 11)):
        widths = lines.sum(dim=1)
        runs = (lines.int().diff(dim=1) == 1).sum(dim=1) + lines[:, 0]
        assert set(widths.tolist()) == set(range(widest + 1))
        assert int(runs.max()) == 1
    fill = S.mean(dim=(1, 2))[:, None, None].expand_as(S)
    torch.testing.assert_close(masked[hidden], fill[hidden])


def test_spec_augment_is_off_at_zero_and_stays_inside_short_clips() -> None:
    S = torch.randn(3, 4, 5, generator=seeded())
    assert torch.equal(spec_augment(S, seeded(), n_bands=0, n_frames=0), S)
    assert torch.isfinite(spec_augment(S, seeded(), bands=99, frames=99)).all()
    assert torch.equal(spec_augment(S, seeded(8)), spec_augment(S, seeded(8)))


# Mixes


def test_mixup_is_a_convex_mix_of_pairs() -> None:
    x = torch.arange(64.0)[:, None]
    targets = torch.eye(64)
    mixed, shares = mixup(x, targets, 0.4, seeded(3))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(64))
    assert int((shares > 1e-6).sum(dim=1).max()) == 2
    torch.testing.assert_close(mixed, shares @ x)  # pictures and labels are mixed in the same shares
    own = shares.diagonal()
    assert 0.1 < float(own.std()) < 0.5


def test_mixup_has_the_spread_of_beta() -> None:
    share = torch.cat([mixup(torch.ones(500, 1), torch.eye(500), 2.0, seeded(s))[1].diagonal() for s in range(8)])
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(share.var()) == pytest.approx(1 / 20, rel=0.1)  # 1 / (4 (2α + 1))


def test_cutmix_shares_the_label_by_area() -> None:
    images = torch.arange(16.0)[:, None, None, None].expand(16, 3, 24, 32).clone()
    mixed, shares = cutmix(images, torch.eye(16), 1.0, seeded(4))
    area = (mixed[:, 0] == images[:, 0]).float().mean(dim=(1, 2))
    torch.testing.assert_close(shares.diagonal(), area)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(16))


def test_mixes_are_off_at_zero_and_refuse_less() -> None:
    x, targets = torch.rand(4, 1, 8, 8), torch.eye(4)
    for mix in (mixup, cutmix):
        same, shares = mix(x, targets, 0.0, seeded())
        assert torch.equal(same, x)
        assert torch.equal(shares, targets)
        with pytest.raises(ConfigError, match="0 \\(off\\) or more"):
            mix(x, targets, -1.0, seeded())


# Pictures


def smooth_pictures(n: int = 4, size: int = 48) -> Any:
    from torch.nn import functional as F

    return F.interpolate(torch.rand(n, 1, 6, 6, generator=seeded(9)) * 255, size, mode="bicubic").clamp(0, 255)


def moved(images: Any, angle: float = 0, scale: float = 1, x: float = 0, y: float = 0, mirrored: bool = False) -> Any:
    values = (torch.full((len(images),), float(v)) for v in (angle, scale, x, y))
    return picture.transform(images, *values, torch.full((len(images),), mirrored))


def full(images: Any, value: float) -> Any:
    return torch.full((len(images),), float(value))


def test_a_mirror_image_of_a_mirror_image_is_the_picture() -> None:
    images = smooth_pictures()
    torch.testing.assert_close(moved(images, mirrored=True), images.flip(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(moved(moved(images, mirrored=True), mirrored=True), images, atol=1e-2, rtol=0)


def test_turning_there_and_back_restores_the_centre() -> None:
    images = smooth_pictures()
    back = moved(moved(images, angle=30), angle=-30)
    inner = slice(14, 34)
    assert float((back - images)[..., inner, inner].abs().mean()) < 2
    assert float((moved(images, angle=30) - images)[..., inner, inner].abs().mean()) > 10


@pytest.mark.parametrize("shape", [(48, 48), (32, 64)])
def test_moves_put_a_dot_where_they_say(shape: tuple[int, int]) -> None:
    height, width = shape
    dot = torch.zeros(1, 1, *shape)
    row, column = height // 2 - 8, width // 2 + 4
    dot[0, 0, row : row + 2, column : column + 2] = 255

    def place(image: Any) -> tuple[float, float]:
        """Of the centre of mass, from the picture's centre: right and down in pixels."""
        mass = image[0, 0] / image.sum()
        right = float((mass.sum(dim=0) * (torch.arange(width) - (width - 1) / 2)).sum())
        down = float((mass.sum(dim=1) * (torch.arange(height) - (height - 1) / 2)).sum())
        return right, down

    assert place(dot) == pytest.approx((4.5, -7.5 + 0.5), abs=0.51)
    right, down = place(dot)
    assert place(moved(dot, angle=90)) == pytest.approx((down, -right), abs=0.2)  # counter-clockwise: right goes up
    assert place(moved(dot, x=0.125, y=0.25)) == pytest.approx((right + width / 8, down + height / 4), abs=0.2)
    assert place(moved(dot, scale=1.5)) == pytest.approx((1.5 * right, 1.5 * down), abs=0.4)
    assert place(moved(dot, angle=90, scale=1.2, x=0.1, mirrored=True)) == pytest.approx(
        (1.2 * down + 0.1 * width, 1.2 * right), abs=0.4
    )


def test_gamma_is_monotone_and_keeps_black_and_white() -> None:
    ramp = torch.linspace(0, 255, 48).expand(3, 1, 48, 48)
    changed = picture.change_gamma(ramp, torch.tensor([0.5, 1.0, 2.0]))[:, 0, 0]
    assert (changed.diff(dim=1) > 0).all()
    torch.testing.assert_close(changed[1], ramp[1, 0, 0])
    torch.testing.assert_close(changed[:, [0, -1]], torch.tensor([[0.0, 255.0]]).expand(3, 2))
    inner = changed[:, 1:-1]
    assert (inner[0] > inner[1]).all()
    assert (inner[1] > inner[2]).all()


def test_darkness_halves_the_light_a_stop_with_the_noise_of_photons() -> None:
    white = torch.full((2, 1, 100, 100), 255.0)
    dark = picture.darken(white, torch.tensor([2.0, 4.0]), seeded())
    light = (dark / 255) ** 2.2
    torch.testing.assert_close(light.mean(dim=(1, 2, 3)), torch.tensor([0.25, 0.0625]), rtol=0.02, atol=0)
    # Poisson: the relative spread is one by the square root of the number of photons.
    spread = light.std(dim=(1, 2, 3)) / light.mean(dim=(1, 2, 3))
    torch.testing.assert_close(spread, torch.tensor([1 / math.sqrt(250), 1 / math.sqrt(62.5)]), rtol=0.06, atol=0)
    assert torch.equal(dark, dark.round())


def test_blur_is_gaussian() -> None:
    dot = torch.zeros(2, 3, 64, 64)
    dot[:, :, 32, 32] = 255
    blurred = picture.blur(dot, torch.tensor([2 / 64, 4 / 64]))
    place = torch.arange(64.0) - 32
    for image, sigma in zip(blurred, (2.0, 4.0), strict=True):
        profile = image[1].sum(dim=0) / 255
        assert float(profile.sum()) == pytest.approx(1.0, abs=1e-3)
        assert float((profile * place**2).sum()) == pytest.approx(sigma**2, rel=0.03)
    flat = torch.full((1, 1, 20, 20), 7.0)
    torch.testing.assert_close(picture.blur(flat, torch.tensor([0.1])), flat)


def test_low_resolution_leaves_no_detail_and_the_mean() -> None:
    board = (torch.arange(48)[:, None] + torch.arange(48)) % 2 * 255.0
    coarse = picture.lower_resolution(board.expand(1, 1, 48, 48), torch.tensor([0.25]))
    torch.testing.assert_close(coarse, torch.full_like(coarse, 127.5))
    images = smooth_pictures()
    torch.testing.assert_close(picture.lower_resolution(images, full(images, 1)), images)


def test_jpeg_keeps_colours_and_loses_more_at_lower_quality() -> None:
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = 200
    assert float((picture.compress(red, torch.tensor([95.0])) - red).abs().max()) < 4
    images = smooth_pictures()
    errors = [float((picture.compress(images, full(images, q)) - images).abs().mean()) for q in (95, 50, 10)]
    assert 0 < errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_occlusion_covers_the_share_asked_for(share: float) -> None:
    images = torch.full((300, 1, 64, 64), -1.0)  # a value that noise never has
    covered = (picture.occlude(images, full(images, share), seeded()) >= 0).float()
    area = covered.mean(dim=(1, 2, 3))
    if share < 1:
        torch.testing.assert_close(area, torch.full_like(area, share), atol=0.01, rtol=0)
    else:  # twice as wide as high and the whole area: what fits
        assert float(area.min()) > 0.69
    if 0 < share < 1:
        everywhere = covered.amax(dim=0)[0]
        assert everywhere.amax(dim=0).all()
        assert everywhere.amax(dim=1).all()
        rows, columns = covered.amax(dim=3).sum(dim=(1, 2)), covered.amax(dim=2).sum(dim=(1, 2))
        assert 0.45 < float((rows / columns).min()) < 0.65
        assert 1.6 < float((rows / columns).max()) < 2.2


def test_a_mask_hides_the_mouth_and_glasses_the_eyes() -> None:
    face = torch.full((1, 3, 48, 48), 100.0)
    masked = picture.wear_mask(face, torch.tensor([200.0]))[0, 0] != 100
    shaded = picture.wear_glasses(face, torch.tensor([10.0]))[0, 0] != 100
    mouth, left_eye, right_eye, brow = (38, 24), (18, 15), (18, 33), (6, 24)
    assert masked[mouth]
    assert not masked[left_eye]
    assert not masked[brow]
    assert shaded[left_eye]
    assert shaded[right_eye]
    assert not shaded[mouth]
    assert torch.equal(shaded, shaded.flip(1))
    assert 0.25 < float(masked.float().mean()) < 0.4
    assert 0.08 < float(shaded.float().mean()) < 0.2


EVERYTHING = PictureAugmentation(
    crop=0.1,
    flip=0.5,
    rotation=15,
    scale=0.15,
    shift=0.1,
    brightness=0.5,
    occlusion=(0.02, 0.2),
    blur=(0.0, 0.04),
    darkness=(0, 4),
    resolution=(0.3, 1),
    jpeg=(20, 90),
    mask=0.2,
    glasses=0.2,
)


@pytest.mark.parametrize("shape", [(6, 1, 48, 48), (5, 3, 40, 32), (2, 3, 4, 24, 24)])
def test_pictures_keep_shape_and_range_and_repeat_by_their_seed(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=seeded()) * 255
    before = images.clone()
    first, second, other = (EVERYTHING(images, seeded(s)) for s in (1, 1, 2))
    assert first.shape == images.shape
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()
    assert float(first.min()) >= 0
    assert float(first.max()) <= 256
    assert torch.equal(images, before)


def test_frames_of_a_clip_move_together() -> None:
    still = smooth_pictures(2)[:, :, None].expand(2, 1, 5, 48, 48)
    changed = PictureAugmentation(rotation=20, shift=0.2, brightness=1.0)(still, seeded())
    torch.testing.assert_close(changed, changed[:, :, :1].expand_as(changed))


def test_pictures_are_left_alone_by_default() -> None:
    images = smooth_pictures()
    assert torch.equal(PictureAugmentation(probability=1.0)(images, seeded()), images)


def test_a_crop_shows_a_part_of_the_picture_only() -> None:
    ramp = torch.linspace(0, 255, 64).expand(500, 1, 64, 64)
    shown = PictureAugmentation(crop=0.5)(ramp, seeded())[:, 0, 32]
    span = (shown[:, -1] - shown[:, 0]) / 255
    assert 0.48 < float(span.min()) < 0.55
    assert 0.95 < float(span.max()) <= 1.0
    middle = shown.mean(dim=1) / 255
    assert float(middle.min()) > 0.24
    assert float(middle.max()) < 0.76
    assert float(middle.std()) > 0.05


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"flip": 1.5}, "flip takes a share within 0 and 1; got 1.5"),
        ({"occlusion": (0.5, 0.1)}, "occlusion takes two rising numbers within 0 and 1"),
        ({"rotation": -5.0}, "rotation takes"),
        ({"jpeg": (0, 50)}, "jpeg takes two rising numbers within 1 and 100"),
    ],
)
def test_wrong_options_of_pictures_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PictureAugmentation(**options)


# Words


def test_words_are_left_out_in_the_share_asked_for(rng: np.random.Generator) -> None:
    text = " ".join(f"w{i}" for i in range(2000))
    left = WordAugmentation(drop=0.25)(text, rng).split()
    assert len(left) / 2000 == pytest.approx(0.75, abs=0.03)
    assert [int(word[1:]) for word in left] == sorted(int(word[1:]) for word in left)


def test_one_word_always_stays(rng: np.random.Generator) -> None:
    assert words.drop_words("so happy", 1.0, rng) in {"so", "happy"}
    assert words.drop_words("", 0.5, rng) == ""
    assert words.drop_words("  ", 0.5, rng) == "  "


def test_chinese_loses_characters_and_gains_no_spaces(rng: np.random.Generator) -> None:
    text = "我今天很开心" * 100
    left = words.drop_words(text, 0.5, rng)
    assert 200 < len(left) < 400
    assert set(left) <= set(text)
    mixed = words.drop_words("今天 very happy 啊", 0.4, rng)
    assert set(mixed) <= set("今天 very happy 啊")


def test_typos_change_the_share_of_letters_asked_for_and_hardly_the_length(rng: np.random.Generator) -> None:
    text = "the quick brown fox jumps over the lazy dog; " * 100
    wrong = words.mistype(text, 0.1, rng)
    letters = sum(c.isalpha() for c in text)
    # Left out and doubled letters, a quarter of the mistakes each, balance out.
    assert abs(len(wrong) - len(text)) < 4 * math.sqrt(letters * 0.05)
    assert wrong.count(";") == 100
    unharmed = [a == b for a, b in zip(wrong.split(), text.split(), strict=True)]
    expected = [0.9 ** len(word.strip(";")) for word in text.split()]
    assert np.mean(unharmed) == pytest.approx(np.mean(expected), abs=0.04)


def test_letters_are_hit_beside_their_key() -> None:
    assert set(words._NEIGHBOURS["g"]) == set("ftyhvb")
    assert set(words._NEIGHBOURS["q"]) == set("wa")
    for key, others in words._NEIGHBOURS.items():
        assert all(key in words._NEIGHBOURS[other] for other in others)


def test_texts_are_left_alone_by_default_and_repeat_by_their_seed(rng: np.random.Generator) -> None:
    text = "I am so happy today, 我很开心!"
    assert WordAugmentation()(text, rng) == text
    hasty = WordAugmentation(drop=0.2, typos=0.2)
    results = {hasty(text, np.random.default_rng(7)) for _ in range(5)}
    assert len(results) == 1
    assert len({hasty(text, np.random.default_rng(seed)) for seed in range(5)}) > 1
    with pytest.raises(ConfigError, match="typos takes a share"):
        WordAugmentation(typos=-0.1)


def test_tokens_are_dropped_under_the_mask_only() -> None:
    ids = torch.full((200, 50), 7)
    ids[:, 0], ids[:, 30:] = 2, 0
    mask = (torch.arange(50) < 30).long().expand(200, 50)
    before = ids.clone()
    dropped = drop_tokens(ids, mask, 0.3, 1, seeded(), keep=(2,))
    hit = dropped == 1
    assert torch.equal(dropped[~hit], ids[~hit])
    assert not hit[:, 0].any()
    assert not hit[:, 30:].any()
    assert float(hit[:, 1:30].float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(ids, before)
    assert torch.equal(dropped, drop_tokens(ids, mask, 0.3, 1, seeded(), keep=(2,)))


# --- against the network ----------------------------------------------------------------------------------------------


def test_every_second_sample_moves_along_the_sign_of_its_gradient_by_its_own_spread() -> None:
    """Worked out by hand: spreads 1 and 3; the first sample moves by half of 1, and stays within the batch's range."""
    x = torch.tensor([[4.0, 6.0], [0.0, 6.0], [-2.0, 0.0]])
    moved = adversarial_step(x, torch.tensor([[0.1, 9.0], [5.0, 5.0], [-1.0, 0.0]]), 0.5)
    assert moved.tolist() == [[4.5, 6.0], [0.0, 6.0], [-2.0, 0.0]]


def test_training_moves_samples_to_the_side_on_which_the_network_errs() -> None:
    """A linear network with logits w · x and -w · x errs more about its first label where w · x is smaller."""
    w = torch.tensor([2.0, -1.0, 0.5])

    def linear(images: Any) -> Output:
        score = images @ w
        return Output(torch.stack([score, -score], dim=1), images)

    network: Any = linear
    module = Classification(network, TrainingConfig(adversarial=0.1))
    x = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 5.0, 0.0]])
    batch = {"inputs": {"images": x}, "targets": torch.tensor([[1.0, 0.0]] * 3)}
    moved = module._attacked(batch)["images"]
    spreads = x.std(dim=1, correction=0)
    torch.testing.assert_close(moved[0], x[0] - 0.1 * spreads[0] * w.sign())
    torch.testing.assert_close(moved[1], x[1])
    torch.testing.assert_close(moved[2], (x[2] - 0.1 * spreads[2] * w.sign()).clamp(0.0, 5.0))
    attacked, plain = (F.cross_entropy(linear(own).logits, batch["targets"]) for own in (moved, x))
    assert attacked > plain
