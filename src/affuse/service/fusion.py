"""``POST /v1/fuse``: predictions in, fused out, in the same answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Annotated, Any, Optional, TypeVar

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.datastructures import FormData, UploadFile

from affuse.budget import within_budget
from affuse.data.predictions import (
    ModalityTable,
    Predictions,
    Targets,
    join,
    read_predictions,
    read_targets,
)
from affuse.errors import DataError
from affuse.evaluation.comparison import AUTO, compare_fusers
from affuse.evaluation.fused_tables import fuse_predictions, methods_without_labels
from affuse.evaluation.protocol import Protocol, group_folds, rows_of
from affuse.fusion import registry
from affuse.purpose import Purpose
from affuse.service.metrics import Metrics
from affuse.service.storage import Storage, staging_folder
from affuse.service.uploads import BODY_REFUSALS, display_name, form_content, read_form

__all__ = ["FuseRequest", "make_router"]

_SUFFIXES = (".csv", ".tsv", ".parquet")
_FOLDS = 5
_MOST_CELLS = 2_000_000  # numbers in a request
_Table = TypeVar("_Table", ModalityTable, Targets)
_Numbers = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(max_length=1000, fail_fast=True)]
_Rows = Annotated[list[Optional[_Numbers]], Field(fail_fast=True)]  # noqa: UP045  metadata is not hashable


class FuseRequest(BaseModel, extra="forbid"):
    """Predictions of several models on the same rows."""

    labels: list[str] = Field(min_length=2, max_length=1000, examples=[["anger", "happiness", "neutral"]])
    predictions: dict[str, _Rows] = Field(
        min_length=1,
        max_length=64,
        description="By modality one row of probabilities an item, in the order of `labels`; null where a modality "
        "has no evidence.",
        examples=[{"face": [[0.1, 0.8, 0.1], None], "voice": [[0.7, 0.1, 0.2], [0.2, 0.2, 0.6]]}],
    )
    ids: list[str] | None = Field(None, description="Names of the rows; numbers from 0 where absent.")
    targets: list[str | None] | None = Field(None, description="True labels to learn from, null where unknown.")
    groups: list[str] | None = Field(None, description="Speaker or video of every row: never split.")
    method: str | None = Field(
        None,
        description="How to fuse; `auto` where there are targets, `product` where not. GET /v1/models lists all.",
        examples=["product"],
    )


class FusedAnswer(BaseModel):
    """One fused row an item."""

    method: str
    chosen: str = Field(description="What the method came down to.")
    labels: list[str]
    modalities: dict[str, int] = Field(description="Rows with evidence, by modality.")
    rows: list[dict[str, Any]] = Field(
        description="id, one probability a label, label, confidence, conflict (0…1) and share_MODALITY (log-odds); "
        "null where there is no evidence."
    )
    compared: list[dict[str, Any]] | None = Field(
        default=None,
        description="Accuracy of every rule on the labelled rows, cross-validated; only where it was asked for.",
    )
    purpose: str | None = Field(default=None, description="What the service is declared to be for.")
    exemption: str | None = Field(default=None, description="Why it may be, where the law forbids it otherwise.")


_FORM = {
    "requestBody": {
        "required": True,
        "content": form_content(
            "files",
            {
                "files": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
                "truth": {"type": "string", "format": "binary", "description": "Table of true labels by id."},
                "method": {"type": "string"},
                "compare": {"type": "string", "enum": ["true", "false"]},
            },
        ),
    }
}


def make_router(metrics: Metrics, purpose: Purpose, storage: Storage) -> APIRouter:
    """The routes of fusion, whose answers state the purpose."""
    router = APIRouter(prefix="/v1/fuse", tags=["fusion"])

    @router.post("", responses=BODY_REFUSALS)
    def fuse(request: FuseRequest) -> FusedAnswer:
        """Fuse predictions given as numbers."""
        answer = _answer(_predictions(request), request.method)
        metrics.fused_rows.inc(len(answer.rows))
        return answer.model_copy(update=purpose.to_dict())

    @router.post("/files", responses=BODY_REFUSALS, openapi_extra=_FORM)
    async def fuse_files(request: Request) -> FusedAnswer:
        """Fuse predictions in CSV, TSV or Parquet files, one a modality, joined by id; with true labels, compare."""
        form = await read_form(request)
        try:
            answer = await run_in_threadpool(_fuse_form, form, storage)
        finally:
            await form.close()
        metrics.fused_rows.inc(len(answer.rows))
        return answer.model_copy(update=purpose.to_dict())

    return router


def _predictions(request: FuseRequest) -> Predictions:
    n = len(next(iter(request.predictions.values())))
    _check_lengths(request, n)
    ids = tuple(request.ids if request.ids is not None else map(str, range(n)))
    if len(set(ids)) != len(ids):
        raise DataError("ids must be unique")
    tables = [
        ModalityTable(Path(name), name, ids, tuple(request.labels), _matrix(name, rows, len(request.labels)))
        for name, rows in request.predictions.items()
    ]
    if request.targets is None:
        joined = join(tables)
        return Predictions(joined.ids, joined.modalities, joined.labels, joined.P, np.full(n, -1), joined.groups)
    truth = {i: t for i, t in zip(ids, request.targets, strict=True) if t is not None}
    groups = None if request.groups is None else dict(zip(ids, request.groups, strict=True))
    return join(tables, Targets(Path("targets"), truth, groups))


def _check_lengths(request: FuseRequest, n: int) -> None:
    if n == 0:
        raise DataError("there are no rows to fuse")
    if len(set(request.labels)) != len(request.labels):
        raise DataError("a label is named twice")
    if n * len(request.predictions) * len(request.labels) > _MOST_CELLS:
        raise DataError(f"at most {_MOST_CELLS:,} numbers are fused at once")
    lengths = {name: len(rows) for name, rows in request.predictions.items()}
    lengths |= {
        name: len(value)
        for name, value in (("ids", request.ids), ("targets", request.targets), ("groups", request.groups))
        if value is not None
    }
    wrong = [f"{name} has {length}" for name, length in lengths.items() if length != n]
    if wrong:
        raise DataError(f"all parts need {n} rows, as the first modality has; {', '.join(wrong)}")


def _matrix(name: str, rows: list[Any], k: int) -> np.ndarray:
    P = np.full((len(rows), k), np.nan)
    for i, row in enumerate(rows):
        if row is None:
            continue
        if len(row) != k:
            raise DataError(f"{name}, row {i}: {len(row)} probabilities for {k} labels")
        total = sum(row)
        if abs(total - 1) > 1e-2:
            raise DataError(f"{name}, row {i}: the probabilities sum to {total:.4g}, not to 1")
        P[i] = np.asarray(row) / total
    return P


def _answer(predictions: Predictions, method: str | None) -> FusedAnswer:
    fused = fuse_predictions(predictions, method)
    facts, table = fused.to_dict(), fused.to_frame()
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return FusedAnswer(
        method=facts["method"],
        chosen=facts["chosen"],
        labels=facts["labels"],
        modalities=facts["modalities"],
        rows=[{str(key): value for key, value in row.items()} for row in rows],
    )


def _fuse_form(form: FormData, storage: Storage) -> FusedAnswer:
    files = [f for f in form.getlist("files") if isinstance(f, UploadFile)]
    truth, method, compare = form.get("truth"), form.get("method"), form.get("compare", "false")
    known = {"files", "truth", "method", "compare"}
    if not files or not set(form) <= known or not isinstance(method, str | None) or compare not in ("true", "false"):
        raise HTTPException(422, "the form takes files, truth (a file), method, and compare (true or false)")
    with within_budget(storage.settings.budget), staging_folder(storage) as folder:
        tables = [_table(file, folder, number) for number, file in enumerate(files)]
        targets = _truth(truth, folder) if isinstance(truth, UploadFile) else None
    predictions = join(tables, targets)
    answer = _answer(predictions, method or None)
    if compare == "true":
        answer.compared = _compared(predictions)
    return answer


def _table(file: UploadFile, folder: Path, number: int) -> ModalityTable:
    name = display_name(file.filename)
    table = _read(file, folder / str(number), lambda path: read_predictions(path, modality=Path(name).stem))
    return replace(table, path=Path(name))  # only named in sentences from here on


def _truth(file: UploadFile, folder: Path) -> Targets:
    targets = _read(file, folder / "truth", read_targets)
    return replace(targets, path=Path(display_name(file.filename)))


def _read(file: UploadFile, stem: Path, reader: Callable[[Path], _Table]) -> _Table:
    """Read a received file from a name of ours, and speak of it by the client's."""
    name = display_name(file.filename)
    suffix = PurePath(name).suffix.lower()
    path = stem.with_suffix(suffix if suffix in _SUFFIXES else ".csv")
    with path.open("wb") as copy:
        shutil.copyfileobj(file.file, copy)
    try:
        return reader(path)
    except DataError as error:
        raise DataError(str(error).replace(str(path), name)) from error


def _compared(predictions: Predictions) -> list[dict[str, Any]]:
    """Every rule on the labelled rows, on folds that no group is split by, best first."""
    rows = rows_of(predictions)
    n_groups = len(np.unique(rows.groups))
    if n_groups < 2:
        raise DataError("a comparison needs labelled rows of at least two groups")
    protocol = Protocol(
        "cross-validation", predictions.modalities, predictions.labels, group_folds(rows, min(_FOLDS, n_groups))
    )
    methods = {name: registry.make(name) for name in dict.fromkeys([*methods_without_labels(), AUTO])}
    found = compare_fusers(protocol, methods, AUTO).to_dict()
    table = [{"method": name, "modality": None, **_figures(facts)} for name, facts in found["methods"].items()]
    table += [{"method": None, "modality": name, **_figures(facts)} for name, facts in found["single"].items()]
    return sorted(table, key=lambda row: -row["accuracy"])


def _figures(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: facts[key] for key in ("accuracy", "ci95", "ece")}
