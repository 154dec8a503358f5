"""The two sides of a comparison: model folders, model objects or language packs, all as names and tensors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import GenerationConfig
from transformers.utils import cached_file

from xmodular.comparison.fields import fields_of, generation_of
from xmodular.configuration import XmodConfig, read_config
from xmodular.configuration.peft_folder import is_peft_folder
from xmodular.errors import ConfigurationError, DataError, PackError
from xmodular.hub import hub_source
from xmodular.languages import resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.trainable import parameter_group
from xmodular.packs import read_pack
from xmodular.packs.manifest import ADAPTER, EMBEDDINGS
from xmodular.saved_models import home_of, load_saved
from xmodular.weight_names import (
    LANGUAGE,
    LM_HEAD,
    OWN_BIAS,
    OWN_WORDS,
    PACK_BIAS,
    PACK_WORDS,
    POSITION_IDS,
    PREFIX,
    TIED,
    bare,
    of_adapter,
)
from xmodular.weights import Weights, open_weights

_SECOND_NAMES = {second: bare(first) for second, first in TIED.items()}
# Other names by which transformers finds a weight: the encoder's prefix there or not (any character ends it, and it may
# be there twice), and LayerNorms as TensorFlow calls them.
_PREFIXES = re.compile(rf"^(?:{PREFIX})+")
_NORMS = ((re.compile("LayerNorm.gamma"), "LayerNorm.weight"), (re.compile("LayerNorm.beta"), "LayerNorm.bias"))

Source = XmodPreTrainedModel | str | Path
Reader = Callable[[], Tensor]


@dataclass(frozen=True)
class Side:
    """One of the two sides of a comparison.

    Attributes:
        languages: codes; of a model, in the order of their ids.
        readers: from names, as in a bare encoder (no ``roberta.`` before them), to tensors.
        fields: of the configuration, see `fields_of`.
        config: a model's configuration.
        pack: the language's code, if this is a pack.
        predicts: whether it has a language-model head, or a pack's part of one.
        tokenizers: hash of a language's own tokenizer, by code.
        shared: location of the tokenizer of the other languages, if known.
    """

    languages: tuple[str, ...]
    readers: dict[str, Reader]
    fields: dict[str, Any] = field(default_factory=dict)
    config: XmodConfig | None = None
    pack: str | None = None
    predicts: bool = False
    tokenizers: dict[str, str] = field(default_factory=dict)
    shared: str | None = None

    def reader(self, name: str) -> Reader | None:
        """The function that reads the tensor of that name, or the one it is tied to; None if there is neither."""
        if name not in self.readers and self.predicts:
            name = _SECOND_NAMES.get(name, name)
        return self.readers.get(name)


@contextmanager
def open_side(source: Source) -> Iterator[Side]:
    """Open a model or a pack for reading.

    Raises:
        ConfigurationError: there is neither.
        DataError: a model's weights are missing or damaged, or other weights than those in its files would be loaded.
        PackError: a pack is damaged.
    """
    if isinstance(source, (str, Path)) and is_peft_folder(source):
        source = load_saved(source)
    if isinstance(source, XmodPreTrainedModel):
        state = source.state_dict()
        dtypes = {str(each.dtype).removeprefix("torch.") for each in state.values() if each.is_floating_point()}
        fields = fields_of(source.config, {}, ", ".join(sorted(dtypes)), [type(source).__name__])
        if source.can_generate():
            fields["generation"] = generation_of(source.generation_config)
        side = _model_side({name: _reader(state, name) for name in state}, fields, source.config)
        tokenizers = {code: _hash(text) for code, text in source.tokenizers.items()}
        yield replace(side, tokenizers=tokenizers, shared=home_of(source))
        return
    if (Path(source) / "pack.json").is_file():
        with _pack_side(source) as side:
            yield side
        return
    try:
        config = read_config(source)
    except ConfigurationError as error:
        if Path(source).exists():
            raise
        with ExitStack() as stack:
            try:
                side = stack.enter_context(_pack_side(source))
            except PackError as other:
                raise ConfigurationError(f"{source} is neither a model nor a language pack. {error} {other}") from other
            yield side
        return
    if _file(source, "adapter_config.json") is not None:
        raise DataError(
            f"{source} contains adapter_config.json, a PEFT adapter that is loaded into the model and changes what it "
            "computes: compare the model without it, or merge it into the weights first."
        )
    with open_weights(source) as weights:
        path = _file(source, "config.json")
        written = {} if path is None else XmodConfig.get_config_dict(str(path.parent))[0]
        fields = fields_of(config, written, _dtype(config, weights), config.architectures)
        if config.architectures == ["XmodForCausalLM"]:
            fields["generation"] = generation_of(_generation(source, config))
        side = _model_side({name: _reader(weights, name) for name in weights.names}, fields, config)
        yield replace(side, tokenizers=_tokenizers(source, config.vocabularies), shared=str(source))


def _dtype(config: XmodConfig, weights: Weights) -> str:
    """What the weights of a saved model are loaded as.

    Raises:
        DataError: nothing says it, and the weights do not agree.
    """
    stated = config.dtype or weights.metadata.get("dtype")
    if stated is not None:
        return str(stated).removeprefix("torch.")
    found = {weights.dtype(name) for name in weights.names}
    names = sorted(str(each).removeprefix("torch.") for each in found if each.is_floating_point)
    if len(names) > 1:
        raise DataError(
            f"{weights.source} has weights in {' and '.join(names)}, and no dtype in its config.json: the dtype "
            "it is loaded in depends on the order of the files. Save the model again."
        )
    return ", ".join(names)


def _generation(source: str | Path, config: XmodConfig) -> GenerationConfig:
    """The generation settings of a saved causal model: from its file, or else from its configuration."""
    if _file(source, "generation_config.json") is None:
        return GenerationConfig.from_model_config(config)
    try:
        return GenerationConfig.from_pretrained(str(source))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{source}: generation_config.json cannot be read: {error!s:.200}") from error


def matched(a: Side, b: Side) -> tuple[Side, Side]:
    """Both sides; if one is a pack, with its language only, under the same code.

    Raises:
        LanguageError: a pack is compared with a model that does not have its language.
    """
    if a.pack is None and b.pack is None:
        return a, b
    if a.pack is not None and b.pack is not None:
        code, other = a.pack, b.pack
    else:
        model = b if a.pack is not None else a
        code = resolve(a.pack or b.pack or "", model.languages)
        other = b.pack or code
    biases = a.predicts and b.predicts
    return _only(a, a.pack or code, code, biases), _only(b, other, code, biases)


def part_of(name: str, *, biases: bool) -> str:
    """The part that a weight belongs to: a language's code, or one of `PARTS`.

    Args:
        biases: whether the output biases of a language's own vocabulary count as the language's. Where a side has no
            language-model head, they are part of the head, which is added or removed as a whole.
    """
    found = LANGUAGE.search(name)
    if name.startswith(OWN_BIAS) and not biases:
        return "lm head"
    if found is None:
        return parameter_group(name)
    return found.group(1)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and bytes."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _reader(tensors: Any, name: str) -> Reader:
    return lambda: tensors[name].detach().cpu()


def _model_side(readers: dict[str, Reader], fields: dict[str, Any], config: XmodConfig) -> Side:
    """The weights that a model of this configuration reads; adapters that its configuration does not name stay on disk.

    Raises:
        DataError: two tensors are the same weight.
    """
    named: dict[str, Reader] = {}
    names: dict[str, str] = {}
    own = dict.fromkeys(("language_embeddings", "language_bias"), config.vocabularies)
    for name, reader in readers.items():
        plain = _PREFIXES.sub("", name)
        for pattern, norm in _NORMS:
            plain = pattern.sub(norm, plain)
        if plain in names:
            raise DataError(
                f"{names[plain]!r} and {name!r} are the same weight, and only one of them would be loaded, silently: "
                "save the model again."
            )
        names[plain] = name
        found = LANGUAGE.search(plain)
        kind = next((kind for kind in own if kind in plain), "adapters")
        if found is None or found.group(1) in own.get(kind, config.languages):
            # By another name a weight is not found in every class: then it is another one.
            named[plain if name in (plain, PREFIX + plain) else name] = reader
    named.pop(POSITION_IDS, None)
    for second, first in _SECOND_NAMES.items():
        if second in named and first in named and same_bits(named[second](), named[first]()):
            del named[second]
    predicts = any(name.startswith(LM_HEAD) for name in named)
    return Side(tuple(config.languages), named, fields, config, predicts=predicts)


def _file(source: str | Path, name: str) -> Path | None:
    """A file of a model in a folder or on the Hub, None if it has none of that name.

    Raises:
        DataError: it cannot be read.
    """
    repository, where = hub_source(source)
    quietly = {"_raise_exceptions_for_missing_entries": False}
    try:
        path = cached_file(repository, name, **quietly, **where)
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: {name} cannot be read: {error!s:.200}") from error
    return None if path is None else Path(path)


def _tokenizers(source: str | Path, codes: Iterable[str]) -> dict[str, str]:
    """Hashes of the tokenizers that lie with a model in a folder or on the Hub, for languages with their own."""
    found = {}
    for code in codes:
        name = f"tokenizer.{code}.json"
        if (path := _file(source, name)) is not None:
            try:
                found[code] = _hash(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DataError(f"{source}: {name} cannot be read: {error!s:.200}") from error
    return found


def _hash(tokenizer: str) -> str:
    """Hash of a `tokenizer.json`, however its lines end."""
    return hashlib.sha256(tokenizer.replace("\r\n", "\n").encode()).hexdigest()


@contextmanager
def _pack_side(source: str | Path) -> Iterator[Side]:
    """A pack whose files are sound; its tensors are mapped, not loaded."""
    pack = read_pack(source)
    pack.check()
    code = pack.language
    readers: dict[str, Reader] = {}
    places = {
        PACK_WORDS: f"{OWN_WORDS}{code}.weight",
        PACK_BIAS: OWN_BIAS + code,
    }
    with ExitStack() as stack:
        adapter = stack.enter_context(safe_open(pack.folder / ADAPTER, framework="pt"))
        for name in adapter.keys():  # noqa: SIM118 - it is not a dictionary
            _, layer, rest = name.split(".", 2)
            readers[of_adapter(layer, code, rest)] = partial(adapter.get_tensor, name)
        own = []
        if pack.vocabulary is not None:
            embeddings = stack.enter_context(safe_open(pack.folder / EMBEDDINGS, framework="pt"))
            own = list(embeddings.keys())
            readers |= {places[name]: partial(embeddings.get_tensor, name) for name in own}
        yield Side(
            (code,),
            readers,
            pack=code,
            predicts=not own or PACK_BIAS in own,
            tokenizers={code: _hash(pack.tokenizer_json())} if own else {},
        )


def _only(side: Side, language: str, code: str, biases: bool) -> Side:
    """A side with one language only, which is called `code`."""
    readers = {}
    for name, reader in side.readers.items():
        found = LANGUAGE.search(name)
        if found and found.group(1) == language and (biases or not name.startswith(OWN_BIAS)):
            readers[name[: found.start(1)] + code + name[found.end(1) :]] = reader
    tokenizers = {code: side.tokenizers[language]} if language in side.tokenizers else {}
    return replace(
        side, languages=(code,), readers=readers, fields={"language": language}, tokenizers=tokenizers, shared=None
    )
