"""How the shipped weights are made: one module a recipe, run by ``python -m recipes.NAME`` from a checkout."""

__all__: list[str] = []
