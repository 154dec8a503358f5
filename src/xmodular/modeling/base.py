"""What all X-MOD models share: loading, languages, freezing, pruning."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_utils import PreTrainedModel

from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError, LanguageError
from xmodular.languages import resolve, resolve_all
from xmodular.modeling.attention import prune_heads

logger = logging.getLogger(__name__)

# Options of `from_pretrained` that say where the files are.
_WHERE = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")

# Which groups of parameters train, by policy. "shared" is fine-tuning as in the paper (section 3.3): embeddings,
# adapters and the adapters' LayerNorm stay as pretrained.
TRAINABLE: dict[str, frozenset[str]] = {
    "all": frozenset({"embeddings", "adapters", "adapter norm", "encoder", "lm head", "task head"}),
    "shared": frozenset({"encoder", "lm head", "task head"}),
    "adapters": frozenset({"adapters", "task head"}),
    "head": frozenset({"lm head", "task head"}),
}


@dataclass(frozen=True)
class ParameterGroup:
    """One row of the table of what trains: a group's name, whether it trains, its number of parameters."""

    name: str
    trains: bool
    trainable: int
    total: int


def parameter_group(name: str) -> str:
    """The group that a parameter belongs to, by its name."""
    if ".adapter_modules." in name:
        return "adapters"
    if ".adapter_layer_norm." in name:
        return "adapter norm"
    if name.startswith(("embeddings.", "roberta.embeddings.")):
        return "embeddings"
    if name.startswith("lm_head."):
        return "lm head"
    if name.startswith(("classifier.", "qa_outputs.", "pooler.", "roberta.pooler.")):
        return "task head"
    return "encoder"


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
    _keys_to_ignore_on_load_unexpected = [r"\.adapter_modules\.", r"embeddings\.position_ids$"]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if set(module._parameters) == {"bias"}:  # the language-model head's own
            initialization.zeros_(cast(Tensor, module.bias))

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, languages: Sequence[str] | None = None, **kwargs: Any
    ) -> Any:
        """Loads a model; with `languages`, only those adapters are read.

        Args:
            pretrained_model_name_or_path: folder or Hub repository.
            args, kwargs: as for transformers' `PreTrainedModel.from_pretrained`.
            languages: names of the languages to load (codes, tags or English names), in the order of their new ids;
                None loads all. A default language that is not among them is unset.

        Raises:
            LanguageError: if the checkpoint has no such language.
        """
        if languages is not None:
            config = kwargs.pop("config", None)
            if not isinstance(config, XmodConfig):
                where = {name: kwargs[name] for name in _WHERE if name in kwargs}
                stored = XmodConfig.from_pretrained(config or pretrained_model_name_or_path, **where)
            else:
                stored = config
            codes = resolve_all(languages, stored.languages)
            chosen: dict[str, Any] = {"languages": codes}
            if stored.default_language not in codes:
                chosen["default_language"] = None
            if isinstance(config, XmodConfig):
                kwargs["config"] = XmodConfig(**{**config.to_dict(), **chosen})
            else:
                kwargs.update(chosen)
                if config is not None:
                    kwargs["config"] = config
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of this model; the position of a code is its language id."""
        return tuple(self.config.languages)

    def lang_ids(self, languages: str | Sequence[str]) -> Tensor:
        """Language ids for a batch.

        Args:
            languages: one name per sequence (codes, tags or English names), or one name.

        Returns:
            *Shape: (batch,)*, int64, on the model's device.

        Raises:
            LanguageError: if this model has no such language.
        """
        names = [languages] if isinstance(languages, str) else languages
        codes = list(self.config.languages)
        return torch.tensor([codes.index(resolve(name, codes)) for name in names], device=self.device)

    def set_default_language(self, language: str) -> None:
        """Sets the language of inputs that come without `lang_ids`.

        Args:
            language: a code of this model, a language tag, or an English name.

        Raises:
            LanguageError: if this model has no such language.
        """
        self.config.default_language = resolve(language, self.config.languages)

    def default_lang_id(self) -> int:
        """Id of the default language.

        Raises:
            LanguageError: if none is set, or if it is not a language of this model.
        """
        default = self.config.default_language
        codes = list(self.config.languages)
        if default is None:
            raise LanguageError(
                "the language of the input is unknown: pass lang_ids (for example model.lang_ids([...])) or call "
                f"model.set_default_language({codes[0]!r}) first. This model has {', '.join(codes)}."
            )
        return codes.index(resolve(default, codes))

    def set_trainable(self, policy: str, *, languages: Sequence[str] | None = None) -> list[ParameterGroup]:
        """Sets which parameters train.

        Args:
            policy: "all"; "shared" (all but embeddings, adapters and their LayerNorm: fine-tuning as in the paper);
                "adapters" (the adapters, and a task head); or "head" (the head only).
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
            if group == "adapters" and chosen is not None:
                trains = trains and name.split(".adapter_modules.")[1].split(".")[0] in chosen
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
