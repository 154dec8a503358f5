"""The base class of the X-MOD models: loading, languages, freezing, pruning."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from transformers import initialization
from transformers.utils import cached_file

from xmodular.configuration import XmodConfig
from xmodular.configuration.peft_folder import MODEL_CONFIG
from xmodular.errors import ConfigurationError, in_one_line
from xmodular.files import let_read, write_json, written_file
from xmodular.languages import resolve_all
from xmodular.modeling.adapters_on_disk import load_on_demand, on_disk
from xmodular.modeling.before_loading import WHERE, check_size, choose_languages, stored_fields
from xmodular.modeling.multilingual import MultilingualModel
from xmodular.modeling.peft_layers import has_peft
from xmodular.modeling.pruning import prune_heads
from xmodular.modeling.trainable import TRAINABLE, ParameterGroup, language_of_weight, parameter_group
from xmodular.outputs import own_tokenizers
from xmodular.weight_names import ADAPTER, OWN_BIAS, OWN_WORDS, POSITION_IDS, PREFIX

# Options of `save_pretrained` that say where and how a model is uploaded.
_UPLOAD = ("repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags")


class XmodPreTrainedModel(MultilingualModel):
    """Base class of the X-MOD models: loading and saving, languages, trainable parameters."""

    base_model_prefix = PREFIX.rstrip(".")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["XmodEmbeddings", "XmodLayer"]
    # Adapters that the configuration does not name are left on disk; older files carry position ids.
    _keys_to_ignore_on_load_unexpected = [
        *map(re.escape, (ADAPTER, OWN_WORDS, OWN_BIAS)),
        f"{re.escape(POSITION_IDS)}$",
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
        resident_languages: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Loads a model; with `languages`, only those languages' adapters.

        Args:
            pretrained_model_name_or_path: folder or Hub repository.
            args, kwargs: as for transformers' `PreTrainedModel.from_pretrained`.
            languages: names of the languages to load (codes, tags or English names), in the order of their new ids;
                None loads all. A default language that is not among them is unset; a single language becomes the
                default. `default_language` in `kwargs` may be a name too.
            fallback: "relative" loads the nearest relative's adapter for a language that the checkpoint lacks, and
                says so.
            resident_languages: how many languages' adapters are in memory at most. They are read from the files when a
                batch needs them, and those used last stay. The outputs are the same. Such a model predicts and
                evaluates; it cannot be saved, and its languages cannot be changed. None: all, from the start.

        Raises:
            LanguageError: if the checkpoint has no such language, or the default is not among `languages`.
            ConfigurationError: if it is not an X-MOD model (a dense encoder has no adapters), or its configuration asks
                for far more memory than its weights need, or for an attention backend whose package is missing.
        """
        source = pretrained_model_name_or_path
        if resident_languages is not None:
            return load_on_demand(cls, source, args, kwargs, languages, resident_languages, fallback=fallback)
        where = {name: kwargs[name] for name in WHERE if name in kwargs}
        fields = {} if source is None else stored_fields(source, where)
        choose_languages(source, kwargs, fields, where, languages, fallback)
        if fields:
            check_size(source, fields, kwargs, where)
        try:
            loaded = super().from_pretrained(source, *args, **kwargs)
        except ImportError as error:
            if "attn" not in str(error) and "ttention" not in str(error):  # of a quantiser, for example
                raise ConfigurationError(
                    f"Loading {source} this way needs a package that is missing: {in_one_line(error):.200}"
                ) from error
            raise ConfigurationError(
                f"{source} asks for an attention backend (attn_implementation) whose package is missing: "
                f'{in_one_line(error):.150} ... "sdpa" and "eager" need no package.'
            ) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.config.vocabularies and source is not None:
            model._read_tokenizers(source, **where)
        return loaded

    def _read_tokenizers(self, source: Any, **where: Any) -> None:
        """Reads the tokenizers of the languages that have their own, as far as they are next to the weights."""
        for code in self.config.vocabularies:
            path = cached_file(source, f"tokenizer.{code}.json", _raise_exceptions_for_missing_entries=False, **where)
            if path is not None:
                self.tokenizers[code] = Path(path).read_bytes().decode("utf-8")

    def save_pretrained(  # type: ignore[override]  # other arguments are passed on unchanged
        self,
        save_directory: str | os.PathLike[Any],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Writes the model to a folder, as transformers does, with the tokenizers of single languages.

        With layers of PEFT in it, only the active adapter is written, as PEFT does, and ``xmod_config.json``, the
        configuration of the whole model.
        """
        if on_disk(self):
            raise ConfigurationError(
                "This model reads its languages from disk as they are needed (resident_languages), so it is not whole: "
                f"copy its folder, {self.config.name_or_path}."
            )
        self._hf_peft_config_loaded = has_peft(self)  # PEFT's own wrapper does not set it
        later = push_to_hub and bool(self.config.vocabularies)  # once the tokenizers are there
        upload = {name: kwargs.pop(name) for name in _UPLOAD if later and name in kwargs}
        folder = Path(save_directory)
        before = own_tokenizers(folder)
        super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub and not later, **kwargs)
        if not is_main_process or not folder.is_dir():
            return
        let_read(folder.glob("*.safetensors"))
        if has_peft(self):
            write_json(folder / MODEL_CONFIG, self.config.to_dict() | {"architectures": [type(self).__name__]})
        for code, text in self.tokenizers.items():
            with written_file(folder / f"tokenizer.{code}.json") as new:
                new.write_bytes(text.encode())
        for name in before - {f"tokenizer.{code}.json" for code in self.config.vocabularies}:
            (folder / name).unlink(missing_ok=True)  # of a removed language
        if later:
            repository = upload.pop("repo_id", folder.name)
            if "token" in kwargs:
                upload["token"] = kwargs["token"]
            cast(Any, self).push_to_hub(repository, **upload)

    def set_trainable(self, policy: str, *, languages: Sequence[str] | None = None) -> list[ParameterGroup]:
        """Sets which parameters are trainable.

        Args:
            policy: "all"; "shared" (all but embeddings, adapters and their LayerNorm: fine-tuning as in the paper);
                "adapters" (the adapters and a task head); "head" (the head only); "language" (the adapters and
                vocabularies of single languages); or "all-but-adapters" (all but adapters and their LayerNorm).
            languages: for a policy that trains adapters, only train those of these languages.

        Returns:
            The table of parameter groups with their counts.

        Raises:
            ConfigurationError: if there is no such policy.
        """
        if policy not in TRAINABLE:
            raise ConfigurationError(f"trainable is {policy!r}: it must be one of {', '.join(TRAINABLE)}.")
        chosen = None if languages is None else set(resolve_all(languages, self.languages))
        groups = TRAINABLE[policy]
        for name, parameter in self.named_parameters():
            group = parameter_group(name)
            trains = group in groups
            if group in ("adapters", "vocabularies") and chosen is not None:
                trains = trains and language_of_weight(name) in chosen
            parameter.requires_grad_(trains)
        return self.trainable_groups()

    def trainable_groups(self) -> list[ParameterGroup]:
        """The parameter groups with their numbers of trainable and of all parameters."""
        counts: dict[str, list[int]] = {}
        for name, parameter in self.named_parameters():
            count = counts.setdefault(parameter_group(name), [0, 0])
            count[0] += parameter.numel() * parameter.requires_grad
            count[1] += parameter.numel()
        return [ParameterGroup(name, trained > 0, trained, total) for name, (trained, total) in counts.items()]

    def freeze_embeddings_and_language_adapters(self) -> None:
        """Freezes only the embeddings, the adapters and the adapters' shared LayerNorm.

        The paper does this before fine-tuning (section 3.3), so that other languages' adapters still fit afterwards.
        """
        frozen = TRAINABLE["all"] - TRAINABLE["shared"]
        for name, parameter in self.named_parameters():
            if parameter_group(name) in frozen:
                parameter.requires_grad_(False)

    def prune_heads(self, heads_to_prune: dict[int, Sequence[int]]) -> None:
        """Removes attention heads permanently; the configuration records them, so saved models can be loaded.

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
        """Raises ConfigurationError if the attention backend does not support the configuration."""
        backend = self.config._attn_implementation
        if self.config.position_embedding_type != "absolute" and backend not in ("eager", "sdpa"):
            raise ConfigurationError(
                f"attn_implementation is {backend!r}, which cannot add relative positions "
                f"(position_embedding_type {self.config.position_embedding_type!r}): use 'sdpa' or 'eager'."
            )
