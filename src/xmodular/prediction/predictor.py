"""A fine-tuned model as a function from rows to predictions, in any of its languages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from xmodular.errors import ConfigurationError, InputError, speaking
from xmodular.identify import THRESHOLD
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import Fallback, WeightPrecision
from xmodular.rows import BadRows, DataRow, memory_rows
from xmodular.tasks import TASKS, Example, given_model, read_labels, room_of, task_of, to_run, tokenizer_of
from xmodular.tasks.examples import columns_of_training
from xmodular.tasks.examples import examples as to_examples
from xmodular.tasks.readers import Readers
from xmodular.tasks.running import BATCH_TOKENS, encode_examples, predict_examples
from xmodular.tasks.task import short
from xmodular.vocabulary import suited

WINDOW = 2048
# A window of very long texts is closed earlier, so that memory stays bounded.
WINDOW_CHARACTERS = 4_000_000


class Predictor:
    """Runs a fine-tuned model over rows of any languages together.

    Rows are taken in windows; within one they are sorted by length, put into batches of about as many tokens, and
    given back in the order in which they came. A batch mixes languages.

    Args:
        model: a model with a task head: an object, which stays on its device, or a folder or a name on the Hub, which
            goes to the GPU where there is one.
        tokenizer: its tokenizer, or where it is; None takes the model's.
        default_language: language of rows that name none; with `identify`, of those that stay unsure.
        identify: identify the language of rows that name none.
        threshold: least confidence of an identification, in [0, 1].
        fallback: "relative" reads languages that the model lacks with the adapter of their nearest relative.
        max_length: tokens a row at most; longer ones are cut, or read in windows where the task can. None: as
            fine-tuned, or 512.
        stride: tokens that two windows of a long context share. None: as fine-tuned, or a quarter of the length.
        batch_tokens: tokens a forward pass, padding included.
        window: rows that are sorted by length together.
        precision: "keep" the weights', or run in "fp32", "bf16" or "fp16"; a model object is copied for it.
        probabilities: also give those of all labels, tags or choices.

    Raises:
        ConfigurationError: the model has no head of a task; or a number is out of its range.
    """

    @speaking
    def __init__(
        self,
        model: XmodPreTrainedModel | str | Path,
        tokenizer: PreTrainedTokenizerFast | str | Path | None = None,
        *,
        default_language: str | None = None,
        identify: bool = False,
        threshold: float = THRESHOLD,
        fallback: Fallback | None = None,
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        window: int = WINDOW,
        precision: WeightPrecision = "keep",
        probabilities: bool = False,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigurationError(f"threshold is {threshold}: a confidence is from 0 to 1.")
        for name, value in (("batch_tokens", batch_tokens), ("window", window)):
            if value < 1:
                raise ConfigurationError(f"{name} is {value}: it must be at least 1.")
        given, source = given_model(model)
        if given is None and Path(source, "seeds.json").is_file() and not Path(source, "config.json").exists():
            raise ConfigurationError(f"{source} holds a model for each seed: name one of them, as {source}/seed-0.")
        self.model = to_run(model, precision)
        task = task_of(self.model)
        if task is None:
            raise ConfigurationError(
                f"{source} is a {type(self.model).__name__} without the head of a task: fine-tune it first "
                "(xmodular finetune); masks are filled by xmodular fill-mask."
            )
        if probabilities and task.probabilities is None:
            able = ", ".join(name for name, each in TASKS.items() if each.probabilities is not None)
            raise ConfigurationError(
                f"{source} is a model for {task.name}, which chooses from no list; probabilities are for {able}."
            )
        self.task = task
        self.probabilities = probabilities
        self.labels = read_labels(self.model)
        self.usual = columns_of_training(self.model.config, task)
        self.window = window
        self.adapters = Readers(self.model, default_language, identify=identify, threshold=threshold, fallback=fallback)
        self.identifies = identify
        self.tokens = 0
        self.cut = 0  # rows that are longer than what the model reads of them
        self.strange = 0  # rows for which the model's outputs were no finite numbers
        self.room = room_of(self.model, max_length, stride)
        self.batch_tokens = batch_tokens
        self._tokenizers: dict[str | None, PreTrainedTokenizerFast] = {}
        self._source: str | Path | None = None
        if isinstance(tokenizer, (str, Path)) or tokenizer is None:
            self._source = tokenizer
            if len(self.model.config.vocabularies) < len(self.model.languages):
                self._tokenizer(None)  # what is wrong with it shows before any row is read
        elif not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise InputError(f"tokenizer is a {type(tokenizer).__name__}: give a fast tokenizer, or where one is.")
        else:
            self._tokenizers[None] = suited(tokenizer, self.model.config)

    @property
    def fields(self) -> list[str]:
        """The names in a prediction that are no part of the task's: whose adapter read it, and why."""
        return ["language", "adapter", *(["confidence"] if self.identifies else [])]

    @property
    def columns(self) -> dict[str, Any]:
        """The names in a prediction, in their order, each with a value of its kind."""
        made = {**self.task.columns(self.labels)}
        if not self.probabilities:
            made.pop("probabilities", None)
        return {**made, **dict(zip(self.fields, ("", "", 0.0), strict=False))}

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
                with the task's columns; a table of pandas, polars or Arrow; or a data set of ``datasets``. What could
                be misread is refused.
            language: of all rows, or one per row; a row's own column `language` goes first.
            columns: which column has which field; default: as in the training data.

        Returns:
            One mapping per row, in order: what the task predicts (``label`` and ``score``, ``tags`` and ``spans``,
            ``answer`` ...), with `probabilities` those of all that it chose from, the ``language`` of the row and the
            ``adapter`` that read it, and, with `identify`, the ``confidence`` of the identification (None where the
            language was given). ``language`` is None where its identification stays unsure, and what the task predicts
            is where the model's outputs are infinite or no numbers. Numbers have six significant digits.

        Raises:
            InputError: `rows` is no collection of rows, or there are more or fewer languages.
            DataError: a row is not what the task reads; the message names it.
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
        """Predictions for an endless or long stream of rows, in order; as `__call__`, a window at a time."""
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
            advance: told how many rows were read, again and again; of a row in several windows, parts.

        Returns:
            As `__call__`.
        """
        readings = self.adapters.of(examples)
        encoded = encode_examples(self.model, self.task, examples, readings, self.labels, self.room, self._tokenizer)
        self.tokens += encoded.tokens
        self.cut += sum(encoded.cut)
        predictions, strange = predict_examples(
            self.model,
            encoded,
            self.labels,
            batch_tokens=self.batch_tokens,
            probabilities=self.probabilities,
            advance=advance,
        )
        self.strange += sum(map(bool, strange))
        answer = []
        for reading, predicted, is_strange in zip(readings, predictions, strange, strict=True):
            prediction = dict.fromkeys(predicted) if is_strange else short(predicted)
            prediction |= {"language": reading.language or None, "adapter": reading.adapter}
            if self.identifies:
                prediction["confidence"] = short(reading.confidence)
            answer.append(prediction)
        return answer

    def _tokenizer(self, vocabulary: str | None) -> PreTrainedTokenizerFast:
        """The tokenizer of a language with its own vocabulary, or of all others (None)."""
        if vocabulary not in self._tokenizers:
            self._tokenizers[vocabulary] = tokenizer_of(self.model, self._source, vocabulary)
        return self._tokenizers[vocabulary]


def _names(languages: Iterable[Any]) -> list[str | None]:
    """The languages of rows; None, also as pandas writes it, where there is none.

    Raises:
        InputError: one is no text.
    """
    column = ({"language": name} for name in languages)
    names = [row.values["language"] for row in memory_rows(column, BadRows())]
    for number, name in enumerate(names):
        if not isinstance(name, str) and name is not None:
            raise InputError(f"The language of row {number} is {name!r:.60}: a code or a name is needed.")
    return names
