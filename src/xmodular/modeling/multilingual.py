"""Methods of models for their languages: ids, defaults, changes, own vocabularies, packs."""

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
from xmodular.languages import resolve, resolve_all, resolve_or_none
from xmodular.modeling import language_changes, language_packs
from xmodular.modeling.adapters_on_disk import on_disk
from xmodular.modeling.labels import real_positions
from xmodular.modeling.own_vocabularies import embeddings_of, give_vocabulary, make_vocabulary
from xmodular.modeling.shortcuts import tracing
from xmodular.options import WeightPrecision
from xmodular.packs import Misfit, Pack, read_pack, write_pack


class MultilingualModel(PreTrainedModel):
    """A model with an adapter per language in every layer; languages can be added and removed."""

    config: XmodConfig
    config_class = XmodConfig

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of this model; the position of a code is its language id."""
        return tuple(self.config.languages)

    @property
    def resident_languages(self) -> tuple[str, ...]:
        """The languages whose adapters are in memory: all, unless the model was loaded with `resident_languages`."""
        layers = on_disk(self)
        return tuple(dict.fromkeys(code for layer in layers for code in layer.kept)) if layers else self.languages

    def lang_ids(self, languages: str | Sequence[str], *, fallback: str | None = None) -> Tensor:
        """The language ids for a batch.

        Args:
            languages: one name per sequence (codes, tags or English names), or one name.
            fallback: "relative" uses the nearest relative of a language that the model lacks, with a warning.

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
            fallback: "relative" uses the nearest relative of a language that the model lacks, with a warning.

        Raises:
            LanguageError: if this model has no such language.
        """
        self.config.default_language = resolve(language, self.config.languages, fallback=fallback)

    @property
    def tokenizers(self) -> dict[str, str]:
        """The ``tokenizer.json`` of each language that has its own vocabulary."""
        return embeddings_of(self).tokenizers

    @contextmanager
    def language(self, language: str, *, fallback: str | None = None) -> Iterator[Any]:
        """Inside `with model.language("sw"):`, inputs without `lang_ids` are in that language.

        The default language belongs to the model, not to a thread: threads that share a model should pass `lang_ids`.

        Raises:
            LanguageError: if this model has no such language.
        """
        code = resolve(language, self.languages, fallback=fallback)
        before = self.__dict__.setdefault("_defaults_before", [])  # updated if a language is renamed or removed inside
        before.append(self.config.default_language)
        self.config.default_language = code
        try:
            yield self
        finally:
            self.config.default_language = before.pop()

    def default_lang_id(self) -> int:
        """Id of the default language; for a model with a single language, that language.

        Raises:
            LanguageError: if no default is set, or it is not a language of this model.
        """
        default = self.config.default_language
        codes = list(self.config.languages)
        if default is None and len(codes) == 1:
            return 0
        if default is None:
            raise LanguageError(
                "the language of the input is unknown: pass lang_ids (for example model.lang_ids([...])) or call "
                f"model.set_default_language({codes[0]!r}) first. This model has the languages {', '.join(codes)}."
            )
        return codes.index(resolve(default, codes))

    def vocabulary_of(self, lang_ids: Any, attention_mask: Any = None) -> str | None:
        """The language whose own vocabulary a batch uses; None for the shared vocabulary.

        Args:
            lang_ids: as for `forward`; None means the default language.
            attention_mask: *Shape: (B, S)*; languages at padding are ignored.

        Raises:
            InputError: if the batch mixes vocabularies, so that its ids are ambiguous.
        """
        own, codes = self.config.vocabularies, self.config.languages
        if not own:
            return None
        if lang_ids is None:
            used = [self.default_lang_id()]
        elif not isinstance(lang_ids, Tensor) or lang_ids.is_floating_point() or lang_ids.dtype == torch.bool:
            return None  # an error where lang_ids are checked
        elif tracing():
            raise InputError(
                f"{', '.join(own)} have their own vocabularies: compile, export or trace the model for one language "
                "(set_default_language and no lang_ids), or remove them with keep_languages."
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
                f"{'has its' if len(vocabularies) < 3 else 'have their'} own, so ids have another meaning there than "
                f"in the batch's other languages ({', '.join(vocabularies)}). Pass one vocabulary at a time."
            )
        return next(iter(vocabularies.values()), None)

    def add_language(
        self,
        language: str,
        init_from: str | Sequence[str] | Mapping[str, float] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        """Adds a language: an adapter in every layer. Its id is the last; nothing else changes.

        The new weights are trainable (`requires_grad`), but an optimiser created earlier does not include them.

        Args:
            language: its code, such as "gsw" or "rm_CH".
            init_from: None for random weights as at initialisation; a language to copy, with its vocabulary if it has
                its own; several to average; or languages with weights, which are normalised. Donors
                stay as they are.
            overwrite: give a language that the model already has, by this code, new adapters; its id stays.

        Raises:
            LanguageError: if the code is not valid or means an existing language, or a donor is unknown.
            InputError: if weights are negative, not finite, or all zero, or donors' vocabularies differ.
        """
        language_changes.add_language(self, language, init_from, overwrite=overwrite)

    def remove_language(self, language: str) -> None:
        """Removes a language; the ids after it decrease by one. If it is the default language, that is unset.

        Raises:
            LanguageError: if the model does not have the language, or has no other.
        """
        code = resolve(language, self.languages)
        if len(self.languages) == 1:
            raise LanguageError(f"{code} is the model's only language: a model needs at least one.")
        language_changes.relabel(self, {other: other for other in self.languages if other != code})

    def rename_language(self, language: str, code: str) -> None:
        """Renames a language; its id does not change.

        Raises:
            LanguageError: if the model does not have the language, or the new code is not valid or already used.
        """
        old = resolve(language, self.languages)
        if code == old:
            return
        language_changes.check_new_code(self, code, instead_of=old)
        language_changes.relabel(self, {code if other == old else other: other for other in self.languages})

    def keep_languages(self, languages: Sequence[str]) -> None:
        """Keeps some languages, in the order of their new ids, and removes the rest.

        Raises:
            LanguageError: if the model lacks one of them, one is named twice, or there is none.
        """
        language_changes.relabel(self, {code: code for code in resolve_all(languages, self.languages)})

    def set_vocabulary(
        self, language: str, tokenizer: Any, word_embeddings: Tensor, bias: Tensor | None = None
    ) -> None:
        """Gives a language its own vocabulary, for its inputs and its predictions.

        A batch must use one vocabulary. The tokenizer is saved with the model and in the language's pack.

        Args:
            language: a language of this model.
            tokenizer: its fast tokenizer, or the text of its ``tokenizer.json``; `<pad>` must have the model's id.
            word_embeddings: *Shape: (rows, hidden)*, also used as the projection of a language-model head; copied.
            bias: *Shape: (rows,)*, bias of that projection; zeros if None.

        Raises:
            LanguageError: if this model has no such language.
            InputError: if shapes, tokenizer and padding do not match.
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
        """Saves a language as a pack: a folder that fits all models with the same base.

        Args:
            language: a language of this model.
            folder: folder for the pack.
            precision: "keep", "fp32", "bf16" or "fp16".
            licence: SPDX identifier of the pack's licence.
            note: where the text came from, how it was trained.
            scores: rows of results.
            tokenizer_hash: `vocabulary.fingerprint` of the model's tokenizer, which is compared on loading.
            overwrite: replace an existing pack.

        Raises:
            LanguageError: if this model has no such language.
            PackError: if the folder is in use, or the pack would not be complete.
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
        """Installs a pack's language in this model; nothing else changes, and nothing at all if it does not fit.

        Args:
            pack: its folder, a repository on the Hub, or the pack itself.
            language: the code to install it under; default: the pack's code.
            force: install even if it was trained with other shared weights (shapes must match).
            overwrite: replace the language if the model has it already, under any code.
            tokenizer_hash: `vocabulary.fingerprint` of the model's tokenizer, if known, for comparison.

        Returns:
            The language's code.

        Raises:
            PackError: if the pack is damaged or does not fit; every mismatch is listed.
            InputError: if its values are too large for the model's precision.
            LanguageError: if the code is not valid, or means an existing language.
        """
        found = pack if isinstance(pack, Pack) else read_pack(pack)
        code = language or found.language
        if overwrite:
            code = resolve_or_none(code, self.languages) or code
        language_packs.load_language(self, found, code, force=force, overwrite=overwrite, tokenizer_hash=tokenizer_hash)
        return code

    def misfits(self, pack: Pack, *, tokenizer_hash: str | None = None) -> list[Misfit]:
        """All reasons why a pack does not fit this model; empty if it fits."""
        return language_packs.misfits(self, pack, tokenizer_hash)
