"""Whose voice: the front end against librosa, the graph against torch, and stretches of speech."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse import weights
from affuse.errors import AssetError, DataError
from affuse.people import speaker_weights
from affuse.people.voices import FRAMES, MELS, MIN_VOICE, VoiceEncoder, mel_power, voiced
from affuse.testing import synthetic
from command import Run, caller


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


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache and no other folder with weights."""
    monkeypatch.delenv("AFFUSE_MODELS", raising=False)
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("nothing_here")
def test_a_missing_encoder_says_how_to_make_it() -> None:
    with pytest.raises(AssetError, match=r"is not here; make it with: affuse people setup"):
        VoiceEncoder().embed(synthetic.speech(seconds=2.0, pitch=140))
    with pytest.raises(AssetError, match=r"nobody serves speaker\.onnx; make it with: affuse people setup"):
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


@pytest.fixture
def affuse(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def test_weights_are_read_where_they_lie_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state, path = _state(), tmp_path / "pretrained.pt"
    end = max(offset + 4 * int(np.prod(shape)) for offset, shape in speaker_weights._ARRAYS.values())
    content = bytearray(end)
    for name, (offset, shape) in speaker_weights._ARRAYS.items():
        assert state[name].shape == shape
        assert not any(content[offset : offset + state[name].nbytes])  # no two of them share a byte
        content[offset : offset + state[name].nbytes] = state[name].tobytes()
    path.write_bytes(content)
    with pytest.raises(AssetError, match=r"pretrained\.pt is missing or has the wrong checksum"):
        speaker_weights.checkpoint(path)
    monkeypatch.setattr(speaker_weights, "_SHA256", weights.sha256_of(path))
    found = speaker_weights.checkpoint(path)
    assert found.keys() == state.keys()
    for name in state:
        np.testing.assert_array_equal(found[name], state[name])


def test_weights_of_the_package_are_those_that_torch_reads() -> None:
    torch = pytest.importorskip("torch", reason="torch is the reference")
    if find_spec("resemblyzer") is None:
        pytest.skip("Resemblyzer is not installed")
    theirs = torch.load(speaker_weights._installed(), map_location="cpu", weights_only=True)["model_state"]
    own = speaker_weights.checkpoint()
    assert own.keys() == {name for name in theirs if name.startswith(("lstm.", "linear."))}
    for name, values in own.items():
        np.testing.assert_array_equal(values, theirs[name].numpy())


def test_setup_makes_the_encoder_once(nothing_here: Path, affuse: Run) -> None:
    for library in ("onnx", "resemblyzer"):
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    first, again = (affuse("people", "setup") for _ in range(2))
    assert (first.code, again.code) == (0, 0)
    assert "speaker.onnx: made and checked (Apache-2.0)" in first.out
    assert "here already" in again.out
    assert weights.find("speaker") == nothing_here / "speaker.onnx"
    assert "Apache License" in (nothing_here / "speaker.LICENSE").read_text(encoding="utf-8")


def test_setup_says_what_is_missing(nothing_here: Path, monkeypatch: pytest.MonkeyPatch, affuse: Run) -> None:
    monkeypatch.setattr(speaker_weights, "find_spec", lambda _: None)
    found = affuse("people", "setup")
    assert found.code == 2
    assert "run: pip install --no-deps Resemblyzer" in found.err
    assert not nothing_here.exists()


def test_an_encoder_that_comes_out_wrong_is_not_written(nothing_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx", reason="onnx writes the file")
    monkeypatch.setattr(speaker_weights, "checkpoint", _state)
    with pytest.raises(AssetError, match="came out wrong: expected SHA-256 40a86598"):
        speaker_weights.make_encoder()
    assert not any(nothing_here.glob("*"))


def test_the_recipe_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from recipes import speaker

    monkeypatch.setattr(speaker_weights, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as stopped:
        speaker.main(["--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "pip install --no-deps Resemblyzer" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
