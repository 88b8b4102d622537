"""Features of sound against closed forms: tones, pulse trains, trains of syllables, and real speech sped up."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from scipy.fft import dct

from affuse.errors import ConfigError, DataError
from affuse.features import Clip, make
from affuse.features.sound import STATISTICS, heard, levels, samples_of
from affuse.media import SAMPLE_RATE

pytest.importorskip("librosa", reason="features of sound need the extra features")

from affuse.features.prosody import Voice, jitter, listen, pauses, pulses, shimmer, syllable_rate
from affuse.features.spectra import mel_power

DEMO = Path(__file__).parent.parent / "demo" / "clip.mp4"


def tone(frequency: float, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def train(periods: list[float], heights: list[float] | None = None) -> np.ndarray:
    """Smooth pulses at distances of ``periods`` samples."""
    places = 100 + np.concatenate([[0], np.cumsum(periods)])
    heights = [1.0] * len(places) if heights is None else heights
    i = np.arange(round(places[-1]) + 100)
    return 0.5 * sum(h * np.exp(-0.5 * ((i - at) / 8) ** 2) for at, h in zip(places, heights, strict=True))


def syllables(rate: float, seconds: float = 3.0) -> np.ndarray:
    """A voice of 120 Hz that swells and fades ``rate`` times a second."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    return 0.2 * np.maximum(0.05, np.sin(np.pi * rate * t) ** 2) * voice


def sped_up(samples: np.ndarray, factor: float) -> np.ndarray:
    """Faster speech of the same pitch, by FFmpeg's WSOLA."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=f"1/{SAMPLE_RATE}")
    tempo, sink = graph.add("atempo", str(factor)), graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    graph.push(frame)
    graph.push(None)
    pieces = []
    while True:
        try:
            pieces.append(graph.pull().to_ndarray()[0])
        except (av.error.EOFError, av.error.BlockingIOError):
            return np.concatenate(pieces)


def prosody(samples: np.ndarray) -> dict[str, float]:
    extractor = make("prosody")
    return dict(zip(extractor.get_feature_names_out(), extractor.transform([samples])[0], strict=True))


# --- spectra ---


def test_the_energy_of_a_frame_is_that_of_its_spectrum() -> None:
    samples = np.random.default_rng(0).normal(scale=0.1, size=4000)
    levels = make("stft").frames(samples)
    window = np.hanning(513)[:-1]
    for i in (5, 12):
        framed = samples[i * 160 - 256 : i * 160 + 256] * window
        power = 10 ** (levels[i] / 10) * (window.sum() / 2) ** 2
        doubled = 2 * power.sum() - power[0] - power[-1]  # all bins but the first and the last stand for two
        assert doubled / 512 == pytest.approx((framed**2).sum(), rel=1e-4)


def test_a_full_sine_in_a_bin_reads_zero_decibels() -> None:
    levels = make("stft").frames(tone(1000.0, amplitude=1.0))[10:-10]  # bin 32 of 31.25 Hz
    np.testing.assert_allclose(levels[:, 32], 0.0, atol=0.01)
    assert (levels.argmax(axis=1) == 32).all()
    half = make("stft").frames(tone(1000.0, amplitude=0.5))[10:-10]
    np.testing.assert_allclose(half[:, 32], 20 * np.log10(0.5), atol=0.01)


def test_mfcc_is_the_cosine_transform_of_log_mel_levels() -> None:
    samples = np.random.default_rng(1).normal(scale=0.1, size=8000)
    found = make("mfcc").frames(samples)
    levels = 10 * np.log10(mel_power(samples, 40))
    expected = dct(levels, type=2, norm="ortho", axis=1)[:, :13]
    np.testing.assert_allclose(found[:, :13], expected, atol=1e-3)
    # The slope of a line through nine frames, by least squares.
    steps = np.arange(-4, 5)
    slope = (steps[:, None] * expected[16:25]).sum(axis=0) / (steps**2).sum()
    np.testing.assert_allclose(found[20, 13:26], slope, atol=1e-3)
    assert found.shape[1] == 39 == len(make("mfcc").contour_names())


def test_log_mel_rises_by_six_decibels_with_twice_the_amplitude() -> None:
    quiet, loud = (make("log-mel").frames(tone(700, amplitude=a))[10:-10] for a in (0.2, 0.4))
    strongest = quiet.mean(axis=0).argmax()
    np.testing.assert_allclose(loud[:, strongest] - quiet[:, strongest], 20 * np.log10(2), atol=1e-3)


@pytest.mark.parametrize(("frequency", "pitch_class"), [(440.0, "a"), (220.0, "a"), (261.63, "c"), (369.99, "f_sharp")])
def test_the_chroma_of_a_tone_is_its_pitch_class(frequency: float, pitch_class: str) -> None:
    chroma = make("chroma", statistics=("mean",))
    row = chroma.transform([tone(frequency)])[0]
    assert chroma.get_feature_names_out()[row.argmax()] == f"chroma_{pitch_class}_mean"


def test_statistics_are_those_of_the_frames() -> None:
    samples = samples_of(Clip(DEMO, 0.0, 2.0))
    names = ("mean", "std", "median", "max", "skew")
    extractor = make("log-mel", bands=8, statistics=names)
    frames = extractor.frames(samples)[heard(levels(samples))]
    row = extractor.transform([samples])[0].reshape(len(names), 8)
    for name, found in zip(names, row, strict=True):
        np.testing.assert_allclose(found, STATISTICS[name](frames))
    np.testing.assert_allclose(row[0], frames.mean(axis=0))
    assert extractor.get_feature_names_out()[9] == "mel_1_std"
    with pytest.raises(ConfigError, match="unknown statistic 'mode'; known: mean, std"):
        make("mfcc", statistics=("mode",)).transform([samples])


def test_silence_around_speech_does_not_count() -> None:
    speech = samples_of(Clip(DEMO, 0.0, 2.0))
    padded = np.concatenate([np.zeros(32000), speech, np.zeros(16000)])
    mfcc = make("mfcc", statistics=("mean",))
    alone, among = mfcc.transform([speech, padded])
    np.testing.assert_allclose(among[:13], alone[:13], atol=0.05 * np.abs(alone[:13]).max())


# --- prosody ---


@pytest.mark.parametrize("frequency", [110.0, 220.0, 440.0])
def test_the_fundamental_frequency_of_a_tone(frequency: float) -> None:
    facts = prosody(tone(frequency))
    assert facts["f0_mean_hz"] == pytest.approx(frequency, rel=0.01)
    assert facts["f0_range_semitones"] < 0.1
    assert facts["voiced_share"] > 0.95
    assert facts["jitter"] < 1e-3
    assert facts["shimmer"] < 1e-2
    assert facts["pause_share"] == facts["pauses_per_s"] == 0


def test_the_level_of_a_sine_is_its_root_mean_square() -> None:
    level = levels(tone(250.0, amplitude=0.5))[5:-5]
    np.testing.assert_allclose(level, 20 * np.log10(0.5 / np.sqrt(2)), atol=0.05)


def test_a_rising_tone_has_its_slope() -> None:
    t = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    octave_a_second = 0.5 * np.sin(2 * np.pi * 100 * (2**t - 1) / np.log(2))
    facts = prosody(octave_a_second)
    assert facts["f0_slope_semitones_per_s"] == pytest.approx(12, rel=0.05)
    assert facts["f0_range_semitones"] == pytest.approx(24 * 0.8, rel=0.05)  # 10th to 90th percentile of two octaves


def test_perfect_pulses_have_no_jitter_and_no_shimmer() -> None:
    facts = prosody(train([160.0] * 120))
    assert facts["f0_median_hz"] == pytest.approx(100, rel=0.01)
    assert facts["jitter"] < 1e-4
    assert facts["shimmer"] < 1e-4


def test_jitter_and_shimmer_of_alternating_pulses_are_those_worked_out_by_hand() -> None:
    # Periods of 158 and 162 samples: the change from cycle to cycle is 4 of 160.
    assert prosody(train([158.0, 162.0] * 60))["jitter"] == pytest.approx(4 / 160, rel=0.01)
    # Between the samples as well: 159.3 and 160.7.
    assert prosody(train([159.3, 160.7] * 60))["jitter"] == pytest.approx(1.4 / 160, rel=0.03)
    # Heights of 0.9 and 1.1: the change is 0.2 of 1.
    assert prosody(train([160.0] * 120, [0.9, 1.1] * 60 + [0.9]))["shimmer"] == pytest.approx(0.2, rel=0.02)


def test_jitter_and_shimmer_by_hand() -> None:
    # Periods 10, 12 and 11: changes 2 and 1, mean of the pairs' periods (10 + 12 + 12 + 11) / 4.
    assert jitter([np.array([0.0, 10, 22, 33])]) == pytest.approx(1.5 / 11.25)
    # A period twice as long as its neighbour is no cycle of the same voice: 10, 10, 20, 10 leaves the first pair.
    assert jitter([np.array([0.0, 10, 20, 40, 50])]) == 0
    assert np.isnan(jitter([np.array([0.0, 10])]))
    assert shimmer([np.array([1.0, 1.2]), np.array([2.0, 2.0])]) == pytest.approx(0.1 / 1.55)


def test_pulses_are_found_where_they_are() -> None:
    samples = train([150.0, 155.0, 160.0, 165.0] * 20)
    times, heights = max(pulses(samples, listen(samples)), key=lambda found: len(found[0]))
    places = np.concatenate([[0], np.cumsum([150.0, 155.0, 160.0, 165.0] * 20)]) + 100
    nearest = np.abs(times[:, None] * SAMPLE_RATE - places).min(axis=1)
    assert len(times) > 60
    assert nearest.max() < 0.05
    np.testing.assert_allclose(heights, 0.5, rtol=1e-3)


def test_pauses_are_the_silences_inside() -> None:
    gap, short = np.zeros(round(0.4 * SAMPLE_RATE)), np.zeros(round(0.1 * SAMPLE_RATE))
    spoken = tone(200.0, 0.5)
    voice = listen(np.concatenate([gap, spoken, gap, spoken, short, spoken, gap]))
    assert pauses(voice) == pytest.approx([0.4], abs=0.07)  # frames of 64 ms reach into the silence
    flat = Voice(np.full(50, 100.0), np.zeros(50))
    assert len(pauses(flat)) == 0


@pytest.mark.parametrize("rate", [3.0, 4.0, 6.0])
def test_a_train_of_syllables_has_its_rate(rate: float) -> None:
    assert syllable_rate(syllables(rate)) == pytest.approx(rate, rel=0.1)


def test_speaking_one_and_a_half_times_as_fast_raises_the_rate_as_much() -> None:
    slow = syllables(4.0)
    assert prosody(sped_up(slow, 1.5))["speaking_rate_per_s"] == pytest.approx(
        1.5 * prosody(slow)["speaking_rate_per_s"], rel=0.1
    )


@pytest.mark.data
def test_real_speech_sped_up_raises_the_rate_as_much(data: Path) -> None:
    clips = [samples_of(path) for path in sorted((data / "ravdess").glob("Actor_*/03-01-0[1357]-01-*.flac"))[::24]]
    before = np.mean([syllable_rate(clip) for clip in clips])
    after = np.mean([syllable_rate(sped_up(clip, 1.5)) for clip in clips])
    assert len(clips) >= 10
    assert after / before == pytest.approx(1.5, rel=0.1)
    # Both sentences have seven syllables; actors take about a second and a half for them.
    assert 3 < before < 6


@pytest.mark.data
def test_women_speak_higher_than_men(data: Path) -> None:
    clips = {
        sex: sorted((data / "ravdess").glob(f"Actor_{actor}/03-01-01-01-*.flac"))
        for actor, sex in (("03", "man"), ("02", "woman"))
    }
    man, woman = (np.median([prosody(samples_of(p))["f0_median_hz"] for p in clips[sex]]) for sex in ("man", "woman"))
    assert 80 < man < 160 < woman < 300


# --- gaps ---


def test_what_holds_nothing_is_a_gap_with_its_reason() -> None:
    rng = np.random.default_rng(3)
    items = [np.zeros(16000), tone(300, 0.05), np.empty(0), 0.1 * rng.normal(size=16000), tone(200, 0.3)]
    found = make("prosody").extract(items)
    assert np.isnan(found.values).all()
    assert found.reasons[:3] == ("silence", "too little sound", "no sound")
    assert found.reasons[3] in ("nothing voiced", "too little voiced sound")
    assert found.reasons[4] == "too little sound"
    assert np.isfinite(make("mfcc").transform(items[3:])).all()


def test_sound_must_be_a_row_of_numbers_and_a_clip_inside_its_file() -> None:
    with pytest.raises(DataError, match=r"one row of finite samples; got an array of shape \(2, 5\)"):
        make("mfcc").transform([np.zeros((2, 5))])
    with pytest.raises(DataError, match=r"lasts 8 s; it has no stretch from 20 s to 21 s|it has no stretch from 20 s"):
        make("mfcc").transform([Clip(DEMO, 20.0, 21.0)])


def test_a_clip_is_its_stretch_of_the_recording() -> None:
    whole = samples_of(DEMO)
    part = samples_of(Clip(DEMO, 1.0, 2.5))
    np.testing.assert_array_equal(part, whole[16000:40000])
