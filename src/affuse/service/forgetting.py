"""Taking the jobs of one recording out of the store of a service, with what was uploaded and found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from affuse.batch.forgetting import Forgotten, Removal
from affuse.lazy import needs_extra
from affuse.service.settings import Settings
from affuse.service.storage import Storage, open_storage
from affuse.service.store import Job, JobStore

__all__ = ["find_services", "forget_jobs"]

_STORE = "jobs.db"
_UNNAMED = frozenset(("recording", "text"))  # what the service calls jobs whose file has no name, or may have none


def find_services(folders: list[Path]) -> list[Path]:
    """Folders of services among some folders and in them."""
    return sorted({store.parent for folder in folders for store in folder.rglob(_STORE)})


def forget_jobs(
    folder: str | Path, target: Forgotten, *, dry_run: bool = False, key_file: str | Path | None = None
) -> list[Removal]:
    """Remove the jobs of one recording from a service that may be running: their rows, uploads and results.

    Parameters
    ----------
    folder : str or Path
        The ``--folder`` of the service.
    target : Forgotten
        The recording, from `affuse.batch.target_of`. A job is known by the content of its upload, or by the checksum in
        its results; without either by the name that the client gave and, where there are results, by the duration.
    dry_run : bool
        Say what would be removed, and remove nothing.
    key_file : str or Path, optional
        The key file of a service that is encrypted.

    Returns
    -------
    list of Removal
        Empty where the folder is not a service's.

    Raises
    ------
    ConfigError
        If the service is encrypted, and the key is missing or wrong.

    Examples
    --------
    >>> from affuse.service import JobStore
    >>> Path("service/uploads").mkdir(parents=True)
    >>> job = JobStore(Path("service/jobs.db")).add("anna.mp4", {}, upload="a1.mp4")
    >>> anna = Forgotten("0" * 64, frozenset(), frozenset({"anna.mp4"}))
    >>> [removal.what for removal in forget_jobs("service", anna)]
    ['jobs of a service']
    >>> forget_jobs("service", anna)
    []
    """
    folder = Path(folder)
    if not (folder / _STORE).is_file():
        return []
    with needs_extra("serve"):
        from affuse.service.worker import discard_results, discard_uploads

    # Of several services that are looked through, some may not be encrypted.
    encrypted = key_file is not None and (folder / "key.json").is_file()
    settings = Settings(folder, key_file=str(key_file) if encrypted else None)
    storage = open_storage(settings)
    store = JobStore(folder / _STORE, storage=storage)
    found = []
    for job in store.recent(sum(store.counts().values()), 0):
        if not _is_about(job, storage, target):
            continue
        found.append(Removal("jobs of a service", settings.results / job.id))
        if not dry_run:
            store.delete(job.id)
            discard_uploads((job.upload, job.transcript), settings)
            discard_results(job, settings)
    return found


def _is_about(job: Job, storage: Storage, target: Forgotten) -> bool:
    upload = storage.upload_sha256(job.upload)
    if upload is not None:
        return upload == target.sha256
    source = _source(storage, job)
    if source.get("sha256"):
        return target.is_source(source)
    return job.name not in _UNNAMED and target.is_named(job.name, source.get("duration"))


def _source(storage: Storage, job: Job) -> dict[str, Any]:
    """What the results of a job say about the recording; nothing where there are none."""
    try:
        source = json.loads(storage.read_result(job.id, "analysis.json") or b"{}")["source"]
        return source if isinstance(source, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
