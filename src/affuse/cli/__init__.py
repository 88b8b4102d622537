"""The command line: thin faces over the pipeline."""

from affuse.cli.main import main

__all__ = ["main"]
