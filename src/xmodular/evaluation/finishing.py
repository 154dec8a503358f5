"""The end of an evaluation: its gates, what is printed, and what is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmodular.console import console
from xmodular.evaluation.identifying import say_identified
from xmodular.files import written_beside
from xmodular.options import EvaluateOptions
from xmodular.outputs import RESULTS
from xmodular.results import Results
from xmodular.results.gates import Gate, gated, read_gates
from xmodular.results.verdicts import verdict


def gates_of(options: EvaluateOptions, given: Mapping[str, Any] | None) -> list[Gate]:
    """The gates in a file, or given as a table; none without.

    Raises:
        ConfigurationError, DataError: as `read_gates`.
    """
    source = options.gate if given is None else given
    return [] if source is None else read_gates(source)


def finish(
    results: Results,
    gates: Sequence[Gate],
    options: EvaluateOptions,
    check: Callable[[], None],
    write_more: Callable[[Path], list[str]] = lambda folder: [],
) -> Results:
    """Judge results by the gates, show them, and save them if `check` allows it.

    Args:
        results: the results.
        gates: those that are for this evaluation.
        options: of the verb.
        check: raises an error if the folder may not be written to.
        write_more: writes further files to a folder, and returns their names.
    """
    if gates:
        results = replace(results, gates=gated(results, gates, whole=not options.languages))
    console.print(results.table())
    for said in say_identified(results.about.get("identified", ())):
        console.print(said)
    for run in results.runs():
        if said := verdict(results, results.metrics()[0], run):
            console.print(f"{run}: {said}")
    if results.gates:
        console.print(results.gate_table())
    if options.output_dir is not None:
        check()
        with written_beside(options.output_dir, gone=RESULTS) as beside:
            written = results.save(beside) + write_more(beside)
        console.print(f"Saved {', '.join(written)} in {options.output_dir}")
    return results
