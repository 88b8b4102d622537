"""Whose voice: the front end against librosa, the graph against torch, and stretches of speech."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse import weights
from affuse.errors import AssetError, DataError
from affuse.people.voices import FRAMES, MELS, MIN_VOICE, VoiceEncoder, mel_power, voiced
from affuse.testing import synthetic


class MeanMels:
    """Stands in for the network: the embedding is the mean power by band."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.seen.append(inputs["mels"])
        return [inputs["mels"].mean(axis=1)]


def _encoder() -> tuple[VoiceEncoder, MeanMels]:
    encoder, network = VoiceEncoder(), MeanMels()
    encoder.__dict__["_session"] = network
    return encoder, network


def test_mel_power_is_that_of_librosa() -> None:
    librosa = pytest.importorskip("librosa", reason="librosa, of the extra features, is the reference")
    samples = synthetic.speech(seconds=2.0, pitch=140).astype(np.float32)
    theirs = librosa.feature.melspectrogram(y=samples, sr=16000, n_fft=400, hop_length=160, n_mels=MELS).T
    np.testing.assert_allclose(mel_power(samples), theirs, rtol=1e-3, atol=1e-6 * float(theirs.max()))


def test_a_tone_lies_in_the_band_around_it() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    # Slaney: 1 kHz is mel 15, the top is mel 15 + 27 log(8)/log(6.4) = 45.25; corner i lies at mel 45.25 i / 41.
    nearest = round(15 / (45.25 / 41)) - 1
    assert mel_power(tone).mean(axis=0).argmax() in (nearest - 1, nearest)


def test_an_embedding_has_length_one_and_does_not_change_with_loudness_above_the_norm() -> None:
    encoder, _ = _encoder()
    loud = synthetic.speech(seconds=3.0, pitch=140)
    embedding = encoder.embed(loud)
    assert embedding is not None
    assert np.linalg.norm(embedding) == pytest.approx(1.0)
    np.testing.assert_allclose(encoder.embed(loud * 0.5), embedding, atol=1e-3)


def test_soft_speech_is_brought_up() -> None:
    encoder, network = _encoder()
    speech = synthetic.speech(seconds=3.0, pitch=140)
    for gain in (0.05, 0.1):
        assert encoder.embed(speech * gain) is not None
    soft, twice = (float(mels.sum()) for mels in network.seen)
    assert soft == pytest.approx(twice, rel=0.02)


def test_long_speech_is_heard_in_overlapping_stretches() -> None:
    encoder, network = _encoder()
    encoder.embed(np.tile(synthetic.speech(seconds=4.0, pitch=140), 12))
    assert all(mels.shape[1:] == (FRAMES, MELS) and len(mels) <= 32 for mels in network.seen)
    assert len(network.seen) >= 2


@pytest.mark.parametrize("samples", [np.zeros(32000), np.zeros(0), synthetic.speech(seconds=0.2, pitch=140)])
def test_too_little_speech_is_nobodys_voice(samples: np.ndarray) -> None:
    encoder, _ = _encoder()
    assert encoder.embed(samples) is None


def test_pauses_are_left_out() -> None:
    speech = synthetic.speech(seconds=2.0, pitch=140)
    paused = np.concatenate([speech, np.zeros(32000), speech])
    assert MIN_VOICE * 16000 < len(voiced(paused)) < len(paused) - 24000


@pytest.mark.parametrize("samples", [np.zeros((2, 16000)), np.full(16000, np.nan)])
def test_other_arrays_than_samples_are_refused(samples: np.ndarray) -> None:
    with pytest.raises(DataError, match="one row of finite samples"):
        VoiceEncoder().embed(samples)


def test_a_missing_encoder_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFFUSE_MODELS", str(tmp_path))
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=r"python -m recipes\.speaker --out DIR"):
        VoiceEncoder().embed(synthetic.speech(seconds=2.0, pitch=140))
    with pytest.raises(AssetError, match=r"nobody serves speaker\.onnx; make it with"):
        weights.download("speaker")


def _state() -> dict[str, np.ndarray]:
    """Random weights by the names that torch gives them."""
    rng = np.random.default_rng(0)
    shapes = {"linear.weight": (256, 256), "linear.bias": (256,)}
    for layer in range(3):
        shapes |= {
            f"lstm.weight_ih_l{layer}": (1024, MELS if layer == 0 else 256),
            f"lstm.weight_hh_l{layer}": (1024, 256),
            f"lstm.bias_ih_l{layer}": (1024,),
            f"lstm.bias_hh_l{layer}": (1024,),
        }
    return {name: rng.uniform(-0.0625, 0.0625, shape).astype(np.float32) for name, shape in shapes.items()}


def test_the_graph_gives_what_torch_gives(tmp_path: Path) -> None:
    for library in ("torch", "onnx"):
        pytest.importorskip(library, reason=f"{library} is needed by the recipe")
    from recipes import speaker

    state, path = _state(), tmp_path / "speaker.onnx"
    path.write_bytes(speaker.build(state).SerializeToString(deterministic=True))
    mels = np.random.default_rng(1).exponential(0.05, (3, FRAMES, MELS)).astype(np.float32)
    found: Any = weights.session(path).run(["embedding"], {"mels": mels})[0]
    np.testing.assert_allclose(found, speaker.reference(state, mels), atol=1e-5)
    again = speaker.build(state).SerializeToString(deterministic=True)
    assert again == path.read_bytes()


def test_the_recipe_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from recipes import speaker

    monkeypatch.setattr(speaker, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as stopped:
        speaker.main(["--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "pip install --no-deps Resemblyzer" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
