"""The configuration of an X-MOD model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from itertools import chain, islice
from typing import Any, cast

from transformers.configuration_utils import PretrainedConfig
from transformers.generation import GenerationConfig

from xmodular.catalogue import RELEASES, SHAPES
from xmodular.configuration.config_problems import MOST_LABELS, is_integer, problems, pruning_problems
from xmodular.configuration.embedding_settings import EmbeddingSettings
from xmodular.configuration.peft_targets import name_peft_targets
from xmodular.errors import ConfigurationError, did_you_mean, listed

_MOST_PROBLEMS = 40  # that one message names
_NOTES = (
    *("finetuning_task", "task_language", "task_max_length", "task_stride", "task_columns", "task_data"),
    *("fairseq_head", "sentence_embedding"),
)
# Names accepted in addition to the fields: notes, and transformers' own, of this and earlier versions.
_ALSO_TAKEN = (
    *("attn_implementation", "auto_map", "cross_attention_hidden_size", "experts_implementation", *_NOTES),
    *("name_or_path", "num_labels", "output_attentions", "per_layer_config", "prefix", "quantization_config"),
    *("sep_token_id", "task_specific_params", "tie_encoder_decoder", "tokenizer_class", "torch_dtype", "torchscript"),
    "use_bfloat16",
)
# What says how to load, and reaches `from_dict` too.
_OF_LOADING = ("code_revision", "gguf_file", "resume_download", "use_auth_token")
# Arguments of a model's `from_pretrained` that name languages, of which no configuration knows the codes yet.
_OF_THE_MODEL = ("languages", "default_language")
_OF_GENERATION = frozenset(GenerationConfig().to_dict())
_MISSPELT = 0.88  # likeness of names; that of bos_token and bos_token_id, which both exist, is 0.86


class XmodConfig(PretrainedConfig):
    """Configuration of an X-MOD model: XLM-R with one bottleneck adapter per language in every layer.

    The arguments and defaults are those of the X-MOD page of the transformers documentation; all are keywords.
    The defaults match no released checkpoint: `XmodConfig.preset("xmod-base")` gives the released shapes.

    Args:
        vocab_size: rows of the word embedding table.
        hidden_size: width of the hidden states; a multiple of `num_attention_heads`.
        num_hidden_layers: number of Transformer layers.
        num_attention_heads: attention heads per layer.
        intermediate_size: width of the feed-forward layer.
        hidden_act: activation of the feed-forward layer and of the adapters, by name or as a callable
            (a callable cannot be saved).
        hidden_dropout_prob: dropout of embeddings, sublayer outputs and adapters, in [0, 1].
        attention_probs_dropout_prob: dropout of the attention probabilities, in [0, 1].
        max_position_embeddings: rows of the position table. Positions count from `pad_token_id + 1`, so the longest
            sequence has `max_position_embeddings - pad_token_id - 1` tokens.
        type_vocab_size: rows of the token type table.
        initializer_range: standard deviation of the initial weights.
        layer_norm_eps: epsilon of every LayerNorm.
        pad_token_id, bos_token_id, eos_token_id: ids of the special tokens.
        position_embedding_type: "absolute", "relative_key" (Shaw et al. 2018) or "relative_key_query"
            (Huang et al. 2020, method 4).
        is_decoder: causal self-attention.
        add_cross_attention: add cross-attention to every layer (needs `is_decoder`).
        use_cache: whether a decoder returns its keys and values.
        tie_word_embeddings: whether the language-model head shares the word embeddings.
        classifier_dropout: dropout of the task heads; None means `hidden_dropout_prob`.
        classifier_pooling: what `XmodForSequenceClassification` reads: "first", the state of the first token, as the
            released models do; or "mean", the mean of the states of all real tokens, as sentence encoders are trained.
        pre_norm: LayerNorm before each block instead of after it, and one after the last layer.
        adapter_reduction_factor: `hidden_size` divided by the width of the adapters' bottleneck.
        adapter_layer_norm: an extra LayerNorm before the adapters, shared by the languages.
        adapter_reuse_layer_norm: without `adapter_layer_norm`, apply the layer's own output LayerNorm there.
        ln_before_adapter: whether the adapters' residual starts after that LayerNorm (True) or before it.
        languages: language codes, one adapter each; the position of a code is its language id.
        default_language: the language of inputs that come without `lang_ids`.
        layout: the input of the layers: "packed", real tokens only, as (tokens, hidden); or "grid", all tokens, as
            (batch, sequence, hidden), for hooks and tools that expect that. The results are the same.
        vocabularies: languages with their own vocabulary, and the rows of their word embeddings; such a language
            also has its own tokenizer.
        pruned_heads: attention heads that have been removed, by layer; written by `prune_heads`.
        finetuning_task, task_language: what the model was fine-tuned for, and the language that it was trained in.
        task_max_length, task_stride: how much it read at once then: tokens a sequence, and those that windows share.
        task_columns, task_data: which columns were read, by field, and hashes of the rows, by use.
        fairseq_head: fairseq's name of the classification head, in a model that was converted.
        sentence_embedding: how states become the vector of a text, by field of `EmbeddingSettings`.

    The last eight are notes that fine-tuning and conversion leave: None, and in no file, unless they did.
    The released checkpoints, such as [facebook/xmod-base](https://huggingface.co/facebook/xmod-base), have presets.
    (Without such a link, transformers prints errors when it documents its own classes.)

    Other keywords of transformers' configurations (``num_labels``, ``id2label``, ``attn_implementation`` ...) are also
    accepted. A configuration file, or a dictionary with ``model_type`` as `to_dict` returns, may have fields of any
    name, so files of other versions load.

    Raises:
        ConfigurationError: if the values do not fit together, or a name is unknown; every problem is named in one
            message.
    """

    model_type = "xmod"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str | Callable[..., Any] = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False
    use_cache: bool = True
    tie_word_embeddings: bool = True
    classifier_dropout: float | None = None
    classifier_pooling: str = "first"
    pre_norm: bool = False
    adapter_reduction_factor: int | float = 2
    adapter_layer_norm: bool = False
    adapter_reuse_layer_norm: bool = True
    ln_before_adapter: bool = True
    languages: Sequence[str] = ("en_XX",)
    default_language: str | None = None
    layout: str = "packed"
    vocabularies: dict[str, int] = field(default_factory=dict)
    pruned_heads: dict[int, list[int]] | None = None

    # Notes: class attributes, not fields, so that a file only has those that were set.
    finetuning_task = cast(str | None, None)
    task_language = cast(str | None, None)
    task_max_length = cast(int | None, None)
    task_stride = cast(int | None, None)
    task_columns = cast(dict[str, str] | None, None)
    task_data = cast(dict[str, list[str]] | None, None)
    fairseq_head = cast(str | None, None)
    sentence_embedding = cast(dict[str, Any] | None, None)

    def __post_init__(self, **kwargs: Any) -> None:
        labels = kwargs.get("num_labels")
        if labels is not None and (not is_integer(labels) or not 0 <= labels <= MOST_LABELS):  # each gets a name
            raise ConfigurationError(
                f"Invalid XmodConfig: num_labels is {labels!r:.40}; at most {MOST_LABELS:,} labels are allowed."
            )
        if layers := kwargs.get("per_layer_config"):
            raise ConfigurationError(
                f"Invalid XmodConfig: per_layer_config is {layers!r:.40}; all layers of an X-MOD model are alike."
            )
        is_record = kwargs.pop("model_type", None) is not None
        unknown = [] if is_record else [name for name in kwargs if not _is_taken(name)]
        if self.languages is None or (isinstance(self.languages, Iterable) and not isinstance(self.languages, str)):
            self.languages = list(self.languages or ())
        self.vocabularies = {} if self.vocabularies is None else self.vocabularies
        self.pruned_heads = {} if self.pruned_heads is None else self.pruned_heads
        if not list(pruning_problems(self)):
            # JSON turns the layer numbers into strings.
            self.pruned_heads = {int(layer): sorted(set(heads)) for layer, heads in self.pruned_heads.items()}
        super().__post_init__(**kwargs)
        self._check(_unknown_names(unknown, self._names()))

    def _check(self, more: Iterable[str] = ()) -> None:
        """Raises ConfigurationError if something cannot be, with `more` problems before those of the fields."""
        if found := list(islice(chain(more, problems(self)), _MOST_PROBLEMS)):
            raise ConfigurationError(f"Invalid XmodConfig:{listed(found)}")

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> XmodConfig:
        """The configuration of a released checkpoint or a named shape.

        Args:
            name: a release ("xmod-base", "xmod-large-prenorm", "xmod-base-13-125k", "swissbert", ...: with its
                languages) or a shape for training from scratch ("tiny", "mini", "small", "base", "large-prenorm").
            overrides: fields to change.

        Raises:
            ConfigurationError: if there is no such preset.
        """
        if name in RELEASES:
            release = RELEASES[name]
            return cls(**{**release.fields, "languages": release.languages, **overrides})
        if name in SHAPES:
            return cls(**{**SHAPES[name], **overrides})
        known = [*RELEASES, *SHAPES]
        hint = did_you_mean(name, known)
        raise ConfigurationError(f"there is no preset {name!r}: {hint} The presets are {', '.join(known)}.")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[Any], *args: Any, **kwargs: Any) -> Any:
        """The configuration of a model folder or Hub repository; `kwargs` as for `from_dict`, and its location."""
        return super().from_pretrained(pretrained_model_name_or_path, *args, _own=True, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The configuration described by a dictionary, which may have other entries too.

        Args:
            config_dict: fields, as in ``config.json``.
            kwargs: fields to change; ``return_unused_kwargs=True`` returns those that are not fields.

        Raises:
            ConfigurationError: as for the class; or a name in `kwargs` is unknown. If other names are expected (for
                a model, or by ``AutoConfig``), only names close to a field's are errors.
        """
        asked = kwargs.pop("return_unused_kwargs", False)
        lenient = asked or "_from_auto" in kwargs
        # AutoConfig calls this for a model: names of languages are left to the loading of that model.
        for_model = () if kwargs.pop("_own", False) or not asked else _OF_THE_MODEL
        held = {name: kwargs.pop(name) for name in for_model if name in kwargs}
        record = {"model_type": cls.model_type, **config_dict}
        config, unused = super().from_dict(record, return_unused_kwargs=True, **kwargs)
        unknown = [name for name in unused if not _is_taken(name) and name not in _OF_LOADING]
        unknown = [name for name in unknown if not lenient or _nearest(name, cls._names(), _MISSPELT)]
        if found := list(_unknown_names(unknown, cls._names())):
            raise ConfigurationError(" ".join(found))
        if kwargs:  # changed fields were not known when the configuration was made
            config._check()
        return (config, {**unused, **held}) if asked else config

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[Any]) -> Any:
        """The configuration in a JSON file."""
        return cls.from_dict(cls._dict_from_json_file(json_file))

    @classmethod
    def _names(cls) -> list[str]:
        """The names of all fields."""
        return [*cls.__dataclass_fields__, *_ALSO_TAKEN]

    @property
    def embedding_settings(self) -> EmbeddingSettings:
        """How states become the vector of a text, as `sentence_embedding` records it, or by default."""
        return EmbeddingSettings.of_record(self.sentence_embedding)

    @property
    def bottleneck_size(self) -> int:
        """Width of the adapters' bottleneck."""
        return int(self.hidden_size // self.adapter_reduction_factor)

    def noted_rows(self, use: str) -> list[str]:
        """The hashes in `task_data` for a use, "train" or "dev"; none where the note has another form."""
        noted = self.task_data.get(use) if isinstance(self.task_data, dict) else None
        return [each for each in noted if isinstance(each, str)] if isinstance(noted, list) else []

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary; a callable `hidden_act` is represented by its name."""
        name_peft_targets()  # PEFT reads a model's configuration this way before it looks for its default layers
        fields = super().to_dict()
        if callable(fields.get("hidden_act")):
            fields["hidden_act"] = getattr(self.hidden_act, "__name__", type(self.hidden_act).__name__)
        return fields

    def save_pretrained(self, save_directory: str | os.PathLike[Any], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write `config.json` into a folder.

        Raises:
            ConfigurationError: if `hidden_act` is a callable, which JSON cannot hold.
        """
        if callable(self.hidden_act):
            raise ConfigurationError(
                f"hidden_act is the callable {self.hidden_act!r}, which cannot be saved: "
                'set config.hidden_act to a name such as "gelu" first.'
            )
        super().save_pretrained(save_directory, push_to_hub, **kwargs)


def _is_taken(name: str) -> bool:
    """Whether a keyword that is not a field of the class is known; transformers' internal names begin with "_"."""
    return name in _ALSO_TAKEN or name.startswith("_")


def _nearest(name: str, names: Sequence[str], likeness: float = 0.6) -> str | None:
    """The most similar of some names, if one is similar enough; one with all of its words is preferred."""
    words = set(name.split("_"))
    if len(words) > 1 and (longer := [each for each in names if words < set(each.split("_"))]):
        return min(longer, key=len)
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=likeness)), None)


def _unknown_names(unknown: Iterable[str], names: Sequence[str]) -> Iterable[str]:
    """Yields one line for each name that means nothing."""
    for name in unknown:
        near = _nearest(name, names)
        if name in _OF_GENERATION:
            hint = "it is a generation setting, which belongs in model.generation_config."
        elif near is not None:
            hint = f"did you mean {near!r}?"
        else:
            hint = "XmodConfig's documentation lists them; other attributes can be set on the finished configuration."
        yield f"{name} is not a field: {hint}"
