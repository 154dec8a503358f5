"""Find and load the model of a verb, given as an object or by its location, and its tokenizer."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import xmodular.modeling
from xmodular.configuration import EmbeddingSettings, XmodConfig, read_config, stored_settings
from xmodular.configuration.peft_folder import SETTINGS, base_of, is_peft_folder
from xmodular.console import quiet_transformers
from xmodular.errors import ConfigurationError, DataError, InputError, XmodularError, in_one_line
from xmodular.exported_models import ExportedModel, is_exported, load_exported
from xmodular.files import sha256_of
from xmodular.hub import hub_source
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.adapters_on_disk import on_disk
from xmodular.modeling.loaded import check_loaded
from xmodular.modeling.peft_layers import attach, has_peft, merged, without_wrapper
from xmodular.modeling.trainable import parameter_group
from xmodular.options import PRECISIONS, WeightPrecision
from xmodular.vocabulary import from_json, is_with_tokenizer, load_tokenizer, positions_of, suited
from xmodular.weight_names import POSITION_IDS
from xmodular.weights import open_weights


def given_model(model: XmodPreTrainedModel | str | Path) -> tuple[XmodPreTrainedModel | None, str]:
    """The model if it is an object (else None), and its name for messages.

    In a ``PeftModel``, that is the X-MOD model inside it, which computes with PEFT's layers.

    Raises:
        InputError: it is neither an X-MOD model nor a folder or a name on the Hub.
    """
    model = without_wrapper(model)
    if isinstance(model, XmodPreTrainedModel):
        return model, home_of(model) or "model object"
    if isinstance(model, (str, Path)):
        return None, str(model)
    kind = type(model).__name__
    if hasattr(model, "merge_and_unload"):  # a PEFT model
        raise InputError(f"The model is a PEFT {kind}: merge its adapters with model.merge_and_unload() first.")
    if isinstance(inside := getattr(model, "_orig_mod", getattr(model, "module", None)), XmodPreTrainedModel):
        raise InputError(f"The model is a {kind} around an {type(inside).__name__}: give that model itself.")
    if isinstance(model, PreTrainedModel):
        raise InputError(f"The model is a {kind}, which has no adapters: xmodular.upcycle makes it modular.")
    raise InputError(f"A model must be an X-MOD model, a folder or a name on the Hub; this is a {kind}.")


def given_plain_model(model: XmodPreTrainedModel | str | Path) -> tuple[XmodPreTrainedModel | None, str]:
    """The same, for verbs that train or change whole models.

    Raises:
        InputError: also if the model has layers of PEFT.
    """
    given, name = given_model(model)
    if given is not None and has_peft(given):
        raise InputError(
            "The model has layers of PEFT: merge them first, with merge_and_unload() of the PEFT model, or save it and "
            "give the folder."
        )
    return given, name


def given_merged_model(model: XmodPreTrainedModel | str | Path) -> tuple[XmodPreTrainedModel | None, str]:
    """The same; of a model with layers of PEFT, a copy with these merged into the weights."""
    given, name = given_model(model)
    return (merged(given) if given is not None and has_peft(given) else given), name


def home_of(model: XmodPreTrainedModel) -> str | None:
    """Where a model was loaded from or last saved, which is also where its tokenizer is; None if unknown."""
    return str(model.config.name_or_path or "") or None


def embedding_settings_of(config: XmodConfig, source: str | Path | None) -> EmbeddingSettings:
    """How a model's states become the vector of a text: as its configuration says, or the files next to it.

    Args:
        config: its configuration.
        source: where it was loaded from.
    """
    if config.sentence_embedding is None and source is not None:
        return stored_settings(source) or EmbeddingSettings()
    return config.embedding_settings


def set_home(model: XmodPreTrainedModel, source: str | Path) -> None:
    """Record where a model and its tokenizer are saved."""
    model.config.name_or_path = str(source)


def hash_of(model: XmodPreTrainedModel) -> str:
    """The SHA-256 of a model object's weights: a run can only continue with the weights it started with."""
    if isinstance(model, ExportedModel):
        return sha256_of(model.path)
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for path in dict.fromkeys(path for layer in on_disk(model) for path in layer.files):
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def load_saved(
    source: str | Path, precision: WeightPrecision = "keep", architecture: str | None = None, **fields: Any
) -> XmodPreTrainedModel:
    """Load a model as it was saved, with the class named in its configuration.

    Args:
        source: model folder or Hub repository.
        precision: precision of the weights; "keep" uses that of the files.
        architecture: another class, all of whose weights are in the files.
        fields: fields of the configuration to change; only fields that no weight depends on.

    Raises:
        ConfigurationError: there is no X-MOD model, it names no class with a head, or weights are missing from its
            file, including those of the head.
    """
    config = read_config(source)
    names = [architecture] if architecture is not None else config.architectures or []
    if not isinstance(names, list) or len(names) != 1 or names[0] not in xmodular.modeling.__all__:
        raise ConfigurationError(f"{source} does not name an X-MOD model class in its config.json; it has {names}.")
    if is_peft_folder(source):  # merged in the precision of its weights, then cast
        model = load_architecture(names[0], source, **fields)[0]
        return model if precision == "keep" else torch.nn.Module.to(model, getattr(torch, PRECISIONS[precision]))
    if precision != "keep":
        fields["dtype"] = PRECISIONS[precision]
    return load_architecture(names[0], source, **fields)[0]


def load_architecture(
    architecture: str, source: str | Path, *, new_head: bool = False, **more: Any
) -> tuple[XmodPreTrainedModel, bool]:
    """A model of a class, and whether weights of its head are new.

    Args:
        architecture: the name of the class.
        source: model folder or Hub repository.
        new_head: whether weights of its head may be new; all others must be in the files.
        more: as for transformers' `PreTrainedModel.from_pretrained`.

    Raises:
        ConfigurationError: weights are missing, or have other shapes than in the configuration; or the model is an
            exported one.
        DataError: the files cannot be loaded.
    """
    if is_exported(source):
        raise ConfigurationError(
            f"{source} is an exported model, which predicts and is evaluated; for anything else, use the model that "
            "it was exported from."
        )
    if is_peft_folder(source):
        return _load_with_peft(architecture, source, new_head=new_head, **more)
    if (Path(source) / SETTINGS).is_file():
        raise DataError(
            f"{source} has both a model and {SETTINGS}, an adapter of PEFT: it is not clear which is meant. Move the "
            "adapter to a folder of its own."
        )
    if Path(source).is_dir():
        with open_weights(source) as weights:
            wrong = [name for name in weights.names if not weights.dtype(name).is_floating_point]
        if wrong := [name for name in wrong if not name.endswith(POSITION_IDS)]:
            raise DataError(f"The model at {source} has weights that are not floating-point, among them {wrong[0]}.")
    name, where = hub_source(source)
    try:
        with quiet_transformers():
            model, report = getattr(xmodular.modeling, architecture).from_pretrained(
                name, output_loading_info=True, **where, **more
            )
        set_home(model, source)
    except XmodularError:
        raise
    except (
        SafetensorError,
        UnpicklingError,
        OSError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise DataError(f"The model at {source} cannot be loaded: {in_one_line(error)}") from error
    return model, check_loaded(source, model, report, new_head=new_head)


def _load_with_peft(
    architecture: str, source: str | Path, *, new_head: bool, **more: Any
) -> tuple[XmodPreTrainedModel, bool]:
    """As `load_architecture`: the base that an adapter of PEFT names, with the adapter merged into it."""
    config, base = read_config(source), base_of(source)
    is_other = config.architectures != [architecture]
    more = {"config": config, "ignore_mismatched_sizes": True, **more}
    for name in [name for name in more if name in XmodConfig.__annotations__ and name != "languages"]:
        setattr(more["config"], name, more.pop(name))
    model, is_new = load_architecture(architecture, base, new_head=True, **more)
    loaded = attach(model, Path(source), drop_head=is_other or more["config"].num_labels != config.num_labels)
    left = [name for name in model.state_dict() if parameter_group(name) == "task head" and name not in loaded]
    is_new = is_new and bool(left)
    if is_new and not new_head and architecture != "XmodModel":
        raise ConfigurationError(
            f"The weight {left[0]} of the head is neither saved with the adapter {source} nor in its base {base}, so "
            'it would be random. Train it with the adapter: LoraConfig(modules_to_save=["classifier"]).'
        )
    set_home(model, source if is_with_tokenizer(source) else base)
    return model, is_new


def most_resident(source: str | Path) -> int | None:
    """The `resident_languages` with which a model's languages are all read when rows need them, and stay.

    None where they cannot be read one by one: in a graph, over an adapter of PEFT, in files other than safetensors.

    Args:
        source: model folder or name on the Hub.

    Raises:
        ConfigurationError, DataError: there is no model.
    """
    if is_exported(source) or is_peft_folder(source):
        return None
    languages = len(read_config(source).languages)
    with open_weights(source) as weights:
        return languages if all(path.suffix in (".json", ".safetensors") for path in weights.files) else None


def to_run(
    model: XmodPreTrainedModel | str | Path,
    precision: WeightPrecision = "keep",
    architecture: str | None = None,
    resident_languages: int | None = None,
) -> XmodPreTrainedModel:
    """A model for inference.

    Args:
        model: a folder or a name on the Hub, which is put on the GPU if there is one (exported models run on the CPU);
            or an object, which stays on its device and is not changed: for another precision it is copied.
        precision: precision of the weights, and so of the computation; "keep" does not change it.
        architecture: the class to load from a folder; None for the one that its configuration names.
        resident_languages: how many languages are in memory at most, the others on disk (as for `from_pretrained`);
            None: all. Not for objects and exported models.

    Raises:
        ConfigurationError: there is no such precision; or as `load_saved`.
    """
    is_graph = is_exported(model) if isinstance(model, (str, Path)) else isinstance(model, ExportedModel)
    if is_graph and precision not in ("keep", "fp32"):
        raise ConfigurationError(f"precision is {precision!r}, but the precision of an exported model is in its graph.")
    if resident_languages is not None and (is_graph or not isinstance(model, (str, Path))):
        kind = "an exported model" if is_graph else "a model object"
        raise ConfigurationError(
            f"resident_languages is {resident_languages}, but {kind} has all its languages in memory: give the folder "
            "of a model."
        )
    if isinstance(model, ExportedModel):
        return model
    if precision not in ("keep", *PRECISIONS):
        raise ConfigurationError(f"precision is {precision!r}: it must be one of keep, {', '.join(PRECISIONS)}.")
    given, source = given_model(model)
    if given is None and is_graph:
        return load_exported(source)
    if given is None:
        more = {} if resident_languages is None else {"resident_languages": resident_languages}
        loaded = load_saved(source, precision, architecture, **more)
        return torch.nn.Module.to(loaded, "cuda") if torch.cuda.is_available() else loaded
    if precision == "keep" or given.dtype == (dtype := getattr(torch, PRECISIONS[precision])):
        return given
    return copy.deepcopy(given).to(dtype)


def tokenizer_of(
    model: XmodPreTrainedModel, source: str | Path | None, language: str | None = None
) -> PreTrainedTokenizerFast:
    """The tokenizer at `source`, or the one saved with the model.

    Args:
        language: a code of the model; for one with its own vocabulary, its own tokenizer is used and `source` ignored.

    Raises:
        DataError: there is no tokenizer, or it has more pieces than the model has embeddings.
    """
    if language is not None and language in model.config.vocabularies:
        own = model.tokenizers.get(language)
        if own is None:
            raise DataError(f"{language} has its own vocabulary, but tokenizer.{language}.json is missing.")
        return suited(from_json(own, model.config.vocabularies[language]), model.config)
    where = source or home_of(model)
    if not where:
        raise DataError("This model was not loaded from a folder, so its tokenizer is unknown: pass `tokenizer`.")
    if source is None and not is_with_tokenizer(where):
        raise DataError(
            f"There is no tokenizer with the model in {where}: give a --tokenizer, such as the folder or the name "
            "on the Hub of the model that this one was trained from."
        )
    tokenizer = load_tokenizer(where)
    if len(tokenizer) > model.config.vocab_size:
        raise DataError(
            f"The tokenizer at {where} has {len(tokenizer)} pieces, the model {model.config.vocab_size}: "
            "they do not match."
        )
    return suited(tokenizer, model.config)


def longest(model: XmodPreTrainedModel, asked: int) -> int:
    """The maximum number of tokens per row: as requested, or as the model's positions allow."""
    return min(asked, positions_of(model.config))


class WithTokenizers:
    """Something with a `model`: the tokenizers of its vocabularies, each loaded when it is first needed."""

    model: Any

    def _take_tokenizer(self, given: PreTrainedTokenizerFast | str | Path | None) -> None:
        """Set the tokenizer of the shared vocabulary, or its location; None: the model's.

        Raises:
            DataError: as for `tokenizer_of`, so that problems show at once.
            InputError: it is something else.
        """
        self._tokenizers: dict[str | None, PreTrainedTokenizerFast] = {}
        self._tokenizer_source = given if isinstance(given, (str, Path)) else None
        if isinstance(given, PreTrainedTokenizerFast):
            self.set_tokenizer(given)
        elif given is not None and self._tokenizer_source is None:
            raise InputError(f"tokenizer is a {type(given).__name__}: give a fast tokenizer or its location.")
        elif self.shares_vocabulary:
            self.tokenizer()

    @property
    def shares_vocabulary(self) -> bool:
        """Whether some languages use the shared vocabulary, not each its own."""
        return len(self.model.config.vocabularies) < len(self.model.languages)

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Use another tokenizer for the languages without their own vocabulary."""
        self._tokenizers[None] = suited(tokenizer, self.model.config)

    def tokenizer(self, vocabulary: str | None = None) -> PreTrainedTokenizerFast:
        """The tokenizer of a language with its own vocabulary, or of all others (None)."""
        if vocabulary not in self._tokenizers:
            self._tokenizers[vocabulary] = tokenizer_of(self.model, self._tokenizer_source, vocabulary)
        return self._tokenizers[vocabulary]
