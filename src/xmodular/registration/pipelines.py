"""transformers' pipelines with a `language` argument: ``pipe(text, language="de")``.

Pipelines of other models do not change: the class registered for a task creates one of the original class
unless the model is an X-MOD model of this library.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY, Pipeline

from xmodular.errors import InputError
from xmodular.languages import resolve
from xmodular.modeling.pretrained import XmodPreTrainedModel

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
    """A pipeline class whose calls, and whose constructor, take `language`."""

    class WithLanguage(original):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            positions = self.model.config.max_position_embeddings - self.model.config.pad_token_id - 1
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
            preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
            if language is None:
                return preprocess, forward, postprocess
            code = resolve(language, self.model.languages)
            _check_vocabulary(self.model, code)
            return preprocess, {**forward, "language": code}, postprocess

        def _forward(self, model_inputs: Any, language: str | None = None, **kwargs: Any) -> Any:
            if language is None:
                _check_vocabulary(self.model, self.model.languages[self.model.default_lang_id()])
                return super()._forward(model_inputs, **kwargs)
            # A pipeline of its own for this call, as threads share this one and its model.
            speaking = copy.copy(self)
            speaking.model = _Speaking(self.model, language)
            return super(WithLanguage, speaking)._forward(model_inputs, **kwargs)

    WithLanguage.__name__, WithLanguage.__qualname__ = original.__name__, original.__qualname__
    return WithLanguage


class _Speaking:
    """A model whose inputs are in one language; all else is the model's own."""

    def __init__(self, model: Any, language: str) -> None:
        self._model = model
        self._lang_ids = model.lang_ids(language)

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
