"""The first module of a SentenceTransformer: texts with their languages to vectors, without padding in the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import InputModule
from torch import Tensor

from xmodular.embeddings.embedder import Embedder
from xmodular.errors import ConfigurationError, InputError
from xmodular.identification import THRESHOLD
from xmodular.modeling import XmodForSentenceEmbedding, XmodPreTrainedModel
from xmodular.saved_models import longest
from xmodular.tasks.running import collate
from xmodular.tasks.task import Room

MODULE = "xmodular.embeddings.language_module.XmodModule"  # its name in modules.json


@dataclass(frozen=True)
class LanguageSettings:
    """How the module finds the language of a text that names none, and how much it reads; arguments of `Embedder`."""

    default_language: str | None = None
    identify: bool = True
    threshold: float = THRESHOLD
    fallback: str | None = None
    max_length: int | None = None


class XmodModule(InputModule):
    """An X-MOD encoder with its pooling, as the first module of a SentenceTransformer.

    An input is a text, or a mapping with a ``text`` and its ``language``.

    Args:
        model: as for `Embedder`.
        tokenizer: as for `Embedder`.
        embedding: `pooling`, `normalize`, `prefix` and `precision`, as for `Embedder`; None as if not given.
        settings: fields of `LanguageSettings`; None as if not given.

    Raises:
        ConfigurationError, LanguageError: an argument is wrong.
    """

    config_file_name = "sentence_xmodular_config.json"
    forward_kwargs = {"language"}

    def __init__(
        self,
        model: XmodPreTrainedModel | str | Path,
        tokenizer: Any = None,
        embedding: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.languages = LanguageSettings(**_given(settings))
        self.embedder = Embedder(model, tokenizer, **asdict(self.languages), **_given(embedding or {}))
        self.model: XmodForSentenceEmbedding = self.embedder.model

    def changed(self, tokenizer: Any, embedding: Mapping[str, Any], languages: Mapping[str, Any]) -> XmodModule:
        """The same model in a module with other arguments, where they are not None."""
        settings = self.embedder.settings
        given = {**asdict(settings), **_given(embedding)}
        given.pop("temperature")
        own = {**self.get_config_dict(), **_given(languages)}
        if tokenizer is None and self.embedder.shares_vocabulary:
            tokenizer = self.tokenizer
        return XmodModule(self.model, tokenizer, given, **own)

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        language: str | None = None,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Texts as tensors.

        Args:
            inputs: texts, or mappings with a ``text`` and a ``language``, which may be None.
            prompt: put before each text; None or "": the prefix that the model was trained with.
            language: that of all texts that do not name one.
            max_length: the most tokens of a text, instead of `max_seq_length`.
            kwargs: what sentence-transformers passes to all modules; ignored.

        Returns:
            ``input_ids`` and ``attention_mask``, (texts, tokens), and ``lang_ids``, (texts,), int64;
            ``token_type_ids`` like ``input_ids`` where a tokenizer has types.

        Raises:
            InputError, LanguageError: an input is not a text, or its language is unknown.
        """
        if language is not None and not isinstance(language, str):
            raise InputError(
                "One language per text must travel with the text, as batches are sorted: give mappings with a 'text' "
                "and a 'language', or load the model with xmodular.embeddings.sentence_transformer."
            )
        read = [_text_and_language(each, place, language) for place, each in enumerate(inputs)]
        texts = [text for text, _ in read]
        readings = self.embedder.readings(texts, [name for _, name in read])
        room = None if max_length is None else Room(min(max_length, self.max_seq_length))
        encodings = self.embedder.encodings(texts, readings, prefix=prompt or None, room=room)
        ids = {code: number for number, code in enumerate(self.model.languages)}
        return collate(encodings, [ids[each.adapter] for each in readings], self.model.config.pad_token_id)

    def forward(self, features: dict[str, Any], language: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding``, (texts, hidden), and ``token_embeddings``, (texts, tokens, hidden).

        Args:
            features: what `preprocess` made.
            language: has had its effect there.
            kwargs: ignored.
        """
        names = ("input_ids", "attention_mask", "token_type_ids")
        grids = {name: features[name] for name in names if name in features}
        lang_ids: Any = features.get("lang_ids")
        parts = self._vocabularies(lang_ids)
        if len(parts) == 1:
            output = self.model(**grids, lang_ids=lang_ids, return_dict=True)
            features |= {"sentence_embedding": output.embeddings, "token_embeddings": output.last_hidden_state}
            return features
        outputs = [
            self.model(**{name: grid[part] for name, grid in grids.items()}, lang_ids=lang_ids[part], return_dict=True)
            for part in parts
        ]
        back = torch.cat(parts).argsort()
        for name, found in (("sentence_embedding", "embeddings"), ("token_embeddings", "last_hidden_state")):
            features[name] = torch.cat([output[found] for output in outputs])[back]
        return features

    def _vocabularies(self, lang_ids: Tensor | None) -> list[Tensor]:
        """The rows of a batch by the vocabulary of their languages, of which a forward pass takes one."""
        own = self.model.config.vocabularies
        if not own or lang_ids is None:
            return [torch.empty(0)]
        codes = self.model.languages
        of_row = [codes[row] if codes[row] in own else "" for row in lang_ids.tolist()]
        return [
            torch.tensor([row for row, each in enumerate(of_row) if each == name], device=lang_ids.device)
            for name in dict.fromkeys(of_row)
        ]

    @property
    def max_seq_length(self) -> int:
        """The most tokens of a text."""
        return self.embedder.room.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.embedder.room = Room(longest(self.model, value))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the languages without their own vocabulary."""
        return self.embedder.tokenizer()

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self.embedder.set_tokenizer(value)

    def get_embedding_dimension(self) -> int:
        """The number of values in a vector."""
        return self.embedder.dimension

    def get_config_dict(self) -> dict[str, Any]:
        """What is saved beside the model."""
        return {**asdict(self.languages), "max_length": self.max_seq_length}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Writes the model with its tokenizer into a folder, where `Embedder` and the verbs find it too."""
        config = self.model.config
        before, config.sentence_embedding = config.sentence_embedding, self.embedder.settings.record()
        try:
            self.model.save_pretrained(output_path)
        finally:
            config.sentence_embedding = before
        if self.embedder.shares_vocabulary:
            self.save_tokenizer(output_path)
        self.save_config(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> XmodModule:
        """Loads the module, as sentence-transformers asks for it.

        Args:
            model_name_or_path, subfolder, token, cache_folder, revision, local_files_only: where it is.
            init_defaults: settings where none are stored.
            model_kwargs: only ``dtype``, of the weights.
            kwargs: what is for modules of other kinds; ignored.

        Raises:
            ConfigurationError: there is no such model, or an argument has no effect here.
        """
        where: dict[str, Any] = {"token": token, "cache_folder": cache_folder, "revision": revision}
        folder = cls.load_dir_path(model_name_or_path, subfolder, local_files_only=local_files_only, **where)
        if folder is None:
            raise ConfigurationError(f"There is no model at {model_name_or_path}/{subfolder}.")
        more = dict(model_kwargs or {})
        dtype = more.pop("dtype", more.pop("torch_dtype", None))
        if more:
            raise ConfigurationError(f"model_kwargs: {', '.join(more)} has no effect here; there is only dtype.")
        names = {field.name for field in fields(LanguageSettings)}
        stored = {**(init_defaults or {}), **cls.load_config(folder)}.items()
        module = cls(folder, **{name: value for name, value in stored if name in names})
        if dtype not in (None, "auto"):
            module.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        return module


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _text_and_language(given: Any, place: int, language: str | None) -> tuple[Any, str | None]:
    """The text and the language of an input.

    Raises:
        InputError: it is a pair, or has other keys.
    """
    if isinstance(given, Mapping):
        if "text" not in given or not set(given) <= {"text", "language"}:
            raise InputError(f"Input {place} has the keys {', '.join(map(repr, given))}: it needs 'text', 'language'.")
        return given["text"], given.get("language") or language
    if isinstance(given, (tuple, list)):
        raise InputError(f"Input {place} is a pair of texts: this model reads one text at a time.")
    return given, language
