"""An encoder for the benchmark MTEB, which hands the languages of its tasks to the adapters."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xmodular.embeddings.embedder import Embedder
from xmodular.errors import ConfigurationError, LanguageError, speaking
from xmodular.identification import Identifier
from xmodular.languages import names_of
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import Fallback, WeightPrecision
from xmodular.saved_models import given_model, home_of
from xmodular.tasks.readers import reading_of
from xmodular.tasks.running import BATCH_TOKENS

_CERTAIN = 0.8  # of a column's identified texts, in the other language than its place says
_PROMPTS = ("query", "document")
EXTRA = "pip install 'xmodular[mteb]'"


class MtebEncoder:
    """An encoder as `mteb.evaluate` takes it, in which every text is read by the adapter of its language.

    A task says which languages a subset has. Where it is one, all texts are in it. Of the two of a bitext task, the
    first column is in the first and the second in the second, unless most of its texts are identified as the other
    one. In other tasks with several, the language of each text is identified among them, if all of them can be
    identified; else the texts are in the first one.

    Args:
        model: any X-MOD model, as for `Embedder`.
        prompts: put before texts, by "query" and "document"; before others goes `prefix`.
        prefix, pooling, max_length, batch_tokens, precision: as for `Embedder`.
        default_language: the adapter for languages that the model lacks, and for texts whose language cannot be
            identified; None: lacking ones are an error.
        fallback: "relative" reads languages that the model lacks with the adapter of the nearest relative.
        name: the model's name in the results; default: the last two parts of its path.

    Raises:
        ConfigurationError, LanguageError: an argument is wrong, or the package `mteb` is missing.
    """

    @speaking
    def __init__(
        self,
        model: XmodPreTrainedModel | str | Path,
        *,
        prompts: Mapping[str, str] | None = None,
        prefix: str | None = None,
        pooling: Literal["mean", "first", "cls"] | None = None,
        default_language: str | None = None,
        fallback: Fallback | None = None,
        max_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        precision: WeightPrecision = "keep",
        name: str | None = None,
    ) -> None:
        if importlib.util.find_spec("mteb") is None:
            raise ConfigurationError(f"MtebEncoder needs mteb, which the extra brings: {EXTRA}.")
        for kind in prompts or {}:
            if kind not in _PROMPTS:
                raise ConfigurationError(f"prompts has {kind!r}; it may have {' and '.join(_PROMPTS)}.")
        self.embedder = Embedder(
            model,
            pooling=pooling,
            prefix=prefix,
            fallback=fallback,
            max_length=max_length,
            batch_tokens=batch_tokens,
            precision=precision,
        )
        self._codes: Sequence[str] = self.embedder.model.languages
        self._default = None if default_language is None else reading_of(default_language, self._codes).adapter
        self._prompts, self._fallback = dict(prompts or {}), fallback
        given, source = given_model(model)
        parts = Path(source if given is None else home_of(given) or "model").parts
        self._name = name or "/".join(["xmodular", *parts][-2:])
        self._identifiers: dict[tuple[str, ...], Identifier] = {}
        self._columns: dict[tuple[str, str, str], dict[int, int]] = {}  # of a bitext: language by hash of the texts

    @speaking
    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """The vectors of texts, as MTEB asks for them.

        Args:
            inputs: batches with ``text``.
            task_metadata, hf_split, hf_subset: what they are of.
            prompt_type: "query", "document" or None.
            kwargs: others of MTEB's, such as a batch size, which are ignored.

        Returns:
            float32, *Shape: (texts, hidden)*.

        Raises:
            LanguageError: the model lacks a language of the task.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        languages = self._languages(texts, task_metadata, hf_split, hf_subset)
        kind = str(getattr(prompt_type, "value", prompt_type))
        settings = self.embedder.settings
        self.embedder.settings = settings.changed(prefix=self._prompts.get(kind))
        try:
            return self.embedder(texts, languages)
        finally:
            self.embedder.settings = settings

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of all pairs, *Shape: (first, second)*."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of corresponding pairs, *Shape: (pairs,)*."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @cached_property
    def mteb_model_meta(self) -> Any:
        """What MTEB records of the model."""
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction

        model = self.embedder.model
        known = {
            "name": self._name,
            "revision": None,
            "languages": None,
            "n_parameters": sum(each.numel() for each in model.parameters()),
            "max_tokens": self.embedder.room.max_length,
            "embed_dim": self.embedder.dimension,
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "modalities": ["text"],
        }
        return ModelMeta.create_empty(known)

    def _languages(self, texts: Sequence[str], task: Any, split: str, subset: str) -> list[str]:
        """The adapter of each text."""
        listed = task.hf_subsets_to_langscripts
        names = listed.get(subset) or [subset]  # a column of a parallel corpus is called as its language
        codes = list(dict.fromkeys(self._code(name, task.name) for name in names))
        if len(codes) == 1:
            return codes * len(texts)
        if task.type == "BitextMining" and len(codes) == 2:
            return [self._of_column(texts, codes, (task.name, split, subset))] * len(texts)
        if self._identifier(codes).unknown:
            return codes[:1] * len(texts)
        usual = self._default if self._default in codes else codes[0]
        return [found.language or usual for found in self._identifier(codes)(texts)]

    def _code(self, name: str, task: str) -> str:
        """The adapter of a language as MTEB writes it, such as ``deu-Latn``."""
        try:
            return reading_of(name, self._codes, self._fallback).adapter
        except LanguageError as error:
            if self._default is not None:
                return self._default
            said = names_of(name)["english"]
            raise LanguageError(
                f"The task {task} is in {name}{f' ({said})' if said else ''}, which the model lacks: choose an adapter "
                f"for it with fallback='relative' or default_language. {error}"
            ) from None

    def _of_column(self, texts: Sequence[str], codes: Sequence[str], key: tuple[str, str, str]) -> str:
        """The language of one of a bitext's two columns, which come one after the other.

        MTEB does not tell which one it is, and the order is not always that of the languages. A column that comes
        again, as when a run is repeated, is known by its texts.
        """
        known, texts_hash = self._columns.setdefault(key, {}), hash(tuple(texts))
        if texts_hash not in known:
            if len(known) % 2:  # the other one of a pair
                place = 1 - [*known.values()][-1]
            else:
                place, identifier = 0, self._identifier(codes)
                if not identifier.unknown:
                    counts = Counter(each.language for each in identifier(texts) if each.language is not None)
                    place = int(counts[codes[1]] >= _CERTAIN * max(1, counts.total()))
            known[texts_hash] = place
        return codes[known[texts_hash]]

    def _identifier(self, codes: Sequence[str]) -> Identifier:
        return self._identifiers.setdefault(tuple(codes), Identifier(codes))
