"""The rows of an input as windows to predict: readable rows, unreadable ones, and the lines of output."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from xmodular.console import console
from xmodular.errors import DataError
from xmodular.languages import names_of
from xmodular.options import PRECISIONS, EmbedOptions, RowsOptions
from xmodular.prediction.predictor import WINDOW_CHARACTERS, Predictor
from xmodular.rows import BadRows, DataRow, columns_in, kind_of, language_of, read_rows
from xmodular.rows.vectors import Vectors, rounded
from xmodular.rows.writers import is_with_more, line_of, with_more
from xmodular.tasks import Example
from xmodular.tasks.examples import examples

_LINE_ENDS = re.compile(r"[\t\r\n]")
# Place and reason of a bad row, and the row itself if it could be parsed.
_Noted = dict[str, Any]


class Accepted(NamedTuple):
    """A readable row: its line of output without the prediction, and its example for the model."""

    line: bytes
    example: Example


class Work:
    """The rows of the input, window by window, and the problems of unreadable rows.

    One row is always read ahead, so that unreadable rows belong to the part of the readable row before them.

    Args:
        predictor: the predictor for the rows.
        options: location of the rows, and how to handle bad ones.

    Attributes:
        bad: counts the unreadable rows.
        rows: number of rows that were predicted.
        names: of the columns of predictions, by what they are called in a prediction; empty before the first row.
    """

    def __init__(self, predictor: Predictor, options: RowsOptions) -> None:
        self.bad = BadRows(options.skip_bad_rows, self._note)
        self.rows = 0
        self._predictor = predictor
        self._options = options
        self._is_conll = kind_of(options.output) == "conll"
        self.names: dict[str, str] = {}
        self._row: DataRow | None = None  # the one at hand
        self._noted: list[_Noted] = []
        self._accepted = self._accept()
        self._next: Accepted | None = None

    def start(self, done: Iterable[bytes]) -> int:
        """Skip the rows that are finished.

        Args:
            done: the lines of these rows, with predictions.

        Returns:
            The number of finished rows.

        Raises:
            DataError: the input does not begin with these rows.
        """
        self._next = next(self._accepted, None)
        count = 0
        for count, line in enumerate(done, start=1):
            if self._next is None or not is_with_more(line, self._next.line):
                place = "its end" if self._next is None else self._next.example.place
                raise DataError(
                    f"At {place}, the input differs from row {count:,} of the finished rows. Give the "
                    "same input to continue, or --overwrite to start over."
                )
            self._next = next(self._accepted, None)
        return count

    def take_bad(self) -> list[_Noted]:
        """Place, reason and, if it could be parsed, the row itself, of the bad rows since the last call."""
        taken, self._noted = self._noted, []
        return taken

    def window(self, most: int | None = None) -> list[Accepted]:
        """The next rows: at most `most`, and at most one window; none at the end."""
        room = self._predictor.window if most is None else min(most, self._predictor.window)
        taken: list[Accepted] = []
        characters = 0
        while self._next is not None and len(taken) < room and characters < WINDOW_CHARACTERS:
            taken.append(self._next)
            characters += sum(map(len, self._next.example.texts))
            self._next = next(self._accepted, None)
        return taken

    def lines(self, window: list[Accepted], advance: Callable[[float], None]) -> list[bytes]:
        """The rows of a window with their predictions."""
        predicted = self._predictor.predict([accepted.example for accepted in window], advance)
        self.rows += len(window)
        return [
            with_more(accepted.line, {self.names[name]: self._value(value) for name, value in prediction.items()})
            for accepted, prediction in zip(window, predicted, strict=True)
        ]

    @property
    def vectors(self) -> Vectors | None:
        """The column of vectors in the lines; None if predictions are no vectors."""
        options = self._options
        if not isinstance(options, EmbedOptions):
            return None
        if not self.names:
            self.none()
        dimension = self._predictor.model.config.hidden_size
        return Vectors(self.names["embedding"], dimension, PRECISIONS[options.vectors])

    def _value(self, value: Any) -> Any:
        """A value of a prediction in a line; vectors are packed there until they are in the output."""
        if not isinstance(value, np.ndarray):
            return value
        return rounded(value) if self._options.output == "-" else Vectors.packed(value)

    def tagged(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The words of a row of the output with their predicted tags; none without a prediction."""
        columns = self._options.columns or {}
        (example,) = examples(self._predictor.task, [DataRow(row, "")], BadRows(), columns=columns, gold=False)
        return list(zip(example.texts[1:], row[self.names["tags"]] or (), strict=False))

    def none(self) -> dict[str, Any]:
        """A sample row of output for an input without rows: its columns, and those of a prediction."""
        columns = dict.fromkeys(columns_in(self._options.input), "")
        self._name_columns(columns)
        return {**columns, **{self.names[name]: value for name, value in self._predictor.columns.items()}}

    def _accept(self) -> Iterator[Accepted]:
        options = self._options
        format = "txt" if kind_of(options.input) == "txt" else None
        columns = (options.columns or {}).values()
        rows = read_rows(options.input, self.bad, format=format, knows=self._predictor.adapters.knows, columns=columns)
        self._say_default()
        head = self._head(rows)
        there = {name for row in head if isinstance(row, DataRow) for name in row.values}
        found = examples(
            self._predictor.task,
            self._at_hand(chain(head, rows)),
            self.bad,
            columns=options.columns or {},
            usual=self._predictor.usual,
            language=options.language,
            gold=False,
        )
        for example in found:
            assert self._row is not None
            values = self._row.values
            try:
                line = self._line(values, example)
            except (RecursionError, ValueError) as error:
                self.bad.report(example.place, str(error))
                continue
            if not self.names:
                self._name_columns(there.union(values))
            yield Accepted(line, example)

    def _say_default(self) -> None:
        """Warn if the model's own default is used for a file whose name may mean another language."""
        options, default = self._options, self._predictor.adapters.default
        if default is None or options.identify or options.language or options.default_language:
            return
        may_mean = language_of(options.input, lambda name: names_of(name)["english"] is not None)
        if may_mean is not None and language_of(options.input, self._predictor.adapters.knows) is None:
            console.print(
                f"{options.input}: {may_mean!r} is not one of the model's languages. Rows that name none use "
                f"the adapter of {default.adapter}, the model's default; choose another with --language."
            )

    def _line(self, values: Mapping[str, Any], example: Example) -> bytes:
        """The row as a line, without its prediction.

        Raises:
            ValueError: nobody's adapter can read it, or it cannot be written.
        """
        if problem := self._predictor.adapters.problem(example.language):
            raise ValueError(problem)
        if self._is_conll and (word := next(filter(_LINE_ENDS.search, example.texts[1:]), None)) is not None:
            raise ValueError(f"the word {word!r:.60} contains a tab or a line end, which CoNLL does not allow")
        if column := next((ours for ours in self.names.values() if ours in values), None):
            raise ValueError(
                f"it has a column {column!r}, the prediction's name, as the first rows have no such column: rename it"
            )
        return line_of(values)

    def _head(self, rows: Iterator[DataRow]) -> list[DataRow | _Noted]:
        """The first rows, with notes in the places of bad ones; fewer if they are long."""
        head: list[DataRow | _Noted] = []
        characters = 0
        for row in islice(rows, self._predictor.window):
            head += [*self.take_bad(), row]
            characters += sum(len(value) for value in row.values.values() if isinstance(value, str))
            if characters >= WINDOW_CHARACTERS:
                break
        return [*head, *self.take_bad()]

    def _at_hand(self, rows: Iterable[DataRow | _Noted]) -> Iterator[DataRow]:
        for row in rows:
            if isinstance(row, DataRow):
                self._row = row
                yield row
                self._row = None
            else:
                self._noted.append(row)

    def _note(self, place: str, reason: str) -> None:
        noted: _Noted = {"place": place, "reason": reason}
        if self._row is not None:
            noted["row"] = dict(self._row.values)
        self._noted.append(noted)

    def _name_columns(self, columns: Container[str]) -> None:
        """Name the predictions by the columns of the first rows."""
        self.names.update(names_beside(self._predictor, columns, self._options.columns))
        if renamed := [f"{name} is {ours}" for name, ours in self.names.items() if name != ours]:
            console.print(f"These columns exist already, so predictions are renamed: {', '.join(renamed)}.")


def names_beside(
    predictor: Predictor, columns: Container[str], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The names of the predictions beside columns: predicted_<name> if there is a column of that name.

    So they are too where the task would read them for the rows' own gold, which has another of its names there.

    Args:
        predictor: the predictor.
        columns: the names of the rows' columns.
        given: the columns of the fields, where they are named.
    """
    named = given or predictor.usual
    fields = [{*names, named.get(field, names[0])} for field, names in predictor.task.fields.items()]
    taken = {name for names in fields if any(each in columns for each in names) for name in names}
    found = {}
    for name in predictor.columns:
        ours = name
        while ours in columns or ours in taken:
            ours = f"predicted_{ours}"
        found[name] = ours
    return found
