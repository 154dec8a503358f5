"""An encoder as a function from texts to vectors, in all its languages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.errors import ConfigurationError, InputError, LanguageError, speaking
from xmodular.exported_models import ExportedModel, is_exported
from xmodular.identification import THRESHOLD, Identify
from xmodular.identification.identifier import listed_texts
from xmodular.modeling import XmodForSentenceEmbedding, XmodPreTrainedModel
from xmodular.options import Fallback, WeightPrecision
from xmodular.rows import half_surrogate
from xmodular.saved_models import WithTokenizers, embedding_settings_of, given_model, to_run
from xmodular.tasks.readers import Readers, Reading, check_one_language, default_of
from xmodular.tasks.running import BATCH_TOKENS, passes, predict_logits, without_adapters
from xmodular.tasks.task import Encoding, Example, Room, room_of
from xmodular.tasks.text_fields import encode_texts


class Embedder(WithTokenizers):
    """An encoder as a function from texts to vectors.

    Texts of any languages go together: they are sorted by length and put into batches with about as many tokens, in
    which the layers see no padding.

    Args:
        model: any X-MOD model, of which the encoder is used: an object, which stays on its device, or a folder or a
            name on the Hub, which is put on the GPU if there is one.
        tokenizer: its tokenizer, or the tokenizer's location; None uses the model's.
        pooling: "mean" of the states of all tokens, or "first" ("cls"), the state of the first token. None: as the
            model's configuration or sentence-transformers' files next to it say, else "mean".
        normalize: whether vectors have the length 1; None: as recorded, else True.
        prefix: put before each text; None: as recorded, else nothing. Languages are identified without it.
        default_language: language of texts that name none; with `identify`, of uncertain ones.
        identify: identify the language of texts that name none: as for `Predictor`, but for one language a text.
        threshold: least confidence of an identification, in [0, 1].
        fallback: "relative" uses the adapter of the nearest relative for languages that the model lacks.
        max_length: most tokens per text; longer ones are truncated. None: as in fine-tuning, or 512.
        batch_tokens: tokens per forward pass, padding included.
        precision: "keep" that of the weights, or run in "fp32", "bf16" or "fp16"; a model object is copied for this.

    Attributes:
        model: the encoder.
        settings: how states become vectors.
        adapters: chooses the adapter of each text.
        room: the most tokens of a text.
        cut: number of texts that were truncated so far.

    Raises:
        ConfigurationError, LanguageError: an argument is wrong.
    """

    @speaking
    def __init__(
        self,
        model: XmodPreTrainedModel | str | Path,
        tokenizer: PreTrainedTokenizerFast | str | Path | None = None,
        *,
        pooling: Literal["mean", "first", "cls"] | None = None,
        normalize: bool | None = None,
        prefix: str | None = None,
        default_language: str | None = None,
        identify: Identify = False,
        threshold: float = THRESHOLD,
        fallback: Fallback | None = None,
        max_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        precision: WeightPrecision = "keep",
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigurationError(f"threshold is {threshold}: it must be from 0 to 1.")
        if batch_tokens < 1:
            raise ConfigurationError(f"batch_tokens is {batch_tokens}: it must be at least 1.")
        self.model = encoder_of(model, precision)
        self.settings = self.model.settings.changed(pooling=pooling, normalize=normalize, prefix=prefix)
        self.model.settings = self.settings
        if identify is not False and default_language is None:
            default_language = default_of(self.model.config)
        self.adapters = Readers(self.model, default_language, identify=identify, threshold=threshold, fallback=fallback)
        check_one_language(self.adapters)
        self.room = room_of(self.model, max_length)
        self.batch_tokens = batch_tokens
        self.cut = 0
        self._take_tokenizer(tokenizer)

    @property
    def dimension(self) -> int:
        """The number of values in a vector."""
        return int(self.model.config.hidden_size)

    @speaking
    def __call__(self, texts: Sequence[str], language: str | Sequence[str | None] | None = None) -> np.ndarray:
        """The vectors of texts.

        Args:
            texts: any texts; an empty one is read as its special tokens.
            language: one for all texts, or one for each; None for the default or, with `identify`, the identified one.
                The code of another language uses that language's adapter.

        Returns:
            float32, *Shape: (len(texts), hidden)*, in the order of the texts.

        Raises:
            InputError: `texts` is not a list of texts, or the number of languages differs.
            LanguageError: the model lacks a language, or nothing says which one a text is in.
        """
        return self.read(texts, self.readings(texts, language))

    def readings(self, texts: Sequence[str], language: str | Sequence[str | None] | None = None) -> list[Reading]:
        """The adapter that reads each text; arguments and errors as for `__call__`."""
        check_texts(texts)
        names = [language] * len(texts) if language is None or isinstance(language, str) else list(language)
        if len(names) != len(texts):
            raise InputError(f"There are {len(texts)} texts and {len(names)} languages; give one language per text.")
        for place, name in enumerate(names):
            if name is not None and not isinstance(name, str):
                raise InputError(f"The language of text {place} is {name!r:.60}: it must be a code or a name.")
        for name in dict.fromkeys(names):
            self._check_language(name)
        made = zip(texts, names, strict=True)
        return self.adapters.of([Example((text,), None, "", language=name) for text, name in made])

    def read(self, texts: Sequence[str], readings: Sequence[Reading]) -> np.ndarray:
        """The vectors of texts, each by the adapter of a given reading, or by none (``adapted=False``).

        Args:
            texts: as for `__call__`.
            readings: one for each text.

        Returns:
            As `__call__`.
        """
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        ids = {code: number for number, code in enumerate(self.model.languages)}
        encodings = self.encodings(texts, readings)
        for (_, adapted), places in passes(self.model, readings).items():
            with without_adapters(self.model, left_out=not adapted):
                found[places] = predict_logits(
                    self.model,
                    [encodings[place] for place in places],
                    [ids[readings[place].adapter] for place in places],
                    pad_id=self.model.config.pad_token_id,
                    batch_tokens=self.batch_tokens,
                )
        return found

    def encodings(
        self, texts: Sequence[str], readings: Sequence[Reading], *, prefix: str | None = None, room: Room | None = None
    ) -> list[Encoding]:
        """Texts as token ids, each with the vocabulary of its adapter.

        Args:
            texts, readings: as for `read`.
            prefix: instead of that of the settings.
            room: instead of the embedder's.
        """
        before = self.settings.prefix if prefix is None else prefix
        made: list[Encoding] = [Encoding(place, ()) for place in range(len(texts))]
        for (vocabulary, _), places in passes(self.model, readings).items():
            rows = [(before + texts[place],) for place in places]
            read = encode_texts(self.tokenizer(vocabulary), rows, room or self.room)
            for place, row in zip(places, read, strict=True):
                made[place] = Encoding(place, (row.ids,), cut=row.cut, types=(row.types,))
        self.cut += sum(each.cut for each in made)
        return made

    def _check_language(self, name: str | None) -> None:
        if (problem := self.adapters.problem(name)) is None:
            return
        if name is None:
            problem = "The language of a text is not known: give `language`, a `default_language`, or identify=True."
        raise LanguageError(problem)


def encoder_of(
    model: XmodPreTrainedModel | str | Path, precision: WeightPrecision = "keep", resident_languages: int | None = None
) -> XmodForSentenceEmbedding:
    """The encoder of any X-MOD model, for inference, with what is recorded of its pooling.

    Args:
        model: an object, whose modules are used and not changed (in another precision they are copied); or a folder or
            a name on the Hub, whose head, if it has one, is not loaded.
        precision: precision of the weights.
        resident_languages: as for `to_run`.

    Raises:
        ConfigurationError: there is no X-MOD model, or only an exported graph.
    """
    given, source = given_model(model)
    if isinstance(given, ExportedModel) or (given is None and is_exported(source)):
        raise ConfigurationError(f"{source} is an exported model: embed with the model that it was exported from.")
    loaded = to_run(source if given is None else given, precision, "XmodForSentenceEmbedding", resident_languages)
    made = XmodForSentenceEmbedding.around(loaded)
    is_there = given is None or Path(source).is_dir()
    made.settings = embedding_settings_of(made.config, source if is_there else None)
    return made


def check_texts(texts: Sequence[str]) -> None:
    """Raises InputError if `texts` is not a list of texts that can be encoded."""
    for place, text in enumerate(listed_texts(texts)):
        if half_surrogate({"": text}) is not None:
            raise InputError(f"Text {place} has an unpaired surrogate, which is not a character: {text!r:.60}.")
