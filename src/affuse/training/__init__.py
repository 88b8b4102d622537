"""Recipes that make the shipped weights. Needs torch (`pip install 'affuse[train]'`); never imported at inference."""

__all__: list[str] = []
