"""The application: routes, errors and what runs beside them."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from affuse import __version__
from affuse.errors import AffuseError, ConfigError
from affuse.evaluation.fused_tables import methods_without_labels
from affuse.fusion import registry
from affuse.labels import EKMAN
from affuse.purpose import Purpose
from affuse.report.messages import LANGUAGES, page_messages
from affuse.report.page import style
from affuse.report.palette import palette
from affuse.service import analyses, fusion, live
from affuse.service.metrics import Metrics
from affuse.service.notifier import JobNotifier
from affuse.service.security import Guard
from affuse.service.settings import Settings
from affuse.service.storage import open_storage
from affuse.service.store import JobStore
from affuse.service.uploads import Intake, first_problem
from affuse.weight_sets import chosen_set

if TYPE_CHECKING:
    from affuse.packages import System

__all__ = ["create_app"]


class Refusal(BaseModel):
    """Why a request was refused, in one sentence."""

    detail: str = Field(examples=["the form needs a file named 'file'"])


class Weights(BaseModel):
    """One file of weights."""

    name: str
    version: str
    licence: str
    sha256: str
    bytes: int


class Models(BaseModel):
    """What this service answers with."""

    affuse: str = Field(description="Version of affuse.")
    weight_set: str | None = Field(description="Set of weights that answers; null for a package of others.")
    labels: list[str]
    weights: list[Weights]
    methods: list[str] = Field(description="Ways to fuse.")
    rules: list[str] = Field(description="Those that need no true labels.")


class Health(BaseModel):
    """Whether the service works, and how many jobs there are."""

    status: str
    jobs: dict[str, int]


def create_app(settings: Settings, notifier: JobNotifier | None = None) -> FastAPI:
    """Make the ASGI application of a service, without its workers.

    Parameters
    ----------
    settings : Settings
        What it allows, and where it keeps jobs.
    notifier : JobNotifier or None
        Is told of every job that comes, to wake workers.

    Returns
    -------
    fastapi.FastAPI
        For uvicorn or another ASGI server; ``affuse serve`` uses `serve`.

    Raises
    ------
    ConfigError
        If its folder cannot hold the jobs, or the key does not open it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from fastapi.testclient import TestClient
    >>> client = TestClient(create_app(Settings(Path("jobs"), allowed_hosts=("testserver",))))
    >>> client.get("/health").json()["jobs"]
    {'queued': 0, 'running': 0, 'done': 0, 'failed': 0}
    """
    settings.make_folders()
    storage = open_storage(settings)
    store = JobStore(settings.folder / "jobs.db", settings.lease_seconds, storage)
    notifier = notifier or JobNotifier()
    metrics = Metrics(store)
    app = FastAPI(
        title="affuse",
        version=__version__,
        summary="What people feel in a recording, fused from face, voice and words.",
        description="Errors are one sentence in `detail`. With a token, send `Authorization: Bearer TOKEN`.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        responses={code: {"model": Refusal, "description": text} for code, text in _ALWAYS.items()},
    )
    app.state.settings, app.state.store = settings, store
    app.include_router(analyses.make_router(storage, store, notifier, metrics))
    app.include_router(fusion.make_router(metrics, Purpose(settings.purpose, settings.exemption), storage))
    app.include_router(live.make_router(settings, metrics))
    _add_figures(app, store, metrics, settings.package, settings.weights)
    _add_page(app)
    app.add_exception_handler(AffuseError, _refuse)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(Intake, settings=settings)
    app.add_middleware(Guard, settings=settings)  # the last added sees a request first
    return app


_ALWAYS = {401: "A valid token is needed", 403: "Requests from other sites are refused", 422: "Something does not fit"}


def _add_figures(app: FastAPI, store: JobStore, metrics: Metrics, package: str | None, of_set: str | None) -> None:
    from affuse.packages import read_system

    @app.get("/v1/models", tags=["service"])
    def models() -> Models:
        """Weights with their licences, and ways to fuse."""
        system = None if package is None else read_system(package)
        return Models(
            affuse=__version__,
            labels=list(EKMAN.labels),
            weight_set=chosen_set(of_set) if system is None else system.description.weight_set,
            weights=_shipped_weights(chosen_set(of_set)) if system is None else _weights_of(system),
            methods=registry.names(),
            rules=methods_without_labels(),
        )

    @app.get("/health", tags=["service"])
    def health() -> Health:
        """Whether the service is there and its store answers."""
        return Health(status="ok", jobs=store.counts())

    @app.get("/metrics", tags=["service"], response_class=Response)
    def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _shipped_weights(of_set: str) -> list[Weights]:
    from affuse.weights import licences, manifest

    own = {terms.name for terms in licences() if of_set in terms.sets}
    return [
        Weights(name=name, version=w.version, licence=w.licence, sha256=w.sha256, bytes=w.bytes)
        for name, w in sorted(manifest().items())
        if name in own
    ]


def _weights_of(system: System) -> list[Weights]:
    """The networks of a system's folder: those of shipped experts in whatever form, and those of its own packages."""
    from affuse.packages import read_package

    listed = [
        (name, own.version, own.licence, own.file)
        for names in system.description.weights.values()
        for name, own in names.items()
    ]
    for folder in system.description.packages.values():
        described = read_package(system.folder / folder).description
        listed.append((described.name, described.created, described.licence, f"{folder}/model.onnx"))
    return [
        Weights(
            name=name,
            version=version,
            licence=licence,
            sha256=system.description.files[file],
            bytes=(system.folder / file).stat().st_size,
        )
        for name, version, licence, file in sorted(listed)
    ]


def _add_page(app: FastAPI) -> None:
    static = files("affuse.service").joinpath("static")
    report = files("affuse.report").joinpath("static")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(str(static.joinpath("index.html")), headers={"Cache-Control": "no-cache"})

    @app.get("/static/report.css", include_in_schema=False)
    def look() -> Response:
        return Response(style(), media_type="text/css", headers={"Cache-Control": "no-cache"})

    @app.get("/static/vocabulary.json", include_in_schema=False)
    def vocabulary() -> dict[str, Any]:
        messages = {language: page_messages(language) for language in LANGUAGES}
        return {"messages": messages, "palette": palette().to_dict()}

    app.mount("/static/report", _Fresh(directory=str(report)))
    app.mount("/static", _Fresh(directory=str(static)))


class _Fresh(StaticFiles):
    """Files that browsers ask for anew each time, so that none mixes modules of two versions."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 400 if isinstance(error, ConfigError) else 422)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": first_problem(error.errors())}, 422)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it: the client left while it sent
