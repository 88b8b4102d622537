"""The service: analyses as jobs over HTTP, fusion of anybody's predictions, and live streams."""

__all__: list[str] = []
