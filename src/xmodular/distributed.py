"""Predictions for batches of tables, as Ray Data and Spark hand them to workers. Neither is needed to use this."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from xmodular.errors import ConfigurationError, DataError, InputError, speaking
from xmodular.prediction.predictor import WINDOW_CHARACTERS, Predictor
from xmodular.prediction.windows import names_beside
from xmodular.rows import BadRows, memory_rows
from xmodular.rows.row import first_repeated
from xmodular.saved_models import most_resident
from xmodular.tasks import Example
from xmodular.tasks.examples import examples

_SETTINGS = frozenset(
    name for name, each in inspect.signature(Predictor).parameters.items() if each.kind is each.KEYWORD_ONLY
)
_OF_EVERY_TASK = ("id", "language")
PROBLEM = "problem"


class BatchPredictor:
    """Adds a fine-tuned model's predictions to batches: the columns that the verb `predict` writes.

    For `ray.data.Dataset.map_batches` and Spark's `mapInPandas`. It can be pickled at any time: the model is loaded by
    the first batch in each worker, and the adapters of a language by the first batch with rows in it.

    A batch keeps its rows, their order and its columns. The predictions come after them, each with one type for all
    batches; one is called ``predicted_<name>`` if there is a column of its name, or one that the task reads as gold.

    Args:
        model: a fine-tuned model: a folder that every worker sees, or a name on the Hub.
        tokenizer: its tokenizer's location; None uses the model's.
        language: the language of rows that do not name one.
        columns: the columns of the fields; default: as in the training data.
        bad_rows: what a row that cannot be read does: "error" stops, "mark" leaves its predictions null and says why in
            a further column, ``problem``, which is null for all other rows.
        settings: keywords of `xmodular.Predictor`, such as `identify`, `precision` and `batch_tokens`.

    Raises:
        ConfigurationError: a setting is unknown, or `precision` is "auto", which workers could decide differently.
        InputError: the model is no place.
    """

    def __init__(
        self,
        model: str | Path,
        tokenizer: str | Path | None = None,
        *,
        language: str | None = None,
        columns: Mapping[str, str] | None = None,
        bad_rows: Literal["error", "mark"] = "error",
        **settings: Any,
    ) -> None:
        for name, place in (("model", model), ("tokenizer", tokenizer)):
            if not isinstance(place, (str, Path)) and (name == "model" or place is not None):
                raise InputError(
                    f"{name} is a {type(place).__name__}: give a folder or a name on the Hub, from which each worker "
                    "loads it."
                )
        if unknown := sorted(settings.keys() - _SETTINGS):
            raise ConfigurationError(
                f"There is no setting {unknown[0]!r}; the settings are {', '.join(sorted(_SETTINGS))}."
            )
        if bad_rows not in ("error", "mark"):
            raise ConfigurationError(f"bad_rows is {bad_rows!r:.60}: it must be 'error' or 'mark'.")
        if settings.get("precision") == "auto":
            raise ConfigurationError("precision is 'auto', which each worker would decide by its own rows: name one.")
        self.model = model
        self.tokenizer = tokenizer
        self.language = language
        self.columns = dict(columns or {})
        self.bad_rows = bad_rows
        self.settings = settings
        self._predictor: Predictor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_predictor": None}

    @property
    def predictor(self) -> Predictor:
        """The predictor, which is loaded when it is first asked for."""
        if self._predictor is None:
            resident = {"resident_languages": most_resident(self.model)}
            self._predictor = Predictor(self.model, self.tokenizer, **{**resident, **self.settings})
        return self._predictor

    @property
    def resident_languages(self) -> tuple[str, ...]:
        """The languages whose adapters are in this worker's memory."""
        return () if self._predictor is None else self._predictor.model.resident_languages

    @speaking
    def schema(self, before: pa.Schema) -> pa.Schema:
        """The Arrow schema of batches with predictions; `before` is that of batches without. The model is loaded."""
        added = self._added(before.names)
        return pa.schema([*before, *(pa.field(name, kind) for name, kind in added.values())], metadata=before.metadata)

    @speaking
    def __call__(self, batch: Any) -> Any:
        """A batch with its predictions, of the kind that was given.

        Args:
            batch: a table of pandas or of Arrow, or a dictionary of arrays or lists of equal length.

        Raises:
            InputError: it is none of these, or the lengths differ.
            DataError: a row is bad and `bad_rows` is "error"; the message names it.
        """
        if isinstance(batch, pa.Table):
            made = self._predicted(batch.column_names, batch.select, batch.num_rows)
            for name, values in made.items():
                batch = batch.append_column(name, values)
            return batch
        if isinstance(batch, Mapping):
            lengths = {len(values) for values in batch.values()}
            if len(lengths) > 1:
                raise InputError(
                    f"The columns of a batch have different lengths: {', '.join(map(str, sorted(lengths)))}."
                )
            made = self._predicted(list(batch), lambda names: _rows(batch, names), max(lengths, default=0))
            return {**batch, **{name: _as_numpy(values) for name, values in made.items()}}
        if hasattr(type(batch), "columns") and hasattr(batch, "assign") and hasattr(batch, "iloc"):
            made = self._predicted(list(batch.columns), lambda names: batch.loc[:, names], len(batch))
            ours = {name: _as_pandas(values).set_axis(batch.index) for name, values in made.items()}
            return batch.assign(**ours)
        raise InputError(
            f"A batch is a {type(batch).__name__}: give a table of pandas or Arrow, or a dictionary of arrays."
        )

    def stream(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Each of some batches with its predictions: the function for Spark's `mapInPandas` and `mapInArrow`."""
        for batch in batches:
            if isinstance(batch, pa.RecordBatch):
                yield from self(pa.Table.from_batches([batch])).combine_chunks().to_batches()
            else:
                yield self(batch)

    def _added(self, columns: Any) -> dict[str, tuple[str, pa.DataType]]:
        """By the names in a prediction, the names and types of the new columns."""
        if (twice := first_repeated(columns)) is not None:
            raise DataError(f"The column {twice!r} appears twice in a batch.")
        kinds = {name: _type(value) for name, value in self.predictor.columns.items()}
        added = {
            name: (ours, kinds[name]) for name, ours in names_beside(self.predictor, columns, self.columns).items()
        }
        if self.bad_rows == "mark":
            ours = PROBLEM
            while ours in columns:
                ours = f"predicted_{ours}"
            added[PROBLEM] = ours, pa.string()
        return added

    def _predicted(self, columns: list[str], select: Any, count: int) -> dict[str, pa.Array]:
        """The new columns of a batch, by name.

        Args:
            columns: the names of the batch's columns.
            select: makes a collection of rows of some of them.
            count: the number of rows.
        """
        added = self._added(columns)
        found: list[dict[str, Any]] = [{} for _ in range(count)]
        names = [name for name in columns if name in self._readable()] or columns
        accepted: list[tuple[int, Example]] = []
        characters = 0
        for place, example in self._examples(select(names) if names else [], found):
            accepted.append((place, example))
            characters += sum(map(len, example.texts))
            if len(accepted) == self.predictor.window or characters >= WINDOW_CHARACTERS:
                self._fill(found, accepted)
                accepted, characters = [], 0
        self._fill(found, accepted)
        return {ours: pa.array([row.get(name) for row in found], kind) for name, (ours, kind) in added.items()}

    def _fill(self, found: list[dict[str, Any]], accepted: list[tuple[int, Example]]) -> None:
        predictions = self.predictor.predict([example for _, example in accepted])
        for (place, _), prediction in zip(accepted, predictions, strict=True):
            found[place] = prediction

    def _readable(self) -> set[str]:
        """The columns that the task may read."""
        fields = self.predictor.task.fields.values()
        named = (*self.columns.values(), *self.predictor.usual.values(), *_OF_EVERY_TASK)
        return {name for names in fields for name in names}.union(named)

    def _examples(self, rows: Any, found: list[dict[str, Any]]) -> Iterator[tuple[int, Example]]:
        """The readable rows with their positions; the reasons of the others are put into `found`."""

        def mark(place: str, reason: str) -> None:
            found[_position(place)][PROBLEM] = reason

        bad, predictor = BadRows(self.bad_rows == "mark", mark), self.predictor
        read = memory_rows(rows, bad)
        for example in examples(
            predictor.task, read, bad, columns=self.columns, usual=predictor.usual, language=self.language, gold=False
        ):
            if problem := predictor.adapters.problem(example.language):
                bad.report(example.place, problem)
            else:
                yield _position(example.place), example


def _position(place: str) -> int:
    """The position in its batch of a row that `memory_rows` has named."""
    return int(place.removeprefix("row "))


def _rows(batch: Mapping[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of a dictionary of columns."""
    for values in zip(*(batch[name] for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def _type(value: Any) -> pa.DataType:
    """The Arrow type of a prediction, from a value of its kind."""
    if isinstance(value, list):
        return pa.list_(_type(value[0]))
    if isinstance(value, Mapping):
        return pa.struct([(name, _type(each)) for name, each in value.items()])
    return pa.array([value]).type


def _as_pandas(values: pa.Array) -> Any:
    """A series; whole numbers stay whole beside null."""
    if pa.types.is_integer(values.type):
        import pandas

        return pandas.Series(values.to_pylist(), dtype="Int64" if values.null_count else "int64")
    return values.to_pandas()


def _as_numpy(values: pa.Array) -> np.ndarray:
    """An array of numbers, with NaN for null, or of objects."""
    if pa.types.is_floating(values.type):
        return values.to_numpy(zero_copy_only=False)
    if pa.types.is_integer(values.type) and not values.null_count:
        return values.to_numpy(zero_copy_only=False)
    array = np.empty(len(values), dtype=object)
    array[:] = values.to_pylist()
    return array
