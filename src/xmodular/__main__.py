"""`python -m xmodular` and the command `xmodular`."""

from __future__ import annotations

from xmodular.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="xmodular")


if __name__ == "__main__":
    main()
