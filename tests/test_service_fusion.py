"""Fusion over HTTP: numbers or files in, the same answer as the library's out."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the tests of the service ask it by httpx (extra dev)")

from affuse.data.predictions import join, read_predictions, read_targets
from affuse.evaluation.comparison import AUTO
from affuse.evaluation.fused_tables import fuse_predictions, methods_without_labels
from serving import LocalService

LABELS = ["anger", "happiness", "neutral"]
FACE = [[0.1, 0.8, 0.1], None, None]
VOICE = [[0.7, 0.1, 0.2], [0.2, 0.2, 0.6], None]


def test_a_product_worked_out_by_hand(service: LocalService) -> None:
    answer = service.http.post(
        "/v1/fuse",
        json={"labels": LABELS, "predictions": {"face": FACE, "voice": VOICE}, "ids": ["a", "b", "c"]},
    ).json()
    assert (answer["method"], answer["modalities"], answer["labels"]) == ("product", {"face": 1, "voice": 2}, LABELS)
    first, second, third = answer["rows"]
    # 0.1·0.7, 0.8·0.1 and 0.1·0.2 are 0.07, 0.08 and 0.02: of 0.17 in all
    assert [first[label] for label in LABELS] == pytest.approx([7 / 17, 8 / 17, 2 / 17])
    assert (first["id"], first["label"], first["confidence"]) == ("a", "happiness", pytest.approx(8 / 17))
    assert 0 < first["conflict"] <= 1
    gain = np.log((8 / 17) / (9 / 17)) - np.log((1 / 3) / (2 / 3))
    assert first["share_face"] + first["share_voice"] == pytest.approx(gain)
    assert [second[label] for label in LABELS] == pytest.approx([0.2, 0.2, 0.6])
    assert (second["label"], second["conflict"]) == ("neutral", None)
    assert [third[key] for key in (*LABELS, "label", "confidence", "conflict")] == [None] * 6


def _tables(n: int = 60) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, n)
    tables = {}
    for name, sharpness in {"face": 1.5, "voice": 0.7}.items():
        scores = np.exp(rng.normal(size=(n, 3)) + sharpness * np.eye(3)[truth])
        P = scores / scores.sum(axis=1, keepdims=True)
        tables[name] = pd.DataFrame(P, columns=LABELS).assign(id=[f"r{i}" for i in range(n)])
    groups = [f"speaker {i % 6}" for i in range(n)]
    tables["truth"] = pd.DataFrame(
        {"id": [f"r{i}" for i in range(n)], "label": [LABELS[t] for t in truth], "group": groups}
    )
    return tables


def _upload(service: LocalService, tables: dict[str, pd.DataFrame], names: list[str], **data: str) -> Any:
    files = [("files", (f"{name}.csv", tables[name].to_csv(index=False))) for name in names]
    if "truth" in tables:
        files.append(("truth", ("truth.csv", tables["truth"].to_csv(index=False))))
    return service.http.post("/v1/fuse/files", files=files, data=data)


def test_files_give_what_the_functions_give(service: LocalService, tmp_path: Any) -> None:
    tables = _tables()
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    predictions = join(
        [read_predictions(tmp_path / f"{name}.csv", modality=name) for name in ("face", "voice")],
        read_targets(tmp_path / "truth.csv"),
    )
    expected = fuse_predictions(predictions, "mean").to_frame()
    answer = _upload(service, tables, ["face", "voice"], method="mean")
    assert answer.status_code == 200, answer.text
    got = pd.DataFrame(answer.json()["rows"])
    pd.testing.assert_frame_equal(got, expected, check_dtype=False, rtol=1e-12)
    assert answer.json()["compared"] is None


def test_numbers_and_parquet_give_the_same_as_csv(service: LocalService) -> None:
    tables = _tables()
    del tables["truth"]
    by_csv = _upload(service, tables, ["face", "voice"]).json()["rows"]
    parquet = {name: BytesIO() for name in tables}
    for name, table in tables.items():
        table.to_parquet(parquet[name])
    files = [("files", (f"{name}.parquet", content.getvalue())) for name, content in parquet.items()]
    for row, other in zip(service.http.post("/v1/fuse/files", files=files).json()["rows"], by_csv, strict=True):
        assert row == pytest.approx(other)
    numbers = {
        "labels": LABELS,
        "predictions": {name: table[LABELS].values.tolist() for name, table in tables.items()},
        "ids": tables["face"]["id"].tolist(),
    }
    for row, other in zip(service.http.post("/v1/fuse", json=numbers).json()["rows"], by_csv, strict=True):
        assert row == pytest.approx(other)


def test_a_comparison_ranks_every_rule_beside_every_modality(service: LocalService) -> None:
    answer = _upload(service, _tables(), ["face", "voice"], method="product", compare="true")
    assert answer.status_code == 200, answer.text
    compared = answer.json()["compared"]
    assert {row["method"] for row in compared if row["method"]} == {*methods_without_labels(), AUTO}
    assert {row["modality"] for row in compared if row["modality"]} == {"face", "voice"}
    accuracies = [row["accuracy"] for row in compared]
    assert accuracies == sorted(accuracies, reverse=True)
    face = next(row["accuracy"] for row in compared if row["modality"] == "face")
    tables = _tables()
    right = tables["face"][LABELS].values.argmax(axis=1) == [LABELS.index(t) for t in tables["truth"]["label"]]
    assert face == pytest.approx(100 * right.mean()) or face == pytest.approx(right.mean())


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"labels": ["a", "a", "b"]}, 422, "a label is named twice"),
        ({"labels": ["a"]}, 422, "labels: "),
        ({"predictions": {}}, 422, "predictions: "),
        ({"predictions": {"face": []}}, 422, "there are no rows to fuse"),
        ({"predictions": {"face": [[0.5, 0.5]]}}, 422, "face, row 0: 2 probabilities for 3 labels"),
        ({"predictions": {"face": [[0.5, 0.6, 0.1]]}}, 422, "face, row 0: the probabilities sum to 1.2, not to 1"),
        ({"predictions": {"face": [[2, 0, 0]]}}, 422, "predictions.face.0.0: "),
        ({"predictions": {"face": FACE, "voice": VOICE[:2]}}, 422, "all parts need 3 rows"),
        ({"ids": ["a", "a", "a"]}, 422, "ids must be unique"),
        ({"method": "magic"}, 400, ""),
        ({"method": "stacking"}, 400, "stacking learns from true labels"),
        ({"extra": 1}, 422, "extra: Extra inputs are not permitted"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    service: LocalService, change: dict[str, Any], status: int, sentence: str
) -> None:
    good = {"labels": LABELS, "predictions": {"face": FACE, "voice": VOICE}}
    refused = service.http.post("/v1/fuse", json=good | change)
    assert refused.status_code == status, refused.text
    assert refused.json()["detail"].startswith(sentence)


def test_a_broken_table_is_named_as_the_client_named_it(service: LocalService) -> None:
    files = [("files", ("../../mine.csv", b"id,anger\na,not a number\n"))]
    refused = service.http.post("/v1/fuse/files", files=files)
    assert refused.status_code == 422
    assert "mine.csv" in refused.json()["detail"]
    assert "/" not in refused.json()["detail"]
    assert service.http.post("/v1/fuse/files", files={"wrong": ("a.csv", b"")}).status_code == 422
    garbage = service.http.post("/v1/fuse/files", files=[("files", ("a.parquet", b"\0" * 100))])
    assert garbage.status_code == 422


def test_a_flood_of_wrong_numbers_is_refused_at_the_first(service: LocalService) -> None:
    body = b'{"labels": ["a", "b"], "predictions": {"face": [[' + b"2," * 500_000 + b"2]]}}"
    refused = service.http.post("/v1/fuse", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
