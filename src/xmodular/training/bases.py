"""The model that pretraining goes on with: what fits it, a masked-LM head where it has none, and what did not move."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xmodular.comparison import Certificate, diff
from xmodular.configuration import XmodConfig, read_config
from xmodular.console import console
from xmodular.errors import AmbiguousLanguageError, ConfigurationError, DataError, LanguageError, TrainingError
from xmodular.languages import resolve
from xmodular.modeling import XmodForMaskedLM, XmodModel, XmodPreTrainedModel
from xmodular.modeling.lm import XmodLMHead
from xmodular.modeling.trainable import TRAINABLE, language_of_weight, parameter_group
from xmodular.options import PretrainOptions
from xmodular.tasks import load_saved, tokenizer_of
from xmodular.text import LanguageBlocks
from xmodular.training.runs import Run
from xmodular.vocabulary import fingerprint

T = TypeVar("T")

_OBJECTIVES = {"XmodForMaskedLM": "mlm", "XmodForCausalLM": "clm", "XmodModel": "mlm"}
_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # fields that may change: no weight knows of them
HEAD_RATE = 1e-3  # peak learning rate of a head that trains alone, before the rest
_GAIN = 0.3  # of a new head's LayerNorm


@dataclass(frozen=True)
class Base:
    """A model to go on with.

    Attributes:
        source: folder or name on the Hub, or what an object is called.
        given: the object, which stays as it is; None: it is to be loaded.
        config: its configuration, with the dropout that is asked for.
        objective: "mlm" or "clm".
        has_head: whether it predicts tokens already.
    """

    source: str
    given: XmodPreTrainedModel | None
    config: XmodConfig
    objective: str
    has_head: bool

    @classmethod
    def of(cls, options: PretrainOptions, given: XmodPreTrainedModel | None) -> Base | None:
        """The model that the options name; None if they name none.

        Raises:
            ConfigurationError: there is no such model, it is fine-tuned for a task, or options contradict it.
        """
        if options.model is None:
            return None
        if given is None:
            config = read_config(options.model)
            name = (config.architectures or ["model without a class"])[0]
        else:
            config, name = copy.deepcopy(given.config), type(given).__name__
        objective = _OBJECTIVES.get(name)
        if objective is None:
            raise ConfigurationError(
                f"{options.model} is a {name}: pretraining goes on with language models and bare encoders "
                f"({', '.join(_OBJECTIVES)}). Go on with the model that this one was fine-tuned from."
            )
        if config.is_decoder and name == "XmodModel":
            raise ConfigurationError(f"{options.model} is a bare decoder; a new head is one for encoders.")
        if options.objective not in (None, objective):
            raise ConfigurationError(
                f"--objective {options.objective} does not go with {options.model}: a {name} is trained by {objective}."
            )
        if objective == "clm" and options.whole_words:
            raise ConfigurationError("--whole-words chooses what to mask; a causal language model masks nothing.")
        for field, value in (options.overrides or {}).items():
            own = getattr(config, field, None)
            if field in _DROPOUT and given is None:
                setattr(config, field, value)
            elif value != own:
                raise ConfigurationError(
                    f"--overrides sets {field} to {value!r}; {options.model} has {own!r}, and keeps its shape. Only "
                    f"{' and '.join(_DROPOUT)} may change, of a model that is loaded here."
                )
        XmodConfig(**{**config.to_dict(), "hidden_act": "gelu"})  # refuses a dropout that is none
        base = cls(options.model, given, config, objective, name != "XmodModel")
        base._check_head(options)
        return base

    def _check_head(self, options: PretrainOptions) -> None:
        if self.has_head:
            return
        if options.head_steps is None and options.trainable != "head":
            raise ConfigurationError(
                f"{self.source} has no masked-LM head. --head-steps 500 trains a new one for so many steps first, all "
                "else frozen; --trainable head trains nothing else."
            )
        if not options.head_steps and "lm head" not in TRAINABLE[options.trainable]:
            raise ConfigurationError(
                f"--head-steps 0 with --trainable {options.trainable} would leave the new head of {self.source} "
                "untrained: give it some steps."
            )

    def by_code(self, found: Mapping[str, tuple[T, ...]], *, strict: bool = True) -> dict[str, tuple[T, ...]]:
        """Texts by the model's codes, instead of the names that files or options have.

        Args:
            found: texts by name.
            strict: whether a text that cannot be read here is an error; else it is left out.

        Raises:
            LanguageError: the model lacks a language, or a name could mean several of its languages.
            ConfigurationError: a language reads a vocabulary of its own.
        """
        texts: dict[str, tuple[T, ...]] = {}
        missing = []
        for name, sources in found.items():
            try:
                code = resolve(name, self.config.languages)
                texts[code] = texts.get(code, ()) + sources
            except AmbiguousLanguageError:
                raise
            except LanguageError:
                missing.append(name)
        if missing and strict:
            every = ",".join([*self.config.languages, *missing])
            raise LanguageError(
                f"{self.source} has no {', '.join(missing)}. To add a language and train its adapter alone, use "
                f"xmodular extend; to train it here with the others, first xmodular upcycle --model {self.source} "
                f"--languages {every}. --languages chooses among the texts."
            )
        own = [code for code in texts if code in self.config.vocabularies]
        if own and strict:
            raise ConfigurationError(
                f"{', '.join(own)} of {self.source} read a vocabulary of their own, which cannot be mixed with the "
                "others' here: leave their text out with --languages."
            )
        return {code: each for code, each in texts.items() if code not in own}

    def lang_ids(self, codes: Iterable[str]) -> dict[str, int]:
        """The model's ids of some of its languages."""
        return {code: self.config.languages.index(code) for code in codes}

    def tokenizer(self, model: XmodPreTrainedModel, asked: str | None) -> PreTrainedTokenizerFast:
        """The tokenizer that lies with the model, or the one asked for where none does.

        Raises:
            ConfigurationError: another one than the model's is asked for.
            DataError: there is none, or it has more pieces than the model.
        """
        if asked is None:
            return tokenizer_of(model, None)
        given = tokenizer_of(model, asked)
        try:
            own = tokenizer_of(model, None)
        except DataError:
            return given
        if fingerprint(own) != fingerprint(given):
            raise ConfigurationError(
                f"--tokenizer {asked} is not the tokenizer of {self.source}, whose pieces it keeps."
            )
        return own

    def load(self) -> XmodPreTrainedModel:
        """The model, or a copy of the object, as it is but for the dropout that is asked for."""
        if self.given is not None:
            return copy.deepcopy(self.given)
        return load_saved(self.source, **{name: getattr(self.config, name) for name in _DROPOUT})


def piece_shares(
    blocks: Sequence[LanguageBlocks], drawn: Mapping[str, float], pieces: int, special: Sequence[int]
) -> Tensor:
    """How often each piece is there to be predicted, all languages together; one is added to every count.

    Args:
        blocks: of the languages.
        drawn: each language's share of what is read.
        pieces: rows of the vocabulary.
        special: ids that are never predicted, and count as if they were not there.

    Returns:
        *Shape: (pieces,)*, float64; the sum is 1.
    """
    total = np.zeros(pieces)
    for each in blocks:
        counts = np.ones(pieces)
        for start in range(0, len(each.blocks), 4096):
            counts += np.bincount(each.blocks[start : start + 4096].ravel(), minlength=pieces)
        counts[list(special)] = 1
        total += drawn[each.language] * counts / counts.sum()
    return torch.from_numpy(total)


def with_new_head(encoder: XmodModel, shares: Tensor) -> XmodForMaskedLM:
    """A masked language model of a bare encoder, whose modules it takes; a pooler is left behind.

    The head predicts each piece about as often as the text has it, whatever the states say: its bias is the logarithm
    of the shares, and its LayerNorm scales what comes from the states down. A bias from 0 would take thousands of steps
    to get there. The dense layer is drawn, the projection tied to the word embeddings.

    Args:
        encoder: the encoder.
        shares: *Shape: (V,)*, how often each piece is read, all positive.
    """
    config = encoder.config
    config.tie_word_embeddings = True
    with torch.device("meta"):
        model = XmodForMaskedLM(config)
    words = encoder.embeddings.word_embeddings.weight
    head = XmodLMHead(config).to(words.device, words.dtype)
    encoder._init_weights(head.dense)
    with torch.no_grad():
        head.layer_norm.weight.fill_(_GAIN)
        head.bias.copy_(shares.log())
    encoder.pooler = None
    model.roberta, model.lm_head = encoder, head
    model.tie_weights()
    return model.train(encoder.training)


def moving_parts(model: XmodPreTrainedModel, options: PretrainOptions) -> list[str]:
    """What a run may move, by the names of a certificate's parts."""
    trained = {
        language_of_weight(name) or parameter_group(name)
        for name, each in model.named_parameters()
        if each.requires_grad
    }
    return sorted(trained | ({"lm head"} if options.head_steps else set()))


def certify(run: Run, base: Base, may_move: Sequence[str]) -> None:
    """Compare a model that is saved with the one that it went on with; write the certificate, and say what it says.

    Args:
        run: the run.
        base: what it went on with.
        may_move: names of the parts that may differ.

    Raises:
        TrainingError: another part moved.
    """
    allow = [*may_move, *([] if base.has_head else ["lm head", "task head"])]  # a new head, and no pooler
    certificate = diff(base.source if base.given is None else base.given, run.output_dir, allow=allow)
    certificate.to_json(run.output_dir / "certificate.json")
    if certificate.moved:
        raise TrainingError(f"something moved that should not have: {', '.join(sorted(certificate.moved))}.")
    for title, status in (("Moved", "changed"), ("New", "added"), ("Left behind", "removed")):
        names = [part.name for part in certificate.parts if part.status == status]
        if status == "removed":
            names = ["pooler" if name == "task head" else name for name in names]  # a bare encoder has no other
        if names:
            console.print(f"{title}: {', '.join(names)}")
    same = [part.name for part in certificate.parts if part.status == "identical"]
    console.print(f"Bit-identical to {base.source}: {', '.join(same) or 'nothing'} (certificate.json)")
    say_fields(certificate)


def say_fields(certificate: Certificate) -> None:
    """Say which fields differ, though no weight does that should not; training moves none, but loading may."""
    if certificate.decisive:
        fields = ", ".join(each.field for each in certificate.decisive)
        console.print(f"Its configuration differs from that of {certificate.a} in {fields} (certificate.json).")
