"""``python -m affuse.cli`` is the command ``affuse``."""

from affuse.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
