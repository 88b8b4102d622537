"""Joint networks: equations done by hand, gaps, one batch learned by heart, and the estimator around them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="joint networks need the extra train (torch)")
pytest.importorskip("lightning", reason="joint networks need the extra train (lightning)")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402

from affuse.errors import AssetError, ConfigError, DataError, MissingExtraError  # noqa: E402
from affuse.fusion import networks as joint  # noqa: E402
from affuse.fusion.networks import NetworkFuser, catalogue, training  # noqa: E402
from affuse.fusion.networks.inputs import Scaling, Table, contexts_of, cut, step_counts  # noqa: E402
from affuse.fusion.networks.parts import masked_mean  # noqa: E402
from affuse.fusion.networks.sequences import BothWays, CrossModalBlock, SinusoidalPositions  # noqa: E402
from test_early import check_early_fuser, simulated  # noqa: E402

BLOCKS = {"text": slice(0, 6), "audio": slice(6, 10), "video": slice(10, 15)}
WIDTHS = {"audio": 4, "text": 6}
ROWS = [name for name in joint.names() if joint.reads(name) == "row"]


def inputs(name: str, n: int = 6, steps: int = 5, seed: int = 0) -> dict[str, Any]:
    """Random features and presence for a network: one gap a modality, and one row with the text alone."""
    draw = torch.Generator().manual_seed(seed)
    shape = (n,) if joint.reads(name) == "row" else (n, steps)
    features = {m: torch.randn(*shape, width, generator=draw) for m, width in WIDTHS.items()}
    present = {m: torch.ones(shape, dtype=torch.bool) for m in WIDTHS}
    present["audio"][1] = False
    present["text"][2] = False
    return {"features": features, "present": present}


def network(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return catalogue.find(name)(WIDTHS, 3, **options).eval()


@pytest.mark.parametrize("name", joint.names())
def test_forward(name: str) -> None:
    net, given = network(name), inputs(name)
    logits = net(**given)
    assert logits.shape == ((6, 5, 3) if joint.reads(name) == "context" else (6, 3))
    turned = {part: dict(reversed(values.items())) for part, values in given.items()}
    torch.testing.assert_close(net(**turned), logits, msg="modalities are named: their order must not matter")
    single = [
        net(**{part: {m: v[i : i + 1] for m, v in values.items()} for part, values in given.items()}) for i in range(6)
    ]
    torch.testing.assert_close(torch.cat(single), logits, atol=1e-5, rtol=1e-4, msg="a batch must equal its rows")
    broken = {m: v.masked_fill(~given["present"][m].unsqueeze(-1), float("nan")) for m, v in given["features"].items()}
    torch.testing.assert_close(net(broken, given["present"]), logits, msg="what is missing must not be read")
    nothing = {m: torch.zeros_like(p) for m, p in given["present"].items()}
    assert torch.isfinite(net(given["features"], nothing)).all()


@pytest.mark.parametrize("name", joint.names())
def test_learns_one_batch_by_heart(name: str) -> None:
    net, given = network(name, dropout=0.0).train(), inputs(name, n=12)
    logits = net(**given)
    targets = torch.arange(logits[..., 0].numel()) % 3
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(**given).flatten(0, -2), targets).backward()
        optimizer.step()
    answers = net.eval()(**given).flatten(0, -2).argmax(dim=1)
    # Utterances of which a modality is missing throughout can be told apart by their place alone.
    assert (answers == targets).float().mean() >= (1.0 if joint.reads(name) != "context" else 0.9)


def given_rows(**values: list[list[float]]) -> dict[str, Any]:
    features = {m: torch.tensor(v) for m, v in values.items()}
    return {"features": features, "present": {m: torch.ones(len(v), dtype=torch.bool) for m, v in values.items()}}


def identities(*names: str) -> dict[str, nn.Module]:
    return {name: nn.Identity() for name in names}


def test_tensor_fusion_by_hand() -> None:
    net = joint.TensorFusion({"a": 2, "b": 1}, 2, hidden=2, encoders=identities("a", "b")).eval()
    given = given_rows(a=[[2.0, 3.0]], b=[[5.0]])
    by_hand = [[2 * 5, 2 * 1, 3 * 5, 3 * 1, 1 * 5, 1.0]]  # [2 3 1] ⊗ [5 1]
    assert net.joint(**given).tolist() == by_hand
    given["present"]["b"][0] = False
    assert net.joint(**given).tolist() == [[0, 2, 0, 3, 0, 1]]
    with pytest.raises(ConfigError, match=r"4 modalities with hidden=40 needs 2825761 products; at most 1000000"):
        joint.TensorFusion(dict.fromkeys("abcd", 3), 2, hidden=40)


def test_low_rank_fusion_is_a_tensor_of_low_rank() -> None:
    names = ("a", "b", "c")
    options = {"hidden": 2, "encoders": identities(*names)}
    low = joint.LowRankFusion(dict.fromkeys(names, 2), 3, rank=2, **options).eval()
    full = joint.TensorFusion(dict.fromkeys(names, 2), 3, **options).eval()
    with torch.no_grad():
        low.bias.copy_(torch.tensor([0.1, 0.2, 0.3]))
        low.weights.copy_(torch.tensor([0.5, -2.0]))
    given = given_rows(
        **{name: torch.randn(4, 2, generator=torch.Generator().manual_seed(i)).tolist() for i, name in enumerate(names)}
    )
    a, b, c = (low.factors[name] for name in names)
    weight = torch.einsum("r,rik,rjk,rlk->ijlk", low.weights, a, b, c).reshape(27, 3)
    torch.testing.assert_close(low(**given), full.joint(**given) @ weight + low.bias)


def test_low_rank_fusion_by_hand() -> None:
    net = joint.LowRankFusion({"a": 1, "b": 1}, 1, rank=1, hidden=1, encoders=identities("a", "b")).eval()
    with torch.no_grad():
        net.factors["a"].copy_(torch.tensor([[[2.0], [1.0]]]))
        net.factors["b"].copy_(torch.tensor([[[3.0], [-1.0]]]))
        net.bias.copy_(torch.tensor([0.5]))
    assert net(**given_rows(a=[[4.0]], b=[[2.0]])).item() == (2 * 4 + 1) * (3 * 2 - 1) + 0.5


def test_gated_unit_by_hand() -> None:
    net = joint.GatedMultimodalUnit({"a": 1, "b": 1}, 2, hidden=1).eval()
    with torch.no_grad():
        net.states["a"].weight.fill_(0.5)
        net.states["b"].weight.fill_(-1.0)
        net.gates["a"].weight.copy_(torch.tensor([[1.0, 2.0]]))
        net.gates["b"].weight.copy_(torch.tensor([[0.0, 1.0]]))
    given = given_rows(a=[[2.0]], b=[[1.0]])
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    by_hand = sigmoid(1 * 2 + 2 * 1) * np.tanh(0.5 * 2) + sigmoid(1.0) * np.tanh(-1.0)
    assert net.joint(**given).item() == pytest.approx(by_hand, abs=1e-6)
    given["present"]["b"][0] = False
    assert net.joint(**given).item() == pytest.approx(sigmoid(2.0) * np.tanh(1.0), abs=1e-6)


def test_late_fusion_starts_as_a_sum_of_logits() -> None:
    net = joint.LateFusion({"a": 2, "b": 2}, 2, hidden=2, encoders=identities("a", "b")).eval()
    with torch.no_grad():
        for head, scale in zip(net.heads.values(), (1.0, 10.0), strict=True):
            head.weight.copy_(scale * torch.eye(2))
            head.bias.fill_(0.5)
        net.fusion.weight[0, 5] = -100.0  # the indicator that b is missing, for the first label
    given = given_rows(a=[[1.0, 2.0]], b=[[3.0, 4.0]])
    assert net(**given).tolist() == [[1 + 0.5 + 30 + 0.5, 2 + 0.5 + 40 + 0.5]]
    given["present"]["b"][0] = False
    assert net(**given).tolist() == [[1.5 - 100, 2.5]]


def test_autoencoder_by_hand() -> None:
    net = joint.MultimodalAutoencoder({"a": 2, "b": 2}, 2, hidden=2, encoders=identities("a", "b"), weight=3.0).eval()
    given = given_rows(a=[[1.0, 3.0]], b=[[3.0, 7.0]])
    assert net.joint(**given).tolist() == [[2, 5]]
    for name in ("a", "b"):
        net.decoders[name] = nn.Identity()
    assert net.penalty(given["features"], given["present"], given["present"]).item() == 3 * (1 + 4 + 1 + 4) / 4
    kept = {"a": given["present"]["a"], "b": ~given["present"]["b"]}
    assert net.penalty(given["features"], given["present"], kept).item() == 3 * (0 + 0 + 4 + 16) / 4
    assert net.penalty(given["features"], kept, kept).item() == 0, "what was never there is not reconstructed"


def test_crossmodal_block_by_hand() -> None:
    block = CrossModalBlock(hidden=2, heads=1, dropout=0.0).eval()
    with torch.no_grad():
        block.attention.in_proj_weight.copy_(torch.eye(2).repeat(3, 1))
        block.attention.out_proj.weight.copy_(torch.eye(2))
        for layer in (block.feed[0], block.feed[3]):
            layer.weight.zero_()
            layer.bias.zero_()
    target, source = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 0.0], [0.0, 4.0], [9.0, 9.5]]])
    present = torch.tensor([[True, True, False]])
    # Layer norm turns two numbers into ±1 (nearly): the query is (-1, 1), the keys (1, -1) and (-1, 1).
    weights = np.exp(np.array([-2.0, 2.0]) / np.sqrt(2))
    found = weights / weights.sum() @ np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(block(target, source, present)[0, 0].detach(), [1 + found[0], 3 + found[1]], atol=1e-4)
    torch.testing.assert_close(block(target, source, torch.zeros_like(present)), target, msg="no step: x stays")


def test_positions_by_hand() -> None:
    code = SinusoidalPositions()(torch.zeros(1, 3, 4))[0, 2]
    np.testing.assert_allclose(code, [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], atol=1e-6)


def test_masked_mean_by_hand() -> None:
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[1.0], [1.0], [1.0]]])
    present = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, present).tolist() == [[2.0], [0.0]]


def test_both_ways_is_the_packed_lstm_of_torch() -> None:
    torch.manual_seed(0)
    reference = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    ours = BothWays(3, 4)
    ours.ahead.load_state_dict({k: v for k, v in reference.state_dict().items() if "reverse" not in k})
    reverse = {k.removesuffix("_reverse"): v for k, v in reference.state_dict().items() if "reverse" in k}
    ours.back.load_state_dict(reverse)
    x, lengths = torch.randn(3, 6, 3), torch.tensor([6, 2, 4])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(reference(packed)[0], batch_first=True)
    real = torch.arange(6) < lengths.unsqueeze(1)
    torch.testing.assert_close(ours(x, lengths)[real], expected[real])
    torch.testing.assert_close(ours(x, None), reference(x)[0])


@pytest.mark.parametrize("name", ["contextual", "contextual_attention"])
def test_padding_of_short_contexts_changes_nothing(name: str) -> None:
    net, given = network(name), inputs(name, n=3)
    whole = net(
        **{part: {m: v[:1, :3] for m, v in values.items()} for part, values in given.items()}, lengths=torch.tensor([3])
    )
    for present in given["present"].values():
        present[0, 3:] = False
    padded = net(**given, lengths=torch.tensor([3, 5, 5]))
    torch.testing.assert_close(padded[:1, :3], whole, atol=1e-5, rtol=1e-4)


def test_modality_dropout_leaves_something() -> None:
    torch.manual_seed(0)
    present = {
        "a": torch.ones(4000, dtype=torch.bool),
        "b": torch.arange(4000) % 2 == 0,
        "c": torch.zeros(4000, dtype=torch.bool),
    }
    kept = training.drop_modalities(present, 0.3, per_step=False)
    assert (kept["a"] | kept["b"]).all()
    assert not kept["c"].any()
    assert not (kept["b"] & ~present["b"]).any()
    assert kept["a"][~present["b"]].all(), "the last modality of a row stays"
    both = present["b"]
    # Both are dropped, and then both restored, with probability 0.09.
    assert kept["a"][both].float().mean().item() == pytest.approx(0.7 + 0.09, abs=0.03)
    steps = {"a": torch.ones(500, 7, dtype=torch.bool), "b": torch.ones(500, 3, dtype=torch.bool)}
    whole = training.drop_modalities(steps, 0.5, per_step=False)
    assert all((v.all(dim=1) | ~v.any(dim=1)).all() for v in whole.values()), "a modality goes with all of its steps"


def test_batches_cover_every_row_once_and_shares_of_devices_are_even() -> None:
    table = Table({"a": np.arange(10, dtype=np.float32)[:, None]}, {"a": np.ones(10, dtype=bool)})
    seen = [
        [b["targets"].tolist() for b in training.Batches(table, np.arange(10), 3, seed=1, epoch=lambda e=e: e)]
        for e in (0, 0, 1)
    ]
    assert sorted(target for batch in seen[0] for target in batch) == list(range(10))
    assert seen[0] == seen[1] != seen[2]
    halves = [list(training.Batches(table, np.arange(10), 3, rank=r, world=2)) for r in (0, 1)]
    assert [len(h) for h in halves] == [2, 2]
    assert sorted(t for h in halves for b in h for t in b["targets"].tolist()) == list(range(10))
    contexts = [np.array([4, 0]), np.array([7]), np.array([1, 2, 3])]
    batch = next(iter(training.Batches(table, np.arange(10), 3, contexts)))
    assert batch["targets"].tolist() == [[4, 0, -1], [7, -1, -1], [1, 2, 3]]
    assert batch["inputs"]["features"]["a"][..., 0][batch["targets"] >= 0].tolist() == [4, 0, 7, 1, 2, 3]
    assert batch["inputs"]["present"]["a"].sum(dim=1).tolist() == batch["inputs"]["lengths"].tolist() == [2, 1, 3]


def test_contexts_keep_the_order_of_rows_and_groups() -> None:
    groups = np.array(["z", "a", "z", "b", "a"])
    assert [c.tolist() for c in contexts_of(groups, 5)] == [[0, 2], [1, 4], [3]]
    assert [c.tolist() for c in contexts_of(None, 2)] == [[0], [1]]


def test_steps_are_cut_and_scaled() -> None:
    layout = {"a": np.array([0, 1, 2, 3])}
    values = cut(np.array([[1.0, 10, 3, 30], [5, 50, np.nan, np.nan]]), layout, {"a": 2})
    assert values["a"][0].tolist() == [[1, 10], [3, 30]]
    table = Scaling.of(values).apply(values)
    root = np.sqrt(8 / 3)  # deviation of 1, 3, 5
    np.testing.assert_allclose(table.features["a"][..., 0], [[-2 / root, 0], [2 / root, 0]], rtol=1e-6)
    assert table.present["a"].tolist() == [[True, True], [True, False]]
    with pytest.raises(DataError, match="row 0, block 'a', step 1: 1 of 2 features are NaN"):
        cut(np.array([[1.0, 2.0, np.nan, 4.0]]), layout, {"a": 2})
    with pytest.raises(ConfigError, match="the block 'a' has 4 columns, which are not 3 steps"):
        step_counts(layout, 3)


def quick(name: str = "low_rank", **parameters: Any) -> NetworkFuser:
    return NetworkFuser(BLOCKS, name, **{"max_epochs": 12, "learning_rate": 1e-2, **parameters})


def test_contract_of_a_network() -> None:
    check_early_fuser(quick("gated"), 15)


@pytest.mark.parametrize("name", [*ROWS, "cnn_lstm", "cross_attention"])
def test_every_network_learns_and_answers_with_gaps(name: str) -> None:
    X, y, groups = simulated()
    fuser = quick(name, max_epochs=8).fit(X[:160], y[:160], groups=groups[:160])
    assert fuser.score(X[160:], y[160:]) > 0.55, "chance is 0.33"
    gap = X[160:].copy()
    gap[:, BLOCKS["audio"]] = np.nan
    gap[0] = np.nan
    P = fuser.predict_proba(gap)
    assert np.isnan(P[0]).all()
    np.testing.assert_allclose(P[1:].sum(axis=1), 1.0, atol=1e-9)
    assert (fuser.predict(gap)[1:] == y[161:]).mean() > 0.45


@pytest.mark.parametrize("name", ["contextual", "contextual_attention"])
def test_context_helps_where_neighbours_tell_the_label(name: str) -> None:
    rng = np.random.default_rng(0)
    groups, place = np.repeat(np.arange(160), 5), np.tile(np.arange(5), 160)
    y = np.repeat(rng.integers(2, size=160), 5)
    X = rng.normal(size=(800, 4))
    X[place == 2, 0] += 8 * y[place == 2] - 4  # one utterance of a video gives it away
    shuffled = rng.permutation(160)
    fit, held_out = np.isin(groups, shuffled[:120]), np.isin(groups, shuffled[120:])
    fuser = NetworkFuser({"a": slice(0, 2), "b": slice(2, 4)}, name, max_epochs=12, learning_rate=1e-2, dropout=0.1)
    with pytest.raises(
        ConfigError, match=f"the network '{name}' reads rows in the context of their group; give groups"
    ):
        fuser.fit(X, y)
    fuser.fit(X[fit], y[fit], groups=groups[fit])
    others = held_out & (place != 2)
    in_context = fuser.predict(X[held_out], groups=groups[held_out]) == y[held_out]
    assert in_context[place[held_out] != 2].mean() > 0.8
    assert (fuser.predict(X[others]) == y[others]).mean() < 0.65, "alone, these rows say nothing"


def test_scikit_learn_tools() -> None:
    X, y, groups = simulated()
    fuser = quick("gated", max_epochs=6)
    assert clone(fuser).get_params() == fuser.get_params()
    assert cross_val_score(fuser, X, y, groups=groups, cv=GroupKFold(2)).mean() > 0.5
    search = GridSearchCV(fuser, {"learning_rate": [1e-7, 1e-2]}, cv=2).fit(X, y)
    assert search.best_params_ == {"learning_rate": 1e-2}


def test_seeds_decide_and_the_global_state_stays() -> None:
    X, y, _ = simulated()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = quick("gated", max_epochs=2).fit(X, y).predict_proba(X)
    assert torch.equal(torch.rand(3), expected), "fitting must leave torch's random state as it was"
    torch.manual_seed(77)
    np.testing.assert_array_equal(quick("gated", max_epochs=2).fit(X, y).predict_proba(X), first)
    assert (quick("gated", max_epochs=2, random_state=1).fit(X, y).predict_proba(X) != first).any()


def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    X, y, groups = simulated()
    whole = quick("gated", max_epochs=5).fit(X, y, groups=groups)
    quick("gated", max_epochs=2, checkpoints=tmp_path / "c").fit(X, y, groups=groups)
    resumed = quick("gated", max_epochs=5, checkpoints=tmp_path / "c").fit(X, y, groups=groups)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert resumed.best_epoch_ == whole.best_epoch_
    with pytest.raises(ConfigError, match="holds checkpoints of other data or parameters"):
        quick("gated", max_epochs=5, checkpoints=tmp_path / "c").fit(X + 1, y, groups=groups)
    with pytest.raises(ConfigError, match="holds checkpoints of other data or parameters"):
        quick("gated", max_epochs=5, checkpoints=tmp_path / "c").fit(X, y, groups=groups // 2)


def test_training_killed_in_the_middle_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, groups = simulated()
    whole = quick("gated", max_epochs=5).fit(X, y, groups=groups)

    class KilledError(Exception):
        pass

    def kill(self: Any) -> None:
        if self.current_epoch == 3:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "on_train_epoch_end", kill)
        with pytest.raises(KilledError):
            quick("gated", max_epochs=5, checkpoints=tmp_path).fit(X, y, groups=groups)
    last, before, *others = sorted(tmp_path.iterdir(), reverse=True, key=lambda p: p.name.startswith("epoch-"))
    assert [p.name for p in others] == ["fit.json"]
    epochs = {torch.load(path, weights_only=True)["epoch"] for path in (last, before)}
    assert epochs == {1, 2}, "the last whole epochs, counted from 0"
    resumed = quick("gated", max_epochs=5, checkpoints=tmp_path).fit(X, y, groups=groups)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


def test_early_stopping_keeps_the_best_epoch() -> None:
    X, _, groups = simulated()
    noise = np.random.default_rng(5).integers(3, size=len(X))
    fuser = quick("gated", max_epochs=60, patience=3, learning_rate=0.03, dropout=0.0).fit(X, noise, groups=groups)
    assert fuser.best_epoch_ < 20, "there is nothing to learn"
    assert quick("gated", validation_share=0.0, max_epochs=1).fit(X, noise).best_epoch_ is None


@pytest.mark.parametrize("name", ["autoencoder", "cross_attention"])
def test_round_trip_to_disk(name: str, tmp_path: Path) -> None:
    X, y, groups = simulated()
    X[3:9, BLOCKS["video"]] = np.nan
    labels = np.array(["angry", "happy", "sad"])[y]
    fuser = quick(name, max_epochs=1).fit(X, labels, groups=groups)
    joint.save(fuser, tmp_path / "net")
    assert sorted(p.name for p in (tmp_path / "net").iterdir()) == ["network.json", "network.safetensors"]
    loaded = joint.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded.predict_proba(X), fuser.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X * np.nan), fuser.predict(X * np.nan))
    with pytest.raises(AssetError, match="does not hold a network saved by affuse"):
        joint.load(tmp_path)
    (tmp_path / "net" / "network.safetensors").write_bytes(b"broken")
    with pytest.raises(AssetError, match="does not hold a network saved by affuse"):
        joint.load(tmp_path / "net")


def test_encoders_are_trained_along(tmp_path: Path) -> None:
    X, y, groups = simulated()
    own = {"text": nn.Sequential(nn.Linear(6, 8), nn.Tanh())}
    before = own["text"][0].weight.clone()
    fuser = quick("late", encoders=own, hidden=8, max_epochs=4).fit(X, y, groups=groups)
    assert torch.equal(own["text"][0].weight, before), "the user's module stays as it was"
    assert not torch.equal(fuser.network_.encoders["text"][0].weight, before)
    joint.save(fuser, tmp_path)
    with pytest.raises(AssetError, match="it needs encoders for text"):
        joint.load(tmp_path)
    loaded = joint.load(tmp_path, encoders=own)
    np.testing.assert_array_equal(loaded.predict_proba(X), fuser.predict_proba(X))
    with pytest.raises(ConfigError, match="encoders name 'smell', but the modalities are audio, text, video"):
        quick("late", encoders={"smell": nn.Identity()}).fit(X, y)


def test_autoencoder_reconstructs_and_learns_from_unlabelled_rows() -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(600, 2))
    X = np.concatenate([factor @ rng.normal(size=(2, 3)) * 5 + 9, factor @ rng.normal(size=(2, 4))], axis=1)
    y = (factor[:, 0] > 0).astype(int)
    blocks = {"a": slice(0, 3), "b": slice(3, 7)}
    fuser = NetworkFuser(blocks, "autoencoder", dropout=0.0, learning_rate=1e-2, modality_dropout=0.4, max_epochs=25)
    fuser.fit(X[:60], y[:60], unlabelled=X[60:500])
    gap = X[500:].copy()
    gap[:, :3] = np.nan
    gap[0] = np.nan
    filled = fuser.reconstruct(gap)
    assert np.isnan(filled[0]).all()
    np.testing.assert_array_equal(filled[1:, 3:], X[501:, 3:], err_msg="what is there stays")
    left = ((filled[1:, :3] - X[501:, :3]) ** 2).mean() / X[501:, :3].var(axis=0).mean()
    assert left < 0.2, "share of the variance that is not explained"
    with pytest.raises(ConfigError, match="only the autoencoder learns from unlabelled rows; this is 'late'"):
        quick("late").fit(*simulated()[:2], unlabelled=simulated()[0])
    with pytest.raises(ConfigError, match="only the autoencoder reconstructs"):
        quick("gated", max_epochs=1).fit(*simulated()[:2]).reconstruct(simulated()[0])


def test_csv_logger_writes_losses(tmp_path: Path) -> None:
    X, y, _ = simulated(60)
    quick("gated", max_epochs=2, logger="csv", log_folder=tmp_path).fit(X, y)
    (metrics,) = tmp_path.rglob("metrics.csv")
    header, *lines = metrics.read_text().splitlines()
    assert {"train_loss", "val_loss"} <= set(header.split(","))
    assert len(lines) == 4
    with pytest.raises(ConfigError, match="unknown logger 'paper'; known: csv, tensorboard, wandb"):
        quick(logger="paper").fit(X, y)


def test_wrong_parameters_are_named() -> None:
    X, y, _ = simulated(60)
    for parameters, message in (
        ({"name": "transformer"}, "unknown network 'transformer'; known: autoencoder, cnn_lstm"),
        ({"modality_dropout": 1.0}, "modality_dropout must be at least 0 and below 1; got 1.0"),
        ({"max_epochs": 0}, "max_epochs must be at least 1; got 0"),
        ({"options": {"rnak": 2}}, "the network 'low_rank' does not take these options: .*rnak"),
        ({"name": "cross_attention", "hidden": 6}, "hidden must be a multiple of heads; got hidden=6 and heads=4"),
    ):
        with pytest.raises(ConfigError, match=message):
            quick(**parameters).fit(X, y)
    with pytest.raises(ConfigError, match=r"cannot name a modality 'a\.b'"):
        NetworkFuser({"a.b": slice(0, 3)}, "late").fit(X, y)
    with pytest.raises(DataError, match="X has 60 rows, but groups has the shape"):
        quick("gated").fit(X, y, groups=np.arange(3))


def test_half_precision_and_quiet_output(capfd: pytest.CaptureFixture[str]) -> None:
    X, y, _ = simulated()
    fuser = quick("gated", precision="bf16-mixed", max_epochs=6).fit(X, y)
    assert fuser.score(X, y) > 0.5
    assert capfd.readouterr() == ("", ""), "nothing is printed where nobody looks"


def test_without_torch_the_extra_is_named() -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': raise ModuleNotFoundError('No module named torch', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from affuse.fusion import NetworkFuser\n"
        "import affuse.fusion.networks as n\n"
        "from affuse.errors import MissingExtraError\n"
        "for act in (lambda: n.TensorFusion, lambda: NetworkFuser({'a': [0]}).fit([[1.0], [2.0]], [0, 1])):\n"
        "    try: act()\n"
        "    except MissingExtraError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["torch is not installed; run: pip install 'affuse[train]'"] * 2


def test_every_public_name_leads_somewhere_and_names_its_paper() -> None:
    assert all(getattr(joint, name) is not None for name in joint.__all__)
    for name in joint.names():
        kind = catalogue.find(name)
        assert getattr(joint, kind.__name__) is kind
        assert any(source in kind.__doc__ for source in ("arXiv:", "doi:", "ICML")), name
        assert "Gaps:" in kind.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'Transformer'"):
        joint.Transformer  # noqa: B018 - the access is what is tested
    assert issubclass(MissingExtraError, ImportError)
    assert importlib.import_module("affuse.fusion.networks.catalogue").names() == joint.names()


def tiny_setting() -> Any:
    from research.compare_networks import Setting, Task

    X, y, groups = simulated()
    task = Task(np.arange(160), np.arange(160, 240))
    return Setting("tiny", X, y, groups, BLOCKS, lambda seed: [task])


def test_comparison_measures_every_family_on_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from affuse.fusion.early import Concatenation
    from research import compare_networks

    setting = tiny_setting()
    families = {name: family for name, (family, _) in compare_networks._methods(setting).items()}
    assert set(families.values()) == {"single", "early", "late", "joint"}
    everything = compare_networks._methods(setting)
    chosen = {name: everything[name] for name in ("only text", "concatenation, logistic", "experts, log_pool")}
    chosen["gated"] = ("joint", lambda s, seed: quick("gated", max_epochs=3, random_state=seed))
    monkeypatch.setattr(compare_networks, "_methods", lambda s: chosen)
    found = {(o.method, o.share): o for o in compare_networks.compare(setting, [0, 1], [0.5, 1.0])}
    assert len(found) == 8
    X, y = setting.X, setting.y
    by_hand = Concatenation(BLOCKS).fit(X[:160], y[:160]).score(X[160:], y[160:])
    outcome = found["concatenation, logistic", 1.0]
    assert outcome.accuracy == pytest.approx(by_hand)
    assert outcome.ci95[0] < by_hand < outcome.ci95[1]
    assert found["experts, log_pool", 1.0].accuracy >= found["only text", 1.0].accuracy


def test_shares_are_whole_groups() -> None:
    from research.compare_networks import _share_of

    groups = np.repeat(np.arange(20), 3)
    drawn = _share_of(np.arange(60), groups, 0.25, seed=0)
    assert sorted(np.bincount(groups[drawn], minlength=20).tolist()) == [0] * 15 + [3] * 5
    np.testing.assert_array_equal(_share_of(np.arange(60), groups, 1.0, seed=0), np.arange(60))


@pytest.mark.data
def test_utterances_of_mosi_are_read_in_the_order_of_time(data: Path) -> None:
    import pandas as pd

    from research.compare_networks import mosi

    setting = mosi(data, "words")
    (task,) = setting.tasks(0)
    assert not set(setting.groups[task.train]) & set(setting.groups[task.test])
    # In the files a video's positive utterances come first, so that a row's place gives its label away.
    in_files = pd.read_csv(data / "mosi" / "train_utterances.csv")
    sorted_by_label = in_files.groupby("video")["label"].apply(lambda labels: labels.is_monotonic_decreasing)
    changes = [np.abs(np.diff(setting.y[setting.groups == video])).mean() for video in np.unique(setting.groups)]
    assert sorted_by_label.mean() > 0.9
    assert np.nanmean(changes) > 0.2
