"""Networks that share tensors with others and keep a table in 6 bits: what they answer stays what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from affuse import weights
from affuse.errors import AssetError, ConfigError, DataError
from affuse.experts.text.language import PACKED, TOKENIZER, stored_tokenizer
from affuse.packages.folder import check_files

onnx = pytest.importorskip("onnx", reason="networks are changed by onnx (extra train)")
packing = pytest.importorskip("recipes.packing", reason="recipes lie in a checkout alone")
shared = pytest.importorskip("recipes.shared")

ROWS, WIDTH = 6000, 192


def lookup(table: np.ndarray, scale: float, bias: float) -> onnx.ModelProto:
    """A network that looks rows up in a table of 8 bits, and adds a number of its own."""
    helper, keep = onnx.helper, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["rows"]),
        helper.make_node("Add", ["rows", "bias"], ["out"]),
    ]
    arrays = {"table": table, "scale": np.float32(scale), "zero": np.uint8(128), "bias": np.float32(bias)}
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n", "t"])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", "t", WIDTH])],
        [keep(np.asarray(values), name) for name, values in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {TOKENIZER: '{"a": "标记"}', "languages": "[]"})
    return model


def table(seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(128, 25, (ROWS, WIDTH))
    return np.clip(np.round(drawn), 0, 255).astype(np.uint8)


def answer(path: Path, ids: np.ndarray) -> np.ndarray:
    return np.asarray(weights.session(path).run(["out"], {"ids": ids})[0])


def test_blocks_by_hand() -> None:
    block = np.zeros((1, 32), np.float32)
    block[0, [0, 9, 31]] = -32.0, 13.0, 31.0
    upper, lower, scales, step = packing.pack_blocks(block)
    assert upper.shape == (1, 1, 16)
    assert lower.shape == (1, 1, 8)
    # -32, 13 and 31 are levels 0, 45 and 63 of 6 bits: 0b000000, 0b101101 and 0b111111
    assert (upper[0, 0, 0] & 15, upper[0, 0, 9] & 15, upper[0, 0, 15] >> 4) == (0b0000, 0b1011, 0b1111)
    assert (lower[0, 0, 0] & 3, lower[0, 0, 1] >> 2 & 3, lower[0, 0, 7] >> 6) == (0b00, 0b01, 0b11)
    np.testing.assert_allclose(packing.unpacked(upper, lower, scales, step), block, atol=0.2)


def test_six_bits_cost_little() -> None:
    values = np.random.default_rng(1).normal(size=(500, 384)).astype(np.float32)
    error = packing.unpacked(*packing.pack_blocks(values)) - values
    assert (error**2).mean() / (values**2).mean() < 1e-3, "30 dB below"
    assert packing.unpacked(*packing.pack_blocks(np.zeros((2, 64)))).any() == 0


def test_the_packed_network_answers_as_its_table_says(tmp_path: Path) -> None:
    own = table()
    model = lookup(own, 0.01, 5.0)
    assert packing.pack_table(model) == "table"
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "packed.onnx")
    ids = np.array([[0, 17, ROWS - 1], [3, 3, 2]])
    expected = packing.unpacked(*packing.pack_blocks((own.astype(np.float32) - 128) * np.float32(0.01)))[ids] + 5
    np.testing.assert_allclose(answer(tmp_path / "packed.onnx", ids), expected, atol=1e-5)
    assert (tmp_path / "packed.onnx").stat().st_size < 0.8 * own.nbytes
    with pytest.raises(ConfigError, match="packed already"):
        packing.pack_table(model)


def test_the_tokenizer_comes_back_letter_by_letter() -> None:
    model = lookup(table(), 0.01, 0.0)
    before = {entry.key: entry.value for entry in model.metadata_props}
    packing.pack_tokenizer(model)
    packing.pack_tokenizer(model)  # twice is once
    after = {entry.key: entry.value for entry in model.metadata_props}
    assert set(after) == {PACKED, "languages"}
    assert stored_tokenizer(after) == stored_tokenizer(before) == before[TOKENIZER]
    for damaged in ("%%%", after[PACKED][:-8], "QUJD"):
        with pytest.raises(AssetError, match="cannot be unpacked"):
            stored_tokenizer({PACKED: damaged})


def test_networks_share_what_they_have_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"a.onnx": lookup(table(), 0.01, 1.0), "b.onnx": lookup(table(), 0.02, 2.0)}
    ids = np.array([[5, 6]])
    for name, model in models.items():
        onnx.save(model, tmp_path / f"whole_{name}")
        packing.pack_tokenizer(model)
    content = shared.share(list(models.values()), "base.bin")
    shared.write(models, content, tmp_path, "base.bin")
    assert content.startswith(table().tobytes())
    for model in models.values():
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert stored_tokenizer(facts, [tmp_path / "base.bin"]) == '{"a": "标记"}'
        with pytest.raises(AssetError, match="keeps no tensors in the file"):
            stored_tokenizer(facts, [tmp_path / "other.bin"])
    with pytest.raises(AssetError, match=r"keeps tensors in the file 'base\.bin', which has no checksum"):
        weights.session(tmp_path / "a.onnx")
    sha256 = weights.sha256_of(tmp_path / "base.bin")
    entries = {
        "base": weights.Shipped("base.bin", sha256, len(content), "1", "MIT"),
        "a": weights.Shipped("a.onnx", "", 0, "1", "MIT", beside=("base",)),
    }
    monkeypatch.setattr(weights, "manifest", lambda assets=None: entries)
    for name in models:
        assert (tmp_path / name).stat().st_size < 20_000
        np.testing.assert_array_equal(answer(tmp_path / name, ids), answer(tmp_path / f"whole_{name}", ids))
        assert weights.companions(tmp_path / name) == [tmp_path / "base.bin"]
    onnx.save(shared.read_whole(tmp_path / "a.onnx"), tmp_path / "again.onnx")
    facts = {item.key: item.value for item in onnx.load(tmp_path / "again.onnx").metadata_props}
    assert stored_tokenizer(facts) == '{"a": "标记"}'
    np.testing.assert_array_equal(answer(tmp_path / "again.onnx", ids), answer(tmp_path / "whole_a.onnx", ids))
    (tmp_path / "base.bin").write_bytes(bytes(len(content)))
    with pytest.raises(AssetError, match="has no checksum here"):
        weights.session(tmp_path / "a.onnx")


def test_a_package_keeps_the_file_that_its_networks_share(tmp_path: Path) -> None:
    """Also when affuse ships another version of that file by now: the package states its own checksum."""
    models = {"a.onnx": lookup(table(), 0.01, 1.0), "b.onnx": lookup(table(), 0.02, 2.0)}
    onnx.save(models["a.onnx"], tmp_path / "whole.onnx")
    content = shared.share(list(models.values()), "text_base.bin")
    shared.write(models, content, tmp_path, "text_base.bin")
    with pytest.raises(AssetError, match="has no checksum here"):
        weights.session(tmp_path / "a.onnx")
    check_files(tmp_path, {"text_base.bin": weights.sha256_of(tmp_path / "text_base.bin")})
    ids = np.array([[5, 6]])
    np.testing.assert_array_equal(answer(tmp_path / "a.onnx", ids), answer(tmp_path / "whole.onnx", ids))
    (tmp_path / "text_base.bin").write_bytes(bytes(len(content)))
    with pytest.raises(AssetError, match="has no checksum here"):
        weights.session(tmp_path / "a.onnx")


def test_networks_with_nothing_in_common_are_told() -> None:
    with pytest.raises(DataError, match="no large tensor in common"):
        shared.share([lookup(table(1), 0.01, 1.0), lookup(table(2), 0.01, 1.0)], "base.bin")


def test_a_network_that_is_shipped_refers_to_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship = pytest.importorskip("recipes.ship").ship
    models = {name: lookup(table(), 0.01 * i, 0.0) for i, name in enumerate(("a.onnx", "b.onnx"), 1)}
    for model in models.values():
        packing.pack_tokenizer(model)
    shared.write(models, shared.share(list(models.values()), "base.bin"), tmp_path / "made", "base.bin")
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "manifest.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(weights, "_assets", lambda: assets)
    ship(tmp_path / "made" / "base.bin", "base", "1", "MIT", assets, commercial="yes")
    ship(tmp_path / "made" / "a.onnx", "a", "1", "research use", assets, commercial="no", beside=["base"])
    onnx.save(lookup(table(), 0.03, 7.0), tmp_path / "c.onnx")
    onnx.save(lookup(table(5), 0.03, 7.0), tmp_path / "d.onnx")
    for name in ("c", "d"):
        ship(tmp_path / f"{name}.onnx", name, "1", "MIT", assets, commercial="yes", part="thing" * (name == "c"))
    entries = weights.manifest(assets)
    assert (entries["c"].beside, entries["c"].of_set, entries["c"].part) == (("base",), "commercial", "thing")
    assert entries["d"].beside == ()
    assert (assets / "c.onnx").stat().st_size < 20_000 < (assets / "d.onnx").stat().st_size
    facts = {item.key: item.value for item in onnx.load(assets / "c.onnx", load_external_data=False).metadata_props}
    assert stored_tokenizer(facts, [assets / "base.bin"]) == '{"a": "标记"}'
    ids = np.array([[5, 6]])
    path = weights.shipped("thing", assets, "commercial")
    np.testing.assert_array_equal(answer(path, ids), answer(tmp_path / "c.onnx", ids))
    copy = tmp_path / "copy.onnx"  # without the file that it refers to
    copy.write_bytes(path.read_bytes())
    np.testing.assert_array_equal(answer(copy, ids), answer(path, ids))
