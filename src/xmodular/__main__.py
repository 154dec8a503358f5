"""`python -m xmodular` and the command `xmodular`."""

from __future__ import annotations

import os

from xmodular.cli import app

# How often a thread of a matrix product looks for the others before it sleeps. GCC's OpenMP looks 300,000 times by
# default, about a millisecond, in which it holds a core that another program, or the very thread that it waits for,
# may need.
TURNS = "4000"


def main() -> None:
    """Run the command line."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", TURNS)  # read when torch is imported, which the verbs do
    app(prog_name="xmodular")


if __name__ == "__main__":
    main()
