"""The model that pretraining continues: what fits it, a masked-LM head if it has none, and what did not change."""

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
HEAD_RATE = 1e-3  # peak learning rate of a head that is trained first, alone
_GAIN = 0.3  # of a new head's LayerNorm


@dataclass(frozen=True)
class Base:
    """A model to continue training.

    Attributes:
        source: folder or name on the Hub, or the name of an object in messages.
        given: the object, which is not changed; None: load the model.
        config: its configuration, with the requested dropout.
        objective: "mlm" or "clm".
        has_head: whether it has a head that predicts tokens.
    """

    source: str
    given: XmodPreTrainedModel | None
    config: XmodConfig
    objective: str
    has_head: bool

    @classmethod
    def of(cls, options: PretrainOptions, given: XmodPreTrainedModel | None) -> Base | None:
        """The model named in the options; None without one.

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
                f"{options.model} is an {name}: only language models and bare encoders can be pretrained further "
                f"({', '.join(_OBJECTIVES)}). Continue with the model that this one was fine-tuned from."
            )
        if config.is_decoder and name == "XmodModel":
            raise ConfigurationError(f"{options.model} is a bare decoder; new heads are for encoders only.")
        if options.objective not in (None, objective):
            raise ConfigurationError(
                f"--objective {options.objective} does not suit {options.model}: an {name} is trained with {objective}."
            )
        if objective == "clm":
            options.refuse(("whole_words", "mask_probability"), f"is about masking; {options.model} masks nothing.")
        for field, value in (options.overrides or {}).items():
            own = getattr(config, field, None)
            if field in _DROPOUT and given is None:
                setattr(config, field, value)
            elif value != own:
                raise ConfigurationError(
                    f"--overrides sets {field} to {value!r}; {options.model} has {own!r} and keeps its shape. Only "
                    f"{' and '.join(_DROPOUT)} may change, for a model loaded by this run."
                )
        XmodConfig(**{**config.to_dict(), "hidden_act": "gelu"})  # raises an error for an invalid dropout
        base = cls(options.model, given, config, objective, name != "XmodModel")
        base._check_head(options)
        return base

    def _check_head(self, options: PretrainOptions) -> None:
        if self.has_head:
            return
        if options.head_steps is None and options.trainable != "head":
            raise ConfigurationError(
                f"{self.source} has no masked-LM head. --head-steps 500 first trains a new one for 500 steps, with all "
                "else frozen; --trainable head trains only the head."
            )
        if not options.head_steps and "lm head" not in TRAINABLE[options.trainable]:
            raise ConfigurationError(
                f"--head-steps 0 with --trainable {options.trainable} would leave the new head of {self.source} "
                "untrained: set it to a positive number."
            )

    def by_code(self, found: Mapping[str, tuple[T, ...]], *, strict: bool = True) -> dict[str, tuple[T, ...]]:
        """Texts by the model's codes, instead of the names in files or options.

        Args:
            found: the texts by name.
            strict: whether a text that cannot be used here is an error; otherwise it is left out.

        Raises:
            LanguageError: the model lacks a language, or a name could mean several of its languages.
            ConfigurationError: a language has its own vocabulary.
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
                f"{self.source} has no {', '.join(missing)}. To add a language and train only its adapter, use "
                f"xmodular extend; to train it here with the others, first run xmodular upcycle --model {self.source} "
                f"--languages {every}. Or choose other texts with --languages."
            )
        own = [code for code in texts if code in self.config.vocabularies]
        if own and strict:
            has = "has its own vocabulary" if len(own) == 1 else "have their own vocabularies"
            raise ConfigurationError(
                f"{', '.join(own)} of {self.source} {has}, "
                "which cannot be mixed with the shared one: leave out the text with --languages."
            )
        return {code: each for code, each in texts.items() if code not in own}

    def lang_ids(self, codes: Iterable[str]) -> dict[str, int]:
        """The model's ids of some of its languages."""
        return {code: self.config.languages.index(code) for code in codes}

    def tokenizer(self, model: XmodPreTrainedModel, asked: str | None) -> PreTrainedTokenizerFast:
        """The model's own tokenizer, or the requested one if it has none.

        Raises:
            ConfigurationError: another tokenizer than the model's is requested.
            DataError: there is no tokenizer, or it has more pieces than the model.
        """
        if asked is None:
            return tokenizer_of(model, None)
        given = tokenizer_of(model, asked)
        try:
            own = tokenizer_of(model, None)
        except DataError:
            return given
        if fingerprint(own) != fingerprint(given):
            raise ConfigurationError(f"--tokenizer {asked} is not the tokenizer of {self.source}, which keeps its own.")
        return own

    def load(self) -> XmodPreTrainedModel:
        """The model, or a copy of the object, with the requested dropout."""
        if self.given is not None:
            return copy.deepcopy(self.given)
        return load_saved(self.source, **{name: getattr(self.config, name) for name in _DROPOUT})


def piece_shares(
    blocks: Sequence[LanguageBlocks], drawn: Mapping[str, float], pieces: int, special: Sequence[int]
) -> Tensor:
    """How often each piece is predicted, over all languages, with one added to every count.

    Args:
        blocks: blocks of the languages.
        drawn: each language's share of the tokens read.
        pieces: rows of the vocabulary.
        special: ids that are never predicted and are counted as absent.

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
    """A masked language model that takes over the modules of a bare encoder, without its pooler.

    At first the head predicts each piece about as often as in the text, whatever the states: its bias is the logarithm
    of the shares, and its LayerNorm scales down the part from the states. A bias starting at 0 would need thousands of
    steps to get there. The dense layer is random, the projection tied to the word embeddings.

    Args:
        encoder: the encoder.
        shares: *Shape: (V,)*, the frequency of each piece, all positive.
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
    """The parts that a run may change, by their names in a certificate."""
    trained = {
        language_of_weight(name) or parameter_group(name)
        for name, each in model.named_parameters()
        if each.requires_grad
    }
    return sorted(trained | ({"lm head"} if options.head_steps else set()))


def certify(run: Run, base: Base, may_move: Sequence[str]) -> None:
    """Compare a saved model with the one it was continued from; write the certificate, and print a summary.

    Args:
        run: the run.
        base: the model it was continued from.
        may_move: names of the parts that may differ.

    Raises:
        TrainingError: another part changed.
    """
    allow = [*may_move, *([] if base.has_head else ["lm head", "task head"])]  # a new head, and no pooler
    certificate = diff(base.source if base.given is None else base.given, run.output_dir, allow=allow)
    certificate.to_json(run.output_dir / "certificate.json")
    if certificate.moved:
        raise TrainingError(f"parts changed that should be frozen: {', '.join(sorted(certificate.moved))}.")
    for title, status in (("Changed", "changed"), ("New", "added"), ("Dropped", "removed")):
        names = [part.name for part in certificate.parts if part.status == status]
        if status == "removed":
            names = ["pooler" if name == "task head" else name for name in names]  # a bare encoder has no other
        if names:
            console.print(f"{title}: {', '.join(names)}")
    same = [part.name for part in certificate.parts if part.status == "identical"]
    console.print(f"Bit-identical to {base.source}: {', '.join(same) or 'nothing'} (certificate.json)")
    say_fields(certificate)


def say_fields(certificate: Certificate) -> None:
    """Print the fields of the configuration that differ; training changes none, but loading may."""
    if certificate.decisive:
        fields = ", ".join(each.field for each in certificate.decisive)
        console.print(f"Its configuration differs from that of {certificate.a} in {fields} (certificate.json).")
