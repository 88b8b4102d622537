"""Analyses over HTTP: accepted at once, done by workers, fetched or deleted by their id."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from affuse.service.hume import to_hume
from affuse.service.metrics import Metrics
from affuse.service.notifier import JobNotifier
from affuse.service.overview import answers_of, archive, columns_of, index_page, summary_table
from affuse.service.storage import Storage
from affuse.service.store import Job, JobStore
from affuse.service.uploads import (
    BODY_REFUSALS,
    display_name,
    first_problem,
    form_content,
    keep,
    keep_text,
    read_form,
    refusals,
)
from affuse.service.worker import discard_results, discard_uploads

__all__ = ["AnalysisHandlers", "JobState", "Options", "TextRequest", "make_router"]

_FILES = {
    "table.csv": ("analysis.csv", "text/csv"),
    "table.parquet": ("analysis.parquet", "application/vnd.apache.parquet"),
    "report.html": ("analysis.html", "text/html"),
    "words.json": ("words.json", "application/json"),
}

_TABLES = {".csv": "text/csv", ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}

_UNKNOWN = "there is no analysis of this id; it may have been deleted, or its time is over"

# A report is a page of its own, with scripts in it that its own policy allows by their checksums. Served from here it
# must not share the service's origin.
_REPORT_HEADERS = {"Content-Security-Policy": "sandbox allow-scripts allow-downloads"}


class Options(BaseModel, extra="forbid"):
    """How to analyse."""

    language: Literal["en", "zh"] | None = Field(None, description="Language of the words; recognised where absent.")
    window: float | None = Field(None, ge=0.1, le=3600, description="Length of a window in seconds (default 3).")
    hop: float | None = Field(None, ge=0.1, le=3600, description="Seconds from one window to the next (default 1).")


class TextRequest(Options, extra="forbid"):
    """A bare text to analyse."""

    text: str = Field(min_length=1, max_length=1_000_000, examples=["I lost my job today. I feel terrible."])


class Answer(BaseModel):
    """The answer about one person, in short."""

    person: str | None
    label: str | None
    confidence: float | None
    sentiment: float | None


class JobState(BaseModel):
    """A job as it stands."""

    id: str = Field(examples=["3f0c9a2be1d54c7f9a8b7c6d5e4f3a2b"])
    state: Literal["queued", "running", "done", "failed"]
    name: str = Field(description="What the client called its recording.")
    created: float = Field(description="Seconds since 1970.")
    started: float | None
    finished: float | None
    progress: float = Field(ge=0, le=1)
    stage: str = Field(description="What is being read now: face, voice or text.")
    error: str = Field(description="One sentence, empty unless the job failed.")
    answers: list[Answer] | None = Field(default=None, description="In short, of a finished job, where asked for.")
    result: Any | None = Field(default=None, description="The analysis, once it is done, in the shape asked for.")


class JobList(BaseModel):
    """Jobs, the newest first."""

    analyses: list[JobState]


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **form_content(
                "file",
                {
                    "file": {"type": "string", "format": "binary", "description": "Video, sound or a picture."},
                    "transcript": {"type": "string", "format": "binary", "description": "SRT, WebVTT, text, JSON."},
                    "language": {"type": "string", "enum": ["en", "zh"]},
                    "window": {"type": "number", "minimum": 0.1, "maximum": 3600},
                    "hop": {"type": "number", "minimum": 0.1, "maximum": 3600},
                },
            ),
            "application/json": {
                "schema": TextRequest.model_json_schema(),
                "examples": {"a text": {"value": {"text": "I lost my job today. I feel terrible."}}},
            },
        },
    }
}

_NOT_FOUND = refusals({404: "No such analysis, or no result yet"})

_ERRORS = BODY_REFUSALS | refusals(
    {
        422: "An option or the text is out of range",
        429: "Too many jobs wait; ask again after Retry-After seconds",
    }
)


def make_router(storage: Storage, store: JobStore, notifier: JobNotifier, metrics: Metrics) -> APIRouter:
    """The routes of analyses."""
    router = APIRouter(prefix="/v1/analyses", tags=["analyses"])
    settings = storage.settings
    handlers = AnalysisHandlers(storage, store, notifier, metrics)

    @router.post("", status_code=202, responses=_ERRORS, openapi_extra=_BODY)
    async def submit(request: Request) -> JobState:
        """Accept a recording (as a form) or a text (as JSON) and return at once with the job's id."""
        await run_in_threadpool(handlers.refuse_if_full)
        kind = request.headers.get("content-type", "").lower()
        job = await handlers.text(request) if kind.startswith("application/json") else await handlers.recording(request)
        metrics.accepted.inc()
        return _state(job)

    @router.get("")
    def listed(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        answers: bool = False,
    ) -> JobList:
        """Jobs, the newest first, without their results; with ``answers``, those that are done have theirs in short."""
        jobs = store.recent(limit, offset)
        states = [_state(job) for job in jobs]
        if answers:
            for job, state in zip(jobs, states, strict=True):
                state.answers = [Answer(**told) for told in answers_of(job, storage)]
        return JobList(analyses=states)

    _add_overview(router, storage, store)

    @router.get("/{job_id}", responses=_NOT_FOUND)
    def one(job_id: str, shape: Literal["affuse", "hume"] = "affuse") -> JobState:
        """State and progress of a job and, once it is done, its result; ``shape=hume`` nests it as Hume's API did."""
        job = handlers.find(job_id)
        state = _state(job)
        if job.state == "done":
            result = json.loads(handlers.result(job, "analysis.json"))
            state.result = to_hume(result) if shape == "hume" else result
        return state

    @router.get("/{job_id}/{file}", responses=_NOT_FOUND, response_class=Response)
    def download(job_id: str, file: Literal["table.csv", "table.parquet", "report.html", "words.json"]) -> Response:
        """The table or the report of a finished job, or its answer in sentences by language, as a file."""
        stored, kind = _FILES[file]
        job = handlers.find(job_id)
        name = quote(f"{Path(job.name).stem}{Path(stored).suffix}")
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{name}"}
        headers |= _REPORT_HEADERS if kind == "text/html" else {}
        return Response(handlers.result(job, stored), media_type=kind, headers=headers)

    @router.delete("/{job_id}", status_code=204, responses=_NOT_FOUND)
    def delete(job_id: str) -> None:
        """Delete a job, its recording and its results; one that runs is stopped."""
        job = handlers.find(job_id)
        store.delete(job.id)
        discard_uploads((job.upload, job.transcript), settings)
        discard_results(job, settings)

    return router


def _add_overview(router: APIRouter, storage: Storage, store: JobStore) -> None:
    """Routes about all finished analyses; their names come before those of single ones."""
    language = Query("en", description="Of the page.")

    def jobs() -> list[Job]:
        return sorted(store.finished_before(math.inf), key=lambda job: (job.created, job.id))

    @router.get("/index.html", response_class=Response)
    def index(language: Literal["en", "zh"] = language) -> Response:
        """A page about all finished analyses, to sort and to filter, which leads to their reports."""
        page = index_page(jobs(), storage, language)
        return Response(page, media_type="text/html", headers=dict(_REPORT_HEADERS))

    @router.get("/summary{suffix}", response_class=Response)
    def summary(suffix: Literal[".csv", ".xlsx"]) -> Response:
        """A table of all finished analyses: a row a recording and person."""
        found = jobs()
        table = summary_table(columns_of(found, storage, [None] * len(found)), suffix)
        headers = {"Content-Disposition": f'attachment; filename="summary{suffix}"'}
        return Response(table, media_type=_TABLES[suffix], headers=headers)

    @router.get("/results.zip", response_class=Response)
    def results(language: Literal["en", "zh"] = language) -> StreamingResponse:
        """The page, the table and the results of all finished analyses in one archive."""
        headers = {"Content-Disposition": 'attachment; filename="results.zip"'}
        return StreamingResponse(archive(jobs(), storage, language), media_type="application/zip", headers=headers)


class AnalysisHandlers:
    """What the routes do: accept jobs and look them up."""

    def __init__(self, storage: Storage, store: JobStore, notifier: JobNotifier, metrics: Metrics) -> None:
        self.storage, self.settings = storage, storage.settings
        self.store, self.notifier, self.metrics = store, notifier, metrics

    def refuse_if_full(self) -> None:
        """Raise HTTPException 429, with the seconds after which to ask again, where too many jobs wait."""
        if self.store.counts()["queued"] >= self.settings.max_queue:
            raise self._full()

    def _full(self) -> HTTPException:
        self.metrics.refused.labels("queue full").inc()
        seconds = max(1, round(self.store.mean_seconds()))
        sentence = f"{self.settings.max_queue} jobs wait already; ask again in {seconds} s"
        return HTTPException(429, sentence, {"Retry-After": str(seconds)})

    async def text(self, request: Request) -> Job:
        """Accept a text."""
        try:
            asked = TextRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise HTTPException(422, first_problem(error.errors(include_url=False, include_context=False))) from error
        options = asked.model_dump(exclude={"text"}) | {"kind": "text"}
        name = await run_in_threadpool(keep_text, asked.text, self.storage)
        return await run_in_threadpool(self._accept, "text", options, name, None)

    async def recording(self, request: Request) -> Job:
        """Accept a recording."""
        form = await read_form(request)
        try:
            file, transcript, options = _parts(form)
            name = "recording" if self.settings.private else display_name(file.filename)
            upload = await run_in_threadpool(keep, file, self.storage)
            words = None if transcript is None else await run_in_threadpool(keep, transcript, self.storage)
        finally:
            await form.close()
        return await run_in_threadpool(self._accept, name, options.model_dump(), upload, words)

    def _accept(self, name: str, options: dict[str, Any], upload: str, transcript: str | None) -> Job:
        job = self.store.add(name, options, upload, transcript, room=self.settings.max_queue)
        if job is None:  # others were faster while this one was received
            discard_uploads((upload, transcript), self.settings)
            raise self._full()
        self.notifier.notify()
        return job

    def find(self, job_id: str) -> Job:
        """The job of that id. Raises HTTPException 404."""
        job = self.store.get(job_id)
        if job is None:
            raise HTTPException(404, _UNKNOWN)
        return job

    def result(self, job: Job, file: str) -> bytes:
        """A file of results. Raises HTTPException 404 while there is none."""
        content = self.storage.read_result(job.id, file) if job.state == "done" else None
        if content is None:
            raise HTTPException(404, f"this analysis has no result: it is {job.state}")
        return content


def _parts(form: FormData) -> tuple[UploadFile, UploadFile | None, Options]:
    fields = {key: value for key, value in form.multi_items() if key not in ("file", "transcript")}
    file, transcript = form.get("file"), form.get("transcript")
    if not isinstance(file, UploadFile):
        raise HTTPException(422, "the form needs a file named 'file'")
    if transcript is not None and not isinstance(transcript, UploadFile):
        raise HTTPException(422, "'transcript' must be a file")
    try:
        return file, transcript, Options.model_validate(fields)
    except ValidationError as error:
        raise HTTPException(422, first_problem(error.errors(include_url=False, include_context=False))) from error


def _state(job: Job) -> JobState:
    return JobState(
        id=job.id,
        state=job.state,  # type: ignore[arg-type]
        name=job.name,
        created=job.created,
        started=job.started,
        finished=job.finished,
        progress=job.progress,
        stage=job.stage,
        error=job.error,
    )
