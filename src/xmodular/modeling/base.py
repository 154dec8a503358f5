"""What all X-MOD models share: loading, languages, freezing, pruning."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import cached_file

from xmodular.configuration import XmodConfig, check_kind, numbers_in
from xmodular.errors import ConfigurationError, InputError, LanguageError, in_one_line
from xmodular.files import let_read, written_file
from xmodular.languages import resolve, resolve_all
from xmodular.modeling import languages as life
from xmodular.modeling.labels import real_positions
from xmodular.modeling.pruning import prune_heads
from xmodular.modeling.shortcuts import tracing
from xmodular.modeling.trainable import TRAINABLE, ParameterGroup, language_of, parameter_group
from xmodular.options import WeightPrecision
from xmodular.outputs import own_tokenizers
from xmodular.packs import Misfit, Pack, read_pack, write_pack
from xmodular.weights import size_of_weights

logger = logging.getLogger(__name__)

# Options of `from_pretrained` that say where the files are.
_WHERE = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")

# What a model may have more than its files hold: a new head, a new language. Of adapters and other parts of layers, the
# names alone take more bytes.
_FREE_NUMBERS, _NUMBERS_A_BYTE = 2**27, 16
_PARTS_OF_A_LAYER, _FREE_PARTS, _BYTES_A_PART = 8, 2**12, 2**8

# Its options that say where and how a model is uploaded.
_UPLOAD = ("repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags")


def _stored_fields(source: Any, where: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json has; nothing where there is none.

    Raises:
        ConfigurationError: if it says that the weights are another architecture's.
    """
    try:
        content: dict[str, Any] = XmodConfig.get_config_dict(source, **where)[0]
    except (OSError, ValueError):  # there is none, or the loading itself says what is wrong
        return {}
    check_kind(source, content)
    return content


def _check_size(source: Any, fields: Mapping[str, Any], given: Mapping[str, Any], where: Mapping[str, Any]) -> None:
    """Check that a model is worth its files, before its memory is taken: what they lack would be drawn.

    Args:
        source: where they are.
        fields: of config.json.
        given: arguments of the loading, in which fields may be set otherwise.
        where: options that say where the files are.

    Raises:
        ConfigurationError: it has far more numbers, or parts, than the files can hold.
    """
    size = size_of_weights(source, **where)
    if size is None:
        return  # the loading says what is missing
    config = given.get("config")
    if not isinstance(config, XmodConfig):
        names = (*XmodConfig.__annotations__, "num_labels")
        config = XmodConfig.from_dict({**fields, **{name: given[name] for name in names if name in given}})
    parts = config.num_hidden_layers * (_PARTS_OF_A_LAYER + len(config.languages))
    for what, count, most in (
        ("numbers", numbers_in(config), _FREE_NUMBERS + _NUMBERS_A_BYTE * size),
        ("parts of layers", parts, _FREE_PARTS + size // _BYTES_A_PART),
    ):
        if count > most:
            raise ConfigurationError(
                f"{source} has weights of {size:,} bytes, and a config.json that asks for {count:,} {what}: they do "
                "not belong together."
            )


class XmodPreTrainedModel(PreTrainedModel):
    """Base class of the X-MOD models: weights, loading and saving, languages, what trains."""

    config: XmodConfig
    config_class = XmodConfig
    base_model_prefix = "roberta"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["XmodEmbeddings", "XmodLayer"]
    # Adapters that the configuration does not name are left on disk; older files carry position ids.
    _keys_to_ignore_on_load_unexpected = [
        r"\.adapter_modules\.",
        r"embeddings\.language_embeddings\.",
        r"lm_head\.language_bias\.",
        r"embeddings\.position_ids$",
    ]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if set(module._parameters) == {"bias"}:  # the language-model head's own
            initialization.zeros_(cast(Tensor, module.bias))
        if isinstance(module, nn.ParameterDict):  # the head's biases of vocabularies
            for bias in module.values():
                initialization.zeros_(bias)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        *args: Any,
        languages: Sequence[str] | None = None,
        fallback: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Loads a model; with `languages`, only those adapters are read.

        Args:
            pretrained_model_name_or_path: folder or Hub repository.
            args, kwargs: as for transformers' `PreTrainedModel.from_pretrained`.
            languages: names of the languages to load (codes, tags or English names), in the order of their new ids;
                None loads all. A default language that is not among them is unset; one language alone becomes the
                default. `default_language` among `kwargs` may be a name too.
            fallback: "relative" reads the nearest relative's adapter for a language that the checkpoint lacks, and
                says so.

        Raises:
            LanguageError: if the checkpoint has no such language, or the default is not among `languages`.
            ConfigurationError: if it is no X-MOD (a dense encoder has no adapters to read), or its configuration asks
                for far more memory than its weights are worth, or for a kind of attention whose package is not here.
        """
        source = pretrained_model_name_or_path
        where = {name: kwargs[name] for name in _WHERE if name in kwargs}
        fields = {} if source is None else _stored_fields(source, where)
        config = kwargs.get("config")
        given = config.languages if isinstance(config, XmodConfig) else []
        among = given
        if languages is None and given and given != (known := fields.get("languages", given)):
            languages, among = given, known  # the Auto classes have put them into the configuration as they came
        if languages is not None or "default_language" in kwargs:
            config = kwargs.pop("config", None)
            if isinstance(config, XmodConfig):
                stored = config
            else:
                stored = XmodConfig.from_pretrained(config or source, **where)
            codes = list(stored.languages)
            if languages is not None:
                codes = resolve_all(languages, among or codes, fallback=fallback)
            own = {code: rows for code, rows in stored.vocabularies.items() if code in codes}
            chosen: dict[str, Any] = {"languages": codes, "vocabularies": own}
            default = stored.default_language and life.same_language(stored.default_language, codes)
            default = kwargs.pop("default_language", codes[0] if len(codes) == 1 else default)
            if default is not None:
                default = resolve(default, codes, fallback=fallback)
            chosen["default_language"] = default
            if isinstance(config, XmodConfig):
                kwargs["config"] = copy.deepcopy(config)
                for name, value in chosen.items():
                    setattr(kwargs["config"], name, value)
            else:
                kwargs.update(chosen)
                if config is not None:
                    kwargs["config"] = config
        if fields:
            _check_size(source, fields, kwargs, where)
        try:
            loaded = super().from_pretrained(source, *args, **kwargs)
        except ImportError as error:
            raise ConfigurationError(
                f"{source} asks for a kind of attention (attn_implementation) whose package is not here: "
                f'{in_one_line(error):.150} ... "sdpa" and "eager" need none.'
            ) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.config.vocabularies and source is not None:
            model._read_tokenizers(source, **where)
        return loaded

    def _read_tokenizers(self, source: Any, **where: Any) -> None:
        """Reads the tokenizers of the languages that have their own, as far as they lie beside the weights."""
        for code in self.config.vocabularies:
            path = cached_file(source, f"tokenizer.{code}.json", _raise_exceptions_for_missing_entries=False, **where)
            if path is not None:
                self.tokenizers[code] = Path(path).read_bytes().decode("utf-8")

    def save_pretrained(  # type: ignore[override]  # the rest goes through as it is
        self,
        save_directory: str | os.PathLike[Any],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Writes the model into a folder, as transformers does; tokenizers of single languages lie beside it."""
        later = push_to_hub and bool(self.config.vocabularies)  # once the tokenizers are there
        upload = {name: kwargs.pop(name) for name in _UPLOAD if later and name in kwargs}
        folder = Path(save_directory)
        before = own_tokenizers(folder)
        super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub and not later, **kwargs)
        if not is_main_process or not folder.is_dir():
            return
        let_read(folder.glob("*.safetensors"))
        for code, text in self.tokenizers.items():
            with written_file(folder / f"tokenizer.{code}.json") as new:
                new.write_bytes(text.encode())
        for name in before - {f"tokenizer.{code}.json" for code in self.config.vocabularies}:
            (folder / name).unlink(missing_ok=True)  # of a language that is gone
        if later:
            repository = upload.pop("repo_id", folder.name)
            if "token" in kwargs:
                upload["token"] = kwargs["token"]
            cast(Any, self).push_to_hub(repository, **upload)

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
        return life.embeddings_of(self).tokenizers

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
        life.add_language(self, language, init_from)

    def remove_language(self, language: str) -> None:
        """Removes a language; the ids of those after it move down by one. A default that is removed is unset.

        Raises:
            LanguageError: if the model has no such language, or no other.
        """
        code = resolve(language, self.languages)
        if len(self.languages) == 1:
            raise LanguageError(f"{code} is the model's only language: a model needs one.")
        life.relabel(self, {other: other for other in self.languages if other != code})

    def rename_language(self, language: str, code: str) -> None:
        """Gives a language another code; its id stays.

        Raises:
            LanguageError: if the model has no such language, or the new code is impossible or taken.
        """
        old = resolve(language, self.languages)
        if code == old:
            return
        life.check_new_code(self, code, instead_of=old)
        life.relabel(self, {code if other == old else other: other for other in self.languages})

    def keep_languages(self, languages: Sequence[str]) -> None:
        """Keeps some languages, in the order of their new ids, and removes the rest.

        Raises:
            LanguageError: if the model lacks one, or one is named twice, or none is.
        """
        life.relabel(self, {code: code for code in resolve_all(languages, self.languages)})

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
        life.set_vocabulary(self, resolve(language, self.languages), text, word_embeddings, bias)

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
            base=life.base_of(self, tokenizer_hash),
            precision=precision,
            licence=licence,
            note=note,
            scores=tuple(scores),
            overwrite=overwrite,
            **life.contents(self, code),
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
            code = life.same_language(code, self.languages) or code
        life.load_language(self, found, code, force=force, overwrite=overwrite, tokenizer_hash=tokenizer_hash)
        return code

    def misfits(self, pack: Pack, *, tokenizer_hash: str | None = None) -> list[Misfit]:
        """Everything about a pack that does not fit this model; empty if it fits."""
        return life.misfits(self, pack, tokenizer_hash)

    def set_trainable(self, policy: str, *, languages: Sequence[str] | None = None) -> list[ParameterGroup]:
        """Sets which parameters train.

        Args:
            policy: "all"; "shared" (all but embeddings, adapters and their LayerNorm: fine-tuning as in the paper);
                "adapters" (the adapters, and a task head); "head" (the head only); "language" (adapters, and
                vocabularies of single languages); or "all-but-adapters" (nor their LayerNorm).
            languages: with a policy that trains adapters, train those of these languages only.

        Returns:
            The table of parameter groups with their counts.

        Raises:
            ConfigurationError: if there is no such policy.
        """
        if policy not in TRAINABLE:
            raise ConfigurationError(f"what trains is {policy!r}: choose one of {', '.join(TRAINABLE)}.")
        chosen = None if languages is None else set(resolve_all(languages, self.languages))
        groups = TRAINABLE[policy]
        for name, parameter in self.named_parameters():
            group = parameter_group(name)
            trains = group in groups
            if group in ("adapters", "vocabularies") and chosen is not None:
                trains = trains and language_of(name) in chosen
            parameter.requires_grad_(trains)
        return self.trainable_groups()

    def trainable_groups(self) -> list[ParameterGroup]:
        """The groups of parameters with the number that trains and the number there is."""
        counts: dict[str, list[int]] = {}
        for name, parameter in self.named_parameters():
            count = counts.setdefault(parameter_group(name), [0, 0])
            count[0] += parameter.numel() * parameter.requires_grad
            count[1] += parameter.numel()
        return [ParameterGroup(name, trained > 0, trained, total) for name, (trained, total) in counts.items()]

    def freeze_embeddings_and_language_adapters(self) -> None:
        """Freezes the embeddings, the adapters and the adapters' shared LayerNorm, and nothing else.

        The paper does so before fine-tuning (section 3.3), so that another language's adapter fits afterwards.
        """
        frozen = TRAINABLE["all"] - TRAINABLE["shared"]
        for name, parameter in self.named_parameters():
            if parameter_group(name) in frozen:
                parameter.requires_grad_(False)

    def prune_heads(self, heads_to_prune: dict[int, Sequence[int]]) -> None:
        """Removes attention heads for good; the configuration remembers them, so saved models load again.

        Args:
            heads_to_prune: heads by layer, numbered as in the unpruned model.

        Raises:
            ConfigurationError: if a layer or head does not exist, or a layer would be left without heads.
        """
        pruned = {layer: set(heads) for layer, heads in (self.config.pruned_heads or {}).items()}
        for layer, heads in heads_to_prune.items():
            pruned.setdefault(layer, set()).update(heads)
        recorded = {layer: sorted(heads) for layer, heads in pruned.items()}
        XmodConfig(**{**self.config.to_dict(), "hidden_act": "gelu", "pruned_heads": recorded})  # checks them all
        for layer, heads in heads_to_prune.items():
            base: Any = self.base_model
            prune_heads(base.encoder.layer[layer].attention, set(heads))
        self.config.pruned_heads = recorded

    def check_backend(self) -> None:
        """Raises ConfigurationError if the attention backend cannot do what the configuration asks for."""
        backend = self.config._attn_implementation
        if self.config.position_embedding_type != "absolute" and backend not in ("eager", "sdpa"):
            raise ConfigurationError(
                f"attn_implementation is {backend!r}, which cannot add relative positions "
                f"(position_embedding_type {self.config.position_embedding_type!r}): use 'sdpa' or 'eager'."
            )
