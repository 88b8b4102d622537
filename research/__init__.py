"""Studies behind the pages of docs/, one module each, run by ``python -m research.NAME`` from a checkout."""

__all__: list[str] = []
