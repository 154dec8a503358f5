"""The languages of a model, as its methods: ids, defaults, changes, vocabularies of their own, packs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from xmodular.configuration import XmodConfig
from xmodular.errors import InputError, LanguageError
from xmodular.languages import resolve, resolve_all
from xmodular.modeling import language_changes, language_packs
from xmodular.modeling.labels import real_positions
from xmodular.modeling.own_vocabularies import embeddings_of, give_vocabulary, make_vocabulary
from xmodular.modeling.shortcuts import tracing
from xmodular.options import WeightPrecision
from xmodular.packs import Misfit, Pack, read_pack, write_pack


class MultilingualModel(PreTrainedModel):
    """A model with an adapter per language in every layer, whose languages come and go."""

    config: XmodConfig
    config_class = XmodConfig

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of this model; the position of a code is its language id."""
        return tuple(self.config.languages)

    def lang_ids(self, languages: str | Sequence[str], *, fallback: str | None = None) -> Tensor:
        """Language ids for a batch.

        Args:
            languages: one name per sequence (codes, tags or English names), or one name.
            fallback: "relative" takes the nearest relative of a language that the model lacks, and says so.

        Returns:
            *Shape: (batch,)*, int64, on the model's device.

        Raises:
            LanguageError: if this model has no such language.
        """
        names = [languages] if isinstance(languages, str) else languages
        if not isinstance(names, Iterable):
            raise LanguageError(f"languages is {names!r:.80}: give a list of names, such as ['de', 'sw'].")
        codes = list(self.config.languages)
        ids = [codes.index(resolve(name, codes, fallback=fallback)) for name in names]
        device = None if self.device.type == "meta" else self.device  # meta: the weights are offloaded
        return torch.tensor(ids, dtype=torch.long, device=device)

    def set_default_language(self, language: str, *, fallback: str | None = None) -> None:
        """Sets the language of inputs that come without `lang_ids`.

        Args:
            language: a code of this model, a language tag, or an English or native name.
            fallback: "relative" takes the nearest relative of a language that the model lacks, and says so.

        Raises:
            LanguageError: if this model has no such language.
        """
        self.config.default_language = resolve(language, self.config.languages, fallback=fallback)

    @property
    def tokenizers(self) -> dict[str, str]:
        """The ``tokenizer.json`` of each language that has a vocabulary of its own."""
        return embeddings_of(self).tokenizers

    @contextmanager
    def language(self, language: str, *, fallback: str | None = None) -> Iterator[Any]:
        """Inside `with model.language("sw"):` inputs without `lang_ids` are in that language.

        The default language is the model's, not a thread's: threads that share a model pass `lang_ids`.

        Raises:
            LanguageError: if this model has no such language.
        """
        code = resolve(language, self.languages, fallback=fallback)
        before = self.__dict__.setdefault("_defaults_before", [])  # follows what is renamed or removed inside
        before.append(self.config.default_language)
        self.config.default_language = code
        try:
            yield self
        finally:
            self.config.default_language = before.pop()

    def default_lang_id(self) -> int:
        """Id of the default language, which is that of a model with one language in any case.

        Raises:
            LanguageError: if none is set, or if it is not a language of this model.
        """
        default = self.config.default_language
        codes = list(self.config.languages)
        if default is None and len(codes) == 1:
            return 0
        if default is None:
            raise LanguageError(
                "the language of the input is unknown: pass lang_ids (for example model.lang_ids([...])) or call "
                f"model.set_default_language({codes[0]!r}) first. This model has {', '.join(codes)}."
            )
        return codes.index(resolve(default, codes))

    def vocabulary_of(self, lang_ids: Any, attention_mask: Any = None) -> str | None:
        """The language whose own vocabulary a batch is in; None where it is the one that the others share.

        Args:
            lang_ids: as for `forward`; None means the default language.
            attention_mask: *Shape: (B, S)*; languages at padding do not count.

        Raises:
            InputError: if the batch mixes vocabularies, so that its ids have no one meaning.
        """
        own, codes = self.config.vocabularies, self.config.languages
        if not own:
            return None
        if lang_ids is None:
            used = [self.default_lang_id()]
        elif not isinstance(lang_ids, Tensor) or lang_ids.is_floating_point() or lang_ids.dtype == torch.bool:
            return None  # refused where lang_ids are checked
        elif tracing():
            raise InputError(
                f"{', '.join(own)} have vocabularies of their own: compile, export or trace the model for one language "
                "(set_default_language and no lang_ids), or keep_languages without them."
            )
        else:
            real = real_positions(attention_mask, lang_ids.shape[-1])
            if real is not None and real.shape == lang_ids.shape:
                lang_ids = lang_ids[real]
            used = [language for language in lang_ids.unique().tolist() if 0 <= language < len(codes)]
        vocabularies = {codes[language]: codes[language] if codes[language] in own else None for language in used}
        if len(set(vocabularies.values())) > 1:
            raise InputError(
                f"the batch mixes vocabularies: {', '.join(code for code, name in vocabularies.items() if name)} "
                f"{'has its' if len(vocabularies) < 3 else 'have their'} own, so ids mean something else there than "
                f"in the batch's other languages ({', '.join(vocabularies)}). Pass one vocabulary at a time."
            )
        return next(iter(vocabularies.values()), None)

    def add_language(self, language: str, init_from: str | Sequence[str] | Mapping[str, float] | None = None) -> None:
        """Adds a language: an adapter in every layer. Its id is the last; nothing else changes.

        The new weights train (`requires_grad`), but an optimiser made earlier does not know them.

        Args:
            language: its code, such as "gsw" or "rm_CH".
            init_from: None for random weights as at initialisation; a language to copy, with its vocabulary if it has
                its own; several to average; or languages with weights, which are divided by their sum. The donors
                stay as they are.

        Raises:
            LanguageError: if the code is impossible or means a language that is there, or a donor is unknown.
            InputError: if weights are negative, not finite, or all zero, or donors' vocabularies differ.
        """
        language_changes.add_language(self, language, init_from)

    def remove_language(self, language: str) -> None:
        """Removes a language; the ids of those after it move down by one. A default that is removed is unset.

        Raises:
            LanguageError: if the model has no such language, or no other.
        """
        code = resolve(language, self.languages)
        if len(self.languages) == 1:
            raise LanguageError(f"{code} is the model's only language: a model needs one.")
        language_changes.relabel(self, {other: other for other in self.languages if other != code})

    def rename_language(self, language: str, code: str) -> None:
        """Gives a language another code; its id stays.

        Raises:
            LanguageError: if the model has no such language, or the new code is impossible or taken.
        """
        old = resolve(language, self.languages)
        if code == old:
            return
        language_changes.check_new_code(self, code, instead_of=old)
        language_changes.relabel(self, {code if other == old else other: other for other in self.languages})

    def keep_languages(self, languages: Sequence[str]) -> None:
        """Keeps some languages, in the order of their new ids, and removes the rest.

        Raises:
            LanguageError: if the model lacks one, or one is named twice, or none is.
        """
        language_changes.relabel(self, {code: code for code in resolve_all(languages, self.languages)})

    def set_vocabulary(
        self, language: str, tokenizer: Any, word_embeddings: Tensor, bias: Tensor | None = None
    ) -> None:
        """Gives a language a vocabulary of its own: its inputs are ids of that, and so are its predictions.

        A batch is in one vocabulary. The tokenizer is saved with the model and goes into the language's pack.

        Args:
            language: a language of this model.
            tokenizer: its fast tokenizer, or the text of its ``tokenizer.json``; `<pad>` has the model's id.
            word_embeddings: *Shape: (rows, hidden)*, also the projection of a language-model head; copied.
            bias: *Shape: (rows,)*, of that projection; zeros if None.

        Raises:
            LanguageError: if this model has no such language.
            InputError: if shapes, tokenizer and padding do not fit together.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None and not isinstance(tokenizer, str):
            raise InputError(f"tokenizer is {tokenizer!r:.80}: give a fast tokenizer or the text of a tokenizer.json.")
        text = tokenizer if backend is None else backend.to_str()
        code = resolve(language, self.languages)
        give_vocabulary(self, code, make_vocabulary(self, text, word_embeddings, bias))

    def save_language(
        self,
        language: str,
        folder: str | Path,
        *,
        precision: WeightPrecision = "keep",
        licence: str | None = None,
        note: str | None = None,
        scores: Iterable[Mapping[str, Any]] = (),
        tokenizer_hash: str | None = None,
        overwrite: bool = False,
    ) -> Pack:
        """Saves a language as a pack: a folder that fits every model of the same base.

        Args:
            language: a language of this model.
            folder: where the pack goes.
            precision: "keep", "fp32", "bf16" or "fp16".
            licence: SPDX identifier of the pack's licence.
            note: where the text came from, how it was trained.
            scores: rows of results.
            tokenizer_hash: `vocabulary.fingerprint` of the model's tokenizer, to be compared on loading.
            overwrite: replace a pack that is there.

        Raises:
            LanguageError: if this model has no such language.
            PackError: if the folder is taken, or the pack would not be complete.
        """
        code = resolve(language, self.languages)
        return write_pack(
            folder,
            language=code,
            base=language_packs.base_of(self, tokenizer_hash),
            precision=precision,
            licence=licence,
            note=note,
            scores=tuple(scores),
            overwrite=overwrite,
            **language_packs.contents(self, code),
        )

    def load_language(
        self,
        pack: str | Path | Pack,
        *,
        language: str | None = None,
        force: bool = False,
        overwrite: bool = False,
        tokenizer_hash: str | None = None,
    ) -> str:
        """Puts a pack's language into this model; nothing else changes, and nothing at all if it does not fit.

        Args:
            pack: its folder, a repository on the Hub, or the pack itself.
            language: the code to install it under; the pack's own if None.
            force: install although the weights that it was trained beside are others (shapes must fit).
            overwrite: replace the language if the model has it, under whatever code.
            tokenizer_hash: `vocabulary.fingerprint` of the model's tokenizer, if it is known: the verbs compare it.

        Returns:
            The language's code.

        Raises:
            PackError: if the pack is damaged or does not fit; every mismatch is listed.
            InputError: if its values are too large for the model's precision.
            LanguageError: if the code is impossible, or means a language that is there.
        """
        found = pack if isinstance(pack, Pack) else read_pack(pack)
        code = language or found.language
        if overwrite:
            code = language_changes.same_language(code, self.languages) or code
        language_packs.load_language(self, found, code, force=force, overwrite=overwrite, tokenizer_hash=tokenizer_hash)
        return code

    def misfits(self, pack: Pack, *, tokenizer_hash: str | None = None) -> list[Misfit]:
        """Everything about a pack that does not fit this model; empty if it fits."""
        return language_packs.misfits(self, pack, tokenizer_hash)
