"""A fine-tuned model as a function from rows to predictions, in all its languages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from xmodular.errors import ConfigurationError, InputError, speaking
from xmodular.identification import THRESHOLD, Identify
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import Fallback, Options, RunPrecision, WeightPrecision
from xmodular.rows import BadRows, DataRow, memory_rows
from xmodular.saved_models import WithTokenizers
from xmodular.tasks import TASKS, Example, given_model, read_labels, room_of, task_of, to_run
from xmodular.tasks.examples import columns_of_training
from xmodular.tasks.examples import examples as to_examples
from xmodular.tasks.precision_probe import LEAST, ChosenPrecision, choose_precision
from xmodular.tasks.readers import Readers, ReadSpan, check_one_language
from xmodular.tasks.running import BATCH_TOKENS, Encoded, encode_examples, predict_examples
from xmodular.tasks.task import Task, short

WINDOW = 2048
# A window of very long texts is closed earlier, so that memory stays bounded.
WINDOW_CHARACTERS = 4_000_000


# Arguments of `Predictor` that verbs have as options of the same name.
_SETTINGS = (
    *("default_language", "identify", "identify_languages", "threshold", "fallback", "max_length", "stride"),
    *("batch_tokens", "window", "precision", "probabilities", "resident_languages"),
)


_SPAN = asdict(ReadSpan(0, 0, 0, "", "", 0.0))  # a value of its kind


def settings_of(options: Options) -> dict[str, Any]:
    """The arguments of `Predictor` among a verb's options."""
    return {name: getattr(options, name) for name in _SETTINGS if hasattr(options, name)}


class Predictor(WithTokenizers):
    """Runs a fine-tuned model over rows in any mix of languages.

    Rows are read in windows; within a window they are sorted by length, put into batches with about as many tokens, and
    returned in their original order. A batch mixes languages.

    Args:
        model: a model with a task head: an object, which stays on its device, or a folder or name on the Hub, which is
            put on the GPU if there is one.
        tokenizer: its tokenizer, or the tokenizer's location; None uses the model's.
        default_language: language of rows that do not name one; with `identify`, of uncertain ones.
        identify: identify the language of rows that do not name one: True (py3langid), "spans" (a language a word, each
            token read by its own adapter), a function of texts, an object with a method `spans`, or a name of one (see
            `xmodular.identification.chosen_identifier`).
        identify_languages: only these languages are identified; empty: all of the model's.
        threshold: least confidence of an identification, in [0, 1].
        fallback: "relative" uses the adapter of the nearest relative for languages that the model lacks.
        max_length: most tokens per row; longer rows are truncated, or read in windows if the task supports it. None: as
            in fine-tuning, or 512.
        stride: tokens shared by two windows of a long context. None: as in fine-tuning, or a quarter of the length.
        batch_tokens: tokens per forward pass, padding included.
        window: number of rows that are sorted by length together.
        precision: "keep" that of the weights, or run in "fp32", "bf16" or "fp16"; a model object is copied for this.
            "auto" chooses bf16 or fp32 at the first window of 200 rows or more (see `xmodular.tasks.precision_probe`);
            smaller ones before it are read in fp32.
        probabilities: also return the probabilities of all labels, tags or choices.
        resident_languages: number of languages in memory at most; the others are read from the model's folder when
            rows need them. None: all.

    Attributes:
        chosen: the precision that "auto" chose, and why; None before, and with any other precision.

    Raises:
        ConfigurationError: the model has no task head, or a number is out of range.
    """

    @speaking
    def __init__(
        self,
        model: XmodPreTrainedModel | str | Path,
        tokenizer: PreTrainedTokenizerFast | str | Path | None = None,
        *,
        default_language: str | None = None,
        identify: Identify = False,
        identify_languages: Sequence[str] = (),
        threshold: float = THRESHOLD,
        fallback: Fallback | None = None,
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        window: int = WINDOW,
        precision: RunPrecision = "keep",
        probabilities: bool = False,
        resident_languages: int | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigurationError(f"threshold is {threshold}: it must be from 0 to 1.")
        for name, value in (("batch_tokens", batch_tokens), ("window", window)):
            if value < 1:
                raise ConfigurationError(f"{name} is {value}: it must be at least 1.")
        source = given_model(model)[1]
        precise = "keep" if precision == "auto" else precision
        self.model, task = self._loaded(model, precise, resident_languages)
        self.chosen: ChosenPrecision | None = None
        self._is_open = precision == "auto"
        if probabilities and task.probabilities is None:
            able = ", ".join(name for name, each in TASKS.items() if each.probabilities is not None)
            raise ConfigurationError(
                f"{source} is a model for {task.name}, which has no list of labels; probabilities are for {able}."
            )
        self.task = task
        self.probabilities = probabilities
        self.labels = read_labels(self.model)
        self.usual = columns_of_training(self.model.config, task)
        self.window = window
        self.adapters = Readers(
            self.model,
            self._default_language(default_language, identify=identify is not False),
            identify=identify,
            threshold=threshold,
            fallback=fallback,
            among=identify_languages,
            of_words=task.of_words,
        )
        if task.name == "embed":
            check_one_language(self.adapters)
        self.identifies = identify is not False
        self.tokens = 0
        self.cut = 0  # number of truncated rows
        self.strange = 0  # rows for which the model's outputs were no finite numbers
        self.room = room_of(self.model, max_length, stride)
        self.batch_tokens = batch_tokens
        self._take_tokenizer(tokenizer)

    def _loaded(
        self, model: XmodPreTrainedModel | str | Path, precision: WeightPrecision, resident_languages: int | None
    ) -> tuple[Any, Task]:
        """The model to run, and its task.

        Raises:
            ConfigurationError: it has no task head.
        """
        loaded = to_run(model, precision, resident_languages=resident_languages)
        if (task := task_of(loaded)) is None:
            raise ConfigurationError(
                f"{given_model(model)[1]} is an {type(loaded).__name__} without a task head: fine-tune it first "
                "(xmodular finetune); masks are filled by xmodular fill-mask, vectors are made by xmodular embed."
            )
        return loaded, task

    def _default_language(self, given: str | None, *, identify: bool) -> str | None:
        """The language of rows that name none, as `Readers` takes it."""
        return given

    def _shown(self, predicted: Mapping[str, Any]) -> dict[str, Any]:
        """A prediction as its user sees it."""
        shown: dict[str, Any] = short(dict(predicted))
        return shown

    @property
    def fields(self) -> list[str]:
        """The names in a prediction that do not depend on the task: which adapter was used, and why."""
        spans = ["language_spans"] if self.adapters.finds_spans else []
        return ["language", "adapter", *(["confidence", *spans] if self.identifies else [])]

    @property
    def columns(self) -> dict[str, Any]:
        """The names in a prediction, in their order, each with a value of its kind."""
        made = {**self.task.columns(self.labels)}
        if not self.probabilities:
            made.pop("probabilities", None)
        return {**made, **dict(zip(self.fields, ("", "", 0.0, [_SPAN]), strict=False))}

    @speaking
    def __call__(
        self,
        rows: Any,
        language: str | Iterable[str | None] | None = None,
        *,
        columns: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Predictions for rows.

        Args:
            rows: a list, or another iterable, of texts, pairs of texts (tuples), lists of words (tagging), or mappings
                with the task's columns; a table of pandas, polars or Arrow; or a data set of ``datasets``. Ambiguous
                input is an error.
            language: one for all rows, or one per row; a row's own column `language` takes precedence.
            columns: the columns of the fields; default: as in the training data.

        Returns:
            One mapping per row, in order: what the task predicts (``label`` and ``score``, ``tags`` and ``spans``,
            ``answer`` ...), with `probabilities` those of all candidates, the ``language`` of the row and the
            ``adapter`` used and, with `identify`, the ``confidence`` of the identification (None if the
            language was given); where languages are identified inside a sentence, also ``language_spans``: the parts
            of its texts, each with its language, adapter and confidence. ``language`` is None if its identification
            is uncertain, and the task's values are None if the model's outputs are infinite or NaN. Numbers have six
            significant digits.

        Raises:
            InputError: `rows` is not a collection of rows, or the number of languages differs.
            DataError: a row does not suit the task; the message names it.
        """
        if language is None or isinstance(language, str):
            return list(self.stream(rows, language, columns=columns))
        listed = list(memory_rows(rows, BadRows(), texts=True))
        names = _names(language)
        if len(listed) != len(names):
            raise InputError(f"There are {len(listed)} rows and {len(names)} languages; give one per row.")
        made = (replace(row, language=name) for row, name in zip(listed, names, strict=True))
        return list(self._stream(made, None, columns))

    def stream(
        self, rows: Any, language: str | None = None, *, columns: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Predictions for a long or endless stream of rows, in order; as `__call__`, one window at a time."""
        return self._stream(memory_rows(rows, BadRows(), texts=True), language, columns)

    def _stream(
        self, rows: Iterable[DataRow], language: str | None, columns: Mapping[str, str] | None
    ) -> Iterator[dict[str, Any]]:
        bad = BadRows(skip=False)
        accepted: list[Example] = []
        characters = 0
        for example in to_examples(
            self.task, rows, bad, columns=columns or {}, usual=self.usual, language=language, gold=False
        ):
            if problem := self.adapters.problem(example.language):
                bad.report(example.place, problem)
            accepted.append(example)
            characters += sum(map(len, example.texts))
            if len(accepted) == self.window or characters >= WINDOW_CHARACTERS:
                yield from self.predict(accepted)
                accepted, characters = [], 0
        yield from self.predict(accepted)

    def predict(
        self, examples: Sequence[Example], advance: Callable[[float], None] = lambda rows: None
    ) -> list[dict[str, Any]]:
        """Predictions for one window of examples, whose languages have no problem (see `Readers.problem`).

        Args:
            examples: rows of this task.
            advance: called with the number of rows read since the last call; fractions for a row in several windows.

        Returns:
            As `__call__`.
        """
        encoded = self.encode(examples)
        if self._is_open and examples:
            self.chosen, self.model = choose_precision(self.model, encoded, self.labels, batch_tokens=self.batch_tokens)
            self._is_open = self.chosen.agreement is None and len(examples) < LEAST
        return self.predict_encoded(encoded, advance=advance)

    def encode(self, examples: Sequence[Example]) -> Encoded:
        """Examples, whose languages have no problem, as the model reads them: who reads each, and its tokens."""
        readings = self.adapters.of(examples)
        return encode_examples(self.model, self.task, examples, readings, self.labels, self.room, self.tokenizer)

    def predict_encoded(
        self,
        encoded: Encoded,
        *,
        probabilities: bool | None = None,
        advance: Callable[[float], None] = lambda rows: None,
    ) -> list[dict[str, Any]]:
        """Predictions for encoded examples.

        Args:
            encoded: what `encode` made, or a part of it.
            probabilities: also return the probabilities of all candidates; None: as the predictor was made.
            advance: as for `predict`.

        Returns:
            As `__call__`.
        """
        self.tokens += encoded.tokens
        self.cut += sum(encoded.cut)
        predictions, strange = predict_examples(
            self.model,
            encoded,
            self.labels,
            batch_tokens=self.batch_tokens,
            probabilities=self.probabilities if probabilities is None else probabilities,
            advance=advance,
        )
        self.strange += sum(map(bool, strange))
        answer = []
        for reading, predicted, is_strange in zip(encoded.readings, predictions, strange, strict=True):
            prediction = dict.fromkeys(predicted) if is_strange else self._shown(predicted)
            prediction |= {"language": reading.language or None, "adapter": reading.adapter}
            if self.identifies:
                prediction["confidence"] = short(reading.confidence)
            if self.adapters.finds_spans:
                prediction["language_spans"] = short([asdict(span) for span in reading.spans])
            answer.append(prediction)
        return answer

    def settle(self, precision: WeightPrecision) -> None:
        """Run in a precision from now on, and choose no other."""
        self.model = to_run(self.model, precision)
        self._is_open = False


def _names(languages: Iterable[Any]) -> list[str | None]:
    """The languages of rows; None, or a missing value of pandas, for a row without one.

    Raises:
        InputError: one is not a text.
    """
    column = ({"language": name} for name in languages)
    names = [row.values["language"] for row in memory_rows(column, BadRows())]
    for number, name in enumerate(names):
        if not isinstance(name, str) and name is not None:
            raise InputError(f"The language of row {number} is {name!r:.60}: it must be a code or a name.")
    return names
