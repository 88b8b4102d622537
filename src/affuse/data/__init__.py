"""Labelled data: corpora of the field, people's own folders and tables, and predictions of anybody's models."""

__all__: list[str] = []
