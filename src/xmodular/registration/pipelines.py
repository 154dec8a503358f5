"""transformers' pipelines with a language: ``pipe(text, language="de")``, or ``pipe(text, identify=True)``.

Pipelines of other models do not change: the class registered for a task creates one of the original class
unless the model is an X-MOD model of this library.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.pipelines import PIPELINE_REGISTRY, Pipeline

from xmodular.errors import ConfigurationError, InputError
from xmodular.identification import THRESHOLD
from xmodular.languages import resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks import Example
from xmodular.tasks.readers import Readers, default_of
from xmodular.tasks.task import short
from xmodular.vocabulary import positions_of

_TOLD = "identified"  # (rows, 3): the numbers of the language, -1 if unsure, and of the adapter; the confidence
_SETTINGS = ("identify", "identify_languages", "threshold", "default_language")

# Those of transformers' tasks that these models have heads for. Not every release has all of them.
TASKS = (
    "feature-extraction",
    "fill-mask",
    "question-answering",
    "text-classification",
    "text-generation",
    "token-classification",
    "zero-shot-classification",
)


def register_pipelines() -> None:
    """Makes `transformers.pipeline` return pipelines with a `language` argument for models of this library."""
    for task in TASKS:
        entry = PIPELINE_REGISTRY.supported_tasks.get(task)
        if entry is None or getattr(entry["impl"], "chooses_by_model", False):
            continue
        original = entry["impl"]
        if isinstance(original, str):  # the class by its full name
            module, _, name = original.rpartition(".")
            original = getattr(importlib.import_module(module), name)
        entry["impl"] = _choice(original, _with_language(original))


def _choice(original: type[Pipeline], ours: type[Pipeline]) -> type[Pipeline]:
    """A class that replaces a pipeline class in the registry; it never has instances."""

    class Choice(original):  # type: ignore[misc, valid-type]  # for its attributes about tokenizers and so on
        chooses_by_model = True

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            model = kwargs.get("model", args[0] if args else None)
            return (ours if isinstance(_inside(model), XmodPreTrainedModel) else original)(*args, **kwargs)

    Choice.__name__, Choice.__qualname__ = original.__name__, original.__qualname__
    return Choice


def _inside(model: Any) -> Any:
    """The model that torch.compile and PEFT wrap."""
    model = getattr(model, "_orig_mod", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _with_language(original: type[Pipeline]) -> type[Pipeline]:
    """A pipeline class whose calls, and whose constructor, take `language`, or `identify` and what goes with it."""

    class WithLanguage(original):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            positions = positions_of(self.model.config)
            words = getattr(self, "tokenizer", None)
            if words is None:
                return
            names = words.model_input_names
            if self.model.config.type_vocab_size < 2:  # types of tokens are for models that tell them apart
                names = [name for name in names if name != "token_type_ids"]
            if words.model_max_length > positions or names != words.model_input_names:
                self.tokenizer = copy.copy(words)
                self.tokenizer.model_max_length = min(positions, words.model_max_length)  # many know no length
                self.tokenizer.model_input_names = names

        def _sanitize_parameters(self, language: str | None = None, **kwargs: Any) -> Any:
            settings = {name: kwargs.pop(name) for name in _SETTINGS if name in kwargs}
            preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
            if settings:
                preprocess = {**preprocess, "readers": _readers(self.model, **settings)}
            if language is None:
                return preprocess, forward, postprocess
            code = resolve(language, self.model.languages)
            _check_vocabulary(self.model, code)
            return {**preprocess, "language": code}, {**forward, "language": code}, postprocess

        def preprocess(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            language, readers = kwargs.pop("language", None), kwargs.pop("readers", None)
            made = super().preprocess(inputs, *args, **kwargs)
            if language is not None or readers is None:
                return made
            told = _told(self.model, readers, inputs)
            if not hasattr(made, "items"):  # windows or choices of the input
                return ({**each, _TOLD: told} for each in made)
            made[_TOLD] = told
            return made

        def _forward(self, model_inputs: Any, language: str | None = None, **kwargs: Any) -> Any:
            told = model_inputs.pop(_TOLD, None)
            if language is None and told is None:
                _check_vocabulary(self.model, self.model.languages[self.model.default_lang_id()])
                return super()._forward(model_inputs, **kwargs)
            # A pipeline of its own for this call, as threads share this one and its model.
            speaking = copy.copy(self)
            speaking.model = _Speaking(self.model, self.model.lang_ids(language) if told is None else told[:, 1].long())
            made = super(WithLanguage, speaking)._forward(model_inputs, **kwargs)
            if told is not None:
                made[_TOLD] = told
            return made

        def postprocess(self, model_outputs: Any, *args: Any, **kwargs: Any) -> Any:
            first = model_outputs[0] if isinstance(model_outputs, list) else model_outputs
            told = first.get(_TOLD) if hasattr(first, "get") else None
            if type(model_outputs) is dict:  # what is not known is shown, of generated text
                model_outputs = {name: value for name, value in model_outputs.items() if name != _TOLD}
            made = super().postprocess(model_outputs, *args, **kwargs)
            return made if told is None else _with_reader(made, _reader_of(self.model, told[0]))

    WithLanguage.__name__, WithLanguage.__qualname__ = original.__name__, original.__qualname__
    return WithLanguage


class _Speaking:
    """A model that is told the language of its inputs; all else is the model's own."""

    def __init__(self, model: Any, lang_ids: Tensor) -> None:
        self._model = model
        self._lang_ids = lang_ids

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._model(*args, **{"lang_ids": self._lang_ids, **kwargs})

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        return self._model.generate(*args, **{"lang_ids": self._lang_ids, **kwargs})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _check_vocabulary(model: XmodPreTrainedModel, code: str | None) -> None:
    """A pipeline's one tokenizer reads the shared vocabulary.

    Raises:
        InputError: the language has another one.
    """
    if code in model.config.vocabularies:
        raise InputError(
            f"{code} has its own vocabulary, which the tokenizer of a pipeline does not know: use "
            "xmodular.Predictor or xmodular.fill_mask."
        )


def _readers(
    model: Any,
    *,
    identify: Any = False,
    identify_languages: Any = (),
    threshold: float = THRESHOLD,
    default_language: str | None = None,
) -> Readers | None:
    """Finds the adapter for each text, with the arguments of `xmodular.Predictor`; None without identification.

    Raises:
        ConfigurationError: languages would be identified inside a text, or the others are given without `identify`.
    """
    if identify is False:
        if identify_languages or default_language is not None or threshold != THRESHOLD:
            raise ConfigurationError(
                "identify_languages, threshold and default_language need identify, in the same call."
            )
        return None
    if not 0 <= threshold <= 1:
        raise ConfigurationError(f"threshold is {threshold}: it must be from 0 to 1.")
    default = default_language or default_of(model.config)
    readers = Readers(model, default, identify=identify, threshold=threshold, fallback=None, among=identify_languages)
    if readers.finds_spans:
        raise ConfigurationError(
            "A pipeline reads each text with one adapter: identify without 'spans', or use xmodular.Predictor."
        )
    return readers


def _told(model: Any, readers: Readers, inputs: Any) -> Tensor:
    """The language of an input, its adapter, and the confidence, as `_TOLD`."""
    (reading,) = readers.of([Example(_texts(inputs), None, "")])
    _check_vocabulary(model, reading.adapter)
    numbers = {code: number for number, code in enumerate(model.languages)}
    found = [numbers.get(reading.language, -1), numbers[reading.adapter], reading.confidence or 0.0]
    return torch.tensor([found], dtype=torch.float32)


def _texts(inputs: Any) -> tuple[str, ...]:
    """The texts of a pipeline's input: a text, a pair, words, a question with its context, a chat."""
    if isinstance(inputs, str):
        return (inputs,)
    if hasattr(inputs, "question_text"):
        return inputs.question_text, inputs.context_text
    if hasattr(inputs, "messages"):
        inputs = [each.get("content") for each in inputs.messages]
    if isinstance(inputs, Mapping):
        return tuple(text for value in inputs.values() for text in _texts(value))
    if isinstance(inputs, (list, tuple)):
        return (" ".join(text for value in inputs for text in _texts(value)),)
    return ()


def _reader_of(model: Any, told: Tensor) -> dict[str, Any]:
    """What a prediction says of the adapter that made it, as `xmodular.Predictor` does."""
    language, adapter, confidence = told.tolist()
    codes = model.languages
    return {
        "language": None if language < 0 else codes[int(language)],
        "adapter": codes[int(adapter)],
        "confidence": short(confidence),
    }


def _with_reader(made: Any, reader: Mapping[str, Any]) -> Any:
    """A pipeline's answer with the reader in each of its mappings."""
    if isinstance(made, dict):
        return {**made, **reader}
    return [_with_reader(each, reader) for each in made] if isinstance(made, list) else made
