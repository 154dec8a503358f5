"""The configuration of an X-MOD model."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from transformers.configuration_utils import PretrainedConfig
from transformers.generation import GenerationConfig

from xmodular.catalogue import RELEASES, SHAPES
from xmodular.errors import ConfigurationError, XmodularError, of_system
from xmodular.files import is_missing_folder
from xmodular.hub import hub_source, on_hub, refusal
from xmodular.languages import code_problem

POOLINGS = ("first", "mean")
POSITION_TYPES = ("absolute", "relative_key", "relative_key_query")
LAYOUTS = ("packed", "grid")


# Beyond these a configuration is damaged, and building a model of it would fill the memory.
_MOST, _MOST_LAYERS, MOST_LABELS, _MOST_LANGUAGES = 2**28, 1000, 2**15, 10_000
_MOST_PROBLEMS = 40  # that one message names
_MOST_SHOWN = 100  # codes in it
_SWITCHES = (
    "is_decoder",
    "add_cross_attention",
    "use_cache",
    "tie_word_embeddings",
    "pre_norm",
    "adapter_layer_norm",
    "adapter_reuse_layer_norm",
    "ln_before_adapter",
)
# Names beside the fields that are taken: transformers' own, of this and earlier versions, and what fine-tuning notes.
_ALSO_TAKEN = (
    *("attn_implementation", "auto_map", "cross_attention_hidden_size", "experts_implementation", "finetuning_task"),
    *("name_or_path", "num_labels", "output_attentions", "per_layer_config", "prefix", "quantization_config"),
    *("sep_token_id", "task_language", "task_max_length", "task_specific_params", "task_stride"),
    *("tie_encoder_decoder", "tokenizer_class", "torch_dtype", "torchscript", "use_bfloat16"),
)
# What says how to load, and reaches `from_dict` too.
_OF_LOADING = ("code_revision", "gguf_file", "resume_download", "use_auth_token")
# Arguments of a model's `from_pretrained` that name languages, of which no configuration knows the codes yet.
_OF_THE_MODEL = ("languages", "default_language")
_OF_GENERATION = frozenset(GenerationConfig().to_dict())
_MISSPELT = 0.88  # likeness of names; that of bos_token and bos_token_id, which both exist, is 0.86


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
        adapter_layer_norm: a new LayerNorm before the adapters, shared by the languages.
        adapter_reuse_layer_norm: without `adapter_layer_norm`, apply the layer's own output LayerNorm there.
        ln_before_adapter: whether the adapters' residual starts after that LayerNorm (True) or before it.
        languages: language codes, one adapter each; the position of a code is its language id.
        default_language: the language of inputs that come without `lang_ids`.
        layout: what the layers see: "packed", real tokens alone as (tokens, hidden); or "grid", all tokens as
            (batch, sequence, hidden), for hooks and tools that expect that. The results are the same.
        vocabularies: languages with a vocabulary of their own, and the rows of their word embeddings; such a language
            has its own tokenizer too.
        pruned_heads: attention heads that have been removed, by layer; written by `prune_heads`.

    The released checkpoints, such as [facebook/xmod-base](https://huggingface.co/facebook/xmod-base), have presets.
    (Where no such link stands here, transformers prints errors when it documents its own classes.)

    Other keywords of transformers' configurations (``num_labels``, ``id2label``, ``attn_implementation`` ...) are taken
    too. What stands in a configuration file, or in a dictionary with ``model_type`` as `to_dict` gives, may have any
    names: files of other versions load.

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

    def __post_init__(self, **kwargs: Any) -> None:
        labels = kwargs.get("num_labels")
        if labels is not None and (not _is_integer(labels) or not 0 <= labels <= MOST_LABELS):  # each gets a name
            raise ConfigurationError(
                f"XmodConfig cannot be made: num_labels is {labels!r:.40}; at most {MOST_LABELS:,} labels are read."
            )
        if layers := kwargs.get("per_layer_config"):
            raise ConfigurationError(
                f"XmodConfig cannot be made: per_layer_config is {layers!r:.40}; all layers of an X-MOD are alike."
            )
        is_record = kwargs.pop("model_type", None) is not None
        unknown = [] if is_record else [name for name in kwargs if not _is_taken(name)]
        if self.languages is None or (isinstance(self.languages, Iterable) and not isinstance(self.languages, str)):
            self.languages = list(self.languages or ())
        self.vocabularies = {} if self.vocabularies is None else self.vocabularies
        self.pruned_heads = {} if self.pruned_heads is None else self.pruned_heads
        if not list(self._pruning_problems()):
            # JSON turns the layer numbers into strings.
            self.pruned_heads = {int(layer): sorted(set(heads)) for layer, heads in self.pruned_heads.items()}
        super().__post_init__(**kwargs)
        self._check(_unknown_names(unknown, self._names()))

    def _check(self, more: Iterable[str] = ()) -> None:
        """Raises ConfigurationError if something cannot be, with `more` problems before those of the fields."""
        if problems := list(islice(chain(more, self._problems()), _MOST_PROBLEMS)):
            raise ConfigurationError("XmodConfig cannot be made:\n" + "\n".join(f"  - {p}" for p in problems))

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> XmodConfig:
        """The configuration of a released checkpoint or a named shape.

        Args:
            name: a release ("xmod-base", "xmod-large-prenorm", "xmod-base-13-125k", "swissbert", ...: with its
                languages) or a shape for training from scratch ("tiny", "mini", "small", "base", "large-prenorm").
            overrides: fields to set otherwise.

        Raises:
            ConfigurationError: if there is no such preset.
        """
        if name in RELEASES:
            release = RELEASES[name]
            return cls(**{**release.fields, "languages": release.languages, **overrides})
        if name in SHAPES:
            return cls(**{**SHAPES[name], **overrides})
        known = [*RELEASES, *SHAPES]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(f"there is no preset {name!r}: {hint}the presets are {', '.join(known)}.")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[Any], *args: Any, **kwargs: Any) -> Any:
        """The configuration of a model folder or Hub repository; `kwargs` as for `from_dict`, and where it is."""
        return super().from_pretrained(pretrained_model_name_or_path, *args, _own=True, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """The configuration that a dictionary describes, whatever else is in it.

        Args:
            config_dict: fields, as in ``config.json``.
            kwargs: fields to set otherwise; ``return_unused_kwargs=True`` gives back those that are no fields.

        Raises:
            ConfigurationError: as for the class; or a name in `kwargs` is unknown. Where other names are expected (for
                a model, or by ``AutoConfig``), this is one that is nearly a field's.
        """
        asked = kwargs.pop("return_unused_kwargs", False)
        lenient = asked or "_from_auto" in kwargs
        # AutoConfig asks on behalf of a model: what its loading looks up, by names of languages, is left to that.
        for_model = () if kwargs.pop("_own", False) or not asked else _OF_THE_MODEL
        held = {name: kwargs.pop(name) for name in for_model if name in kwargs}
        record = {"model_type": cls.model_type, **config_dict}
        config, unused = super().from_dict(record, return_unused_kwargs=True, **kwargs)
        unknown = [name for name in unused if not _is_taken(name) and name not in _OF_LOADING]
        unknown = [name for name in unknown if not lenient or _nearest(name, cls._names(), _MISSPELT)]
        if problems := list(_unknown_names(unknown, cls._names())):
            raise ConfigurationError(" ".join(problems))
        if kwargs:  # what is set otherwise was not there when the configuration was made
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
    def bottleneck_size(self) -> int:
        """Width of the adapters' bottleneck."""
        return int(self.hidden_size // self.adapter_reduction_factor)

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary; a callable `hidden_act` stands there by its name."""
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

    def _problems(self) -> Iterable[str]:
        """Yields one line for each thing that cannot be: field, value, what is allowed."""
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        bad_sizes = False
        for name in (*sizes, "max_position_embeddings", "type_vocab_size"):
            value = getattr(self, name)
            most = _MOST_LAYERS if name == "num_hidden_layers" else _MOST
            if not _is_integer(value) or not 1 <= value <= most:
                bad_sizes = True
                yield f"{name} is {value!r:.40}: it must be a positive integer, at most {most:,}."
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                yield f"{name} is {value!r:.40}: it must be a number from 0 up."
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                yield f"{name} is {getattr(self, name)!r:.40}: it must be True or False."
        chunk = self.chunk_size_feed_forward
        if not _is_integer(chunk) or chunk < 0:
            yield f"chunk_size_feed_forward is {chunk!r:.40}: it must be an integer from 0 (all at once) up."
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            value = getattr(self, name)
            if name == "classifier_dropout" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                yield f"{name} is {value!r}: it must be a probability between 0 and 1."
        pruning = list(self._pruning_problems())
        yield from pruning
        if not bad_sizes:
            yield from self._size_problems(check_pruning=not pruning)
        yield from self._language_problems()
        if self.classifier_pooling not in POOLINGS:
            yield f"classifier_pooling is {self.classifier_pooling!r:.40}: allowed are 'first' and 'mean'."
        if self.position_embedding_type not in POSITION_TYPES:
            allowed = ", ".join(map(repr, POSITION_TYPES))
            yield f"position_embedding_type is {self.position_embedding_type!r}: allowed are {allowed}."
        if self.layout not in LAYOUTS:
            yield f"layout is {self.layout!r:.40}: allowed are {', '.join(map(repr, LAYOUTS))}."
        if not callable(self.hidden_act):
            from transformers.activations import ACT2FN

            if not isinstance(self.hidden_act, str) or self.hidden_act not in ACT2FN:
                near = difflib.get_close_matches(str(self.hidden_act), list(ACT2FN), n=3)
                hint = f" (near: {', '.join(near)})" if near else ""
                yield f"hidden_act is {self.hidden_act!r:.40}{hint}: give a callable or one of {', '.join(ACT2FN)}."
        if self.add_cross_attention and not self.is_decoder:
            yield "add_cross_attention is True but is_decoder is False: cross-attention needs is_decoder=True."

    def _pruning_problems(self) -> Iterable[str]:
        """Whether `pruned_heads` has the form of one at all."""
        heads_of = self.pruned_heads
        if not isinstance(heads_of, dict) or not all(
            str(layer).isdecimal() and isinstance(heads, list | tuple | set) and all(map(_is_integer, heads))
            for layer, heads in heads_of.items()
        ):
            yield f"pruned_heads is {heads_of!r:.40}: it must be a table of layers and lists of heads."

    def _size_problems(self, *, check_pruning: bool) -> Iterable[str]:
        if self.hidden_size % self.num_attention_heads:
            yield (
                f"hidden_size is {self.hidden_size}, which num_attention_heads ({self.num_attention_heads}) does not "
                "divide: choose a multiple."
            )
        factor = self.adapter_reduction_factor
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
            yield f"adapter_reduction_factor is {factor!r}: it must be a positive number."
        elif self.hidden_size / factor > _MOST:
            yield f"adapter_reduction_factor is {factor!r}: the bottleneck would be wider than {_MOST:,}."
        elif self.hidden_size // factor < 1:
            yield (
                f"adapter_reduction_factor is {factor!r}, which leaves no bottleneck of hidden_size "
                f"{self.hidden_size}: it must be at most {self.hidden_size}."
            )
        pad = self.pad_token_id
        if isinstance(pad, bool) or not isinstance(pad, int) or not 0 <= pad < self.vocab_size:
            yield (
                f"pad_token_id is {pad!r}: it must be an id below vocab_size ({self.vocab_size}); positions count from "
                "it."
            )
        elif self.max_position_embeddings < pad + 2:
            yield (
                f"max_position_embeddings is {self.max_position_embeddings}: positions start at pad_token_id + 1, so "
                f"at least {pad + 2} rows are needed."
            )
        for layer, heads in (self.pruned_heads or {}).items() if check_pruning else ():
            wrong = [head for head in heads if not 0 <= head < self.num_attention_heads]
            if not 0 <= layer < self.num_hidden_layers or wrong or len(heads) >= self.num_attention_heads:
                yield (
                    f"pruned_heads has {layer!s:.40}: {heads!r:.80}: layers are 0 to {self.num_hidden_layers - 1}, "
                    f"heads 0 to {self.num_attention_heads - 1}, and one head at least must stay."
                )

    def _language_problems(self) -> Iterable[str]:
        languages = self.languages
        if isinstance(languages, str):
            yield f"languages is the string {languages!r}: give a list of codes, such as [{languages!r}]."
            return
        if not isinstance(languages, list):
            yield f"languages is {languages!r:.40}: it must be a list of codes, such as ['en_XX']."
            return
        if not languages:
            yield "languages is empty: give one code at least, such as ['en_XX']."
        if len(languages) > _MOST_LANGUAGES:
            yield f"languages has {len(languages):,} codes: at most {_MOST_LANGUAGES:,} are read."
            return
        for code in languages:
            if problem := code_problem(code):
                yield f"languages has {problem}"
        if not isinstance(self.vocabularies, dict):
            yield f"vocabularies is {self.vocabularies!r:.40}: it must be a table of languages and numbers of rows."
            return
        for code, rows in self.vocabularies.items():
            if code not in languages:
                yield f"vocabularies has {code!r:.40}, which is not among the languages: {_listed(languages)}."
            elif not _is_integer(rows) or not 1 <= rows <= _MOST:
                yield f"vocabularies has {rows!r:.40} for {code!r}: it must be a positive integer, at most {_MOST:,}."
        if duplicates := sorted(code for code, count in Counter(map(str, languages)).items() if count > 1):
            yield f"languages has duplicates: {_listed(duplicates)}. Each code may stand once."
        if self.default_language is not None and self.default_language not in languages:
            near = difflib.get_close_matches(str(self.default_language), [str(c) for c in languages], n=3)
            hint = f" (near: {', '.join(near)})" if near else ""
            yield (
                f"default_language is {self.default_language!r:.40}{hint}, which is not among the languages: "
                f"{_listed(languages)}."
            )


def _listed(codes: Sequence[Any]) -> str:
    """Codes for a message: all of a usual model's, else the first and how many more there are."""
    more = f" and {len(codes) - _MOST_SHOWN:,} more" if len(codes) > _MOST_SHOWN else ""
    return ", ".join(f"{code!s:.40}" for code in codes[:_MOST_SHOWN]) + more


def _is_taken(name: str) -> bool:
    """Whether a keyword that is no field of the class has a meaning; transformers' internal names begin with "_"."""
    return name in _ALSO_TAKEN or name.startswith("_")


def _nearest(name: str, names: Sequence[str], likeness: float = 0.6) -> str | None:
    """The name that another is most like, if there is one so like it; one with all of its words comes first."""
    words = set(name.split("_"))
    if len(words) > 1 and (longer := [each for each in names if words < set(each.split("_"))]):
        return min(longer, key=len)
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=likeness)), None)


def _unknown_names(unknown: Iterable[str], names: Sequence[str]) -> Iterable[str]:
    """Yields one line for each name that means nothing."""
    for name in unknown:
        near = _nearest(name, names)
        if name in _OF_GENERATION:
            hint = "it is a setting of generation, which belongs in model.generation_config."
        elif near is not None:
            hint = f"did you mean {near!r}?"
        else:
            hint = (
                "XmodConfig's documentation lists them; anything else can be set on the configuration once it is made."
            )
        yield f"{name} is no field: {hint}"


def numbers_in(config: XmodConfig) -> int:
    """About how many numbers a model of a configuration has, from below."""
    hidden, layers = config.hidden_size, config.num_hidden_layers
    rows = config.vocab_size * (1 if config.tie_word_embeddings else 2) + sum(config.vocabularies.values())
    rows += config.max_position_embeddings + config.type_vocab_size + (config.num_labels or 0)
    layer = hidden * (4 * hidden * (2 if config.add_cross_attention else 1) + 2 * config.intermediate_size)
    if config.position_embedding_type != "absolute":
        layer += 2 * config.max_position_embeddings * (hidden // config.num_attention_heads)
    return rows * hidden + layers * (layer + 2 * hidden * config.bottleneck_size * len(config.languages))


def read_config(source: str | Path) -> XmodConfig:
    """The configuration of a model folder or Hub repository.

    Raises:
        ConfigurationError: there is no X-MOD model, or its config.json cannot be read.
    """
    content = config_content(source)
    check_kind(source, content)
    if (other := content.get("transformers_weights")) is not None:
        raise ConfigurationError(
            f"{source} has transformers_weights in its config.json ({other!r:.80}), so that other files than "
            "model.safetensors would be loaded: take the field out, or rename the file."
        )
    try:
        return XmodConfig.from_dict(content)
    except XmodularError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:  # of the base class
        raise ConfigurationError(f"{source} has a config.json that cannot be read: {error!s:.200}") from error


def check_kind(source: Any, content: Mapping[str, Any]) -> None:
    """Check that a ``config.json`` is an X-MOD's, or says nothing of its kind.

    Raises:
        ConfigurationError: it says that the model is another architecture's.
    """
    if (kind := content.get("model_type", XmodConfig.model_type)) != XmodConfig.model_type:
        raise ConfigurationError(
            f"{source} is a {kind!s:.60} model, which has no adapters. Make it modular first: "
            f"xmodular upcycle --model {source} --languages en,de --output-dir modular"
        )


def config_content(source: str | Path) -> dict[str, Any]:
    """The content of a model's ``config.json``, of whatever kind; code that it names (``auto_map``) never runs.

    Args:
        source: model folder or Hub repository.

    Raises:
        ConfigurationError: there is no model, or its config.json cannot be read.
    """
    path = Path(source)
    if path.exists() and not (path / "config.json").is_file():
        raise ConfigurationError(f"{source} holds no model: there is no config.json in it.")
    if is_missing_folder(source):
        raise ConfigurationError(f"There is no folder {source}.")
    if not path.exists() and len(path.parts) == 1:
        named = on_hub(source)[0]
        example = RELEASES[named].hub_id if named in RELEASES else "facebook/xmod-base"
        raise ConfigurationError(f"There is no folder {source}; on the Hub, models have names such as {example}.")
    name, where = hub_source(source)
    try:
        if path.exists():
            (path / "config.json").open("rb").close()  # a file that may not be read is called missing below
        content, _ = PretrainedConfig.get_config_dict(name, **where)
    except OSError as error:
        if path.exists():
            said = of_system(error) if error.errno else f"{path / 'config.json'} cannot be read: {error!s:.200}"
            raise ConfigurationError(f"{said}") from error
        raise ConfigurationError(f"No model {source}: {refusal(source, error)}.") from error
    except Exception as error:  # the base class has many, of its own too
        raise ConfigurationError(f"{source} has a config.json that cannot be read: {error!s:.200}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{source} has a config.json that is no table of names and values.")
    return content
