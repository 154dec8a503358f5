"""Adding a language: its initialisation, its pack, and the certificate for everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast, TrainingArguments

from xmodular.comparison import diff
from xmodular.console import console
from xmodular.errors import ConfigurationError, DataError, TrainingError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.language_changes import check_new_code, donor_weights, make_neutral
from xmodular.options import NEUTRAL, ExtendOptions
from xmodular.saved_models import home_of
from xmodular.tasks import tokenizer_of
from xmodular.training.bases import say_fields
from xmodular.training.checkpoints import saving
from xmodular.training.runs import Run, Start, begin, save_run
from xmodular.vocabulary import fingerprint, is_with_tokenizer

_AUTO = "auto"  # the languages are to be found


@dataclass(frozen=True)
class Beginning:
    """The initialisation of a new language's adapter.

    Attributes:
        donors: languages, or their weights, as for `XmodPreTrainedModel.add_language`; None: random.
        neutral: whether it adds nothing at first.
        said: a description of it.
        automatic: whether donors are still to be found.
    """

    donors: dict[str, float] | list[str] | None
    neutral: bool
    said: str
    automatic: bool = False

    @classmethod
    def of(cls, options: ExtendOptions, model: XmodPreTrainedModel) -> Beginning:
        """The initialisation in the options.

        Raises:
            ConfigurationError: a weight is not a number, or only some languages have one; or one to start from has its
                own vocabulary, and the new language would have none.
            LanguageError: the model already has the new language, or lacks one to start from.
        """
        if not options.replace:
            check_new_code(model, options.language, way_out=" --replace gives it a new adapter.")
        names = options.init_from or ((NEUTRAL,) if options.parallel is not None else ())
        if not names:
            return cls(None, False, "initialised at random")
        if names == (_AUTO,):
            return cls._automatic(options)
        made = cls.from_names(names, model, options.language)
        if options.new_vocabulary is None and options.tokenizer is None:
            _check_shared(made.donors, model, options)
        return made

    @classmethod
    def _automatic(cls, options: ExtendOptions) -> Beginning:
        if options.parallel is not None:
            raise ConfigurationError(
                "--init-from auto measures the text under the model's adapters, so it goes with --text. With "
                "--parallel, name the languages, or leave --init-from out: the adapter adds nothing at first."
            )
        return cls(None, False, "", automatic=True)

    @classmethod
    def from_names(cls, names: Sequence[str], model: XmodPreTrainedModel, code: str, why: str = "") -> Beginning:
        """From languages of the model, with or without weights, or neutral.

        Args:
            names: the languages.
            model: the model.
            code: the language that gets the adapter; if it has one already, that may be among those to start from.
            why: how they were found.

        Raises:
            ConfigurationError: a weight is not a number, or only some languages have one.
            LanguageError: the model lacks one of them.
        """
        why = f", {why}" if why else ""
        if tuple(names) == (NEUTRAL,):
            return cls(None, True, f"initialised with an up-projection of zeros{why}")
        donors = _donors(names)
        old = f" ({code}: its old adapter)" if donor_weights(donors, model.languages).get(code) else ""
        return cls(donors, False, f"initialised from {', '.join(names)}{old}{why}")

    def add(self, model: XmodPreTrainedModel, code: str) -> None:
        """Add the language to a model, or give it a new adapter."""
        console.print(f"The new adapter of {code} is {self.said}.")
        if code in model.config.vocabularies:
            console.print(f"{code} loses its own vocabulary with its old adapter.")
        model.add_language(code, self.donors, overwrite=code in model.languages)
        if self.neutral:
            make_neutral(model, code)


def shared_tokenizer(model: XmodPreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer that was saved with the model.

    Raises:
        DataError: there is no tokenizer, or it has more pieces than the model has embeddings.
    """
    where = home_of(model)
    if not where or not is_with_tokenizer(where):
        raise DataError(
            f"There is no tokenizer with the model{f' in {where}' if where else ', which is not from a folder'}: save "
            "its tokenizer next to its weights. (--tokenizer is for a new language's own vocabulary.)"
        )
    return tokenizer_of(model, None)


def begun(options: ExtendOptions, arguments: TrainingArguments, data: Mapping[str, Any]) -> Start:
    """The run's folder is claimed for a run that reads these data, and people know where it is."""
    start = begin(options, arguments, data)
    code, model = options.language, options.model
    doing = f"Replacing the adapter of {code} in {model}" if options.replace else f"Adding {code} to {model}"
    console.print(f"{doing}; output goes to {options.output_dir}")
    if start.goes_on:
        console.print(start.said)
    return start


def save(run: Run, options: ExtendOptions, before: XmodPreTrainedModel | None, source: str, metric: str) -> None:
    """Save a model with its new language, the language's pack, and the certificate that nothing else changed.

    Args:
        run: the run, with ``steps`` and ``initialisation`` among its metrics.
        options: of the run.
        before: the original model; None: it is at `options.model`.
        source: what the adapter was trained on, for the pack's note.
        metric: the measure that the pack gets, of the best other adapter, the old one and the new one.

    Raises:
        TrainingError: a weight changed that should be frozen.
    """
    code, pack = options.language, options.output_dir / "pack"
    note = f"Trained by xmodular extend on {source}, {run.metrics['steps']} steps; {run.metrics['initialisation']}."
    if run.model.config.task_language is not None:
        note += f" It was fitted to a fine-tuned model ({type(run.model).__name__}), and serves others less well."
    scores = [
        {"metric": metric, "adapter": adapter, "value": values[metric]}
        | ({"unknown tokens": f"{values['unknown']:.2%}"} if "unknown" in values else {})
        for adapter, values in before_and_after(code, run.metrics).items()
    ]

    def more() -> None:
        tokens = fingerprint(run.tokenizer)
        run.model.save_language(
            code, pack, licence=options.licence, note=note, scores=scores, tokenizer_hash=tokens, overwrite=True
        )
        certificate = diff(before if before is not None else options.model, options.output_dir, allow=[code])
        certificate.to_json(options.output_dir / "certificate.json")
        console.print(f"Saved the model in {options.output_dir}, the language pack in {pack}")
        if not certificate.moved:
            console.print(f"All weights except those of {code} are bit-identical to before (certificate.json).")
        elif options.trainable == "all":
            console.print(
                f"Weights other than those of {code} changed, as expected with --trainable all (certificate.json)."
            )
        else:
            raise TrainingError(f"weights changed that should be frozen: {', '.join(sorted(certificate.moved))}.")
        say_fields(certificate)

    with saving("The model", options.output_dir):
        save_run(run, options, more=more)


def stages(code: str, metrics: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The measures to compare: under the best of the other adapters, the one that is replaced, and the new one."""
    best, replaced = metrics["best_existing"], metrics.get("replaced")
    return {
        f"{best} (the best of the others)": metrics["existing"][best],
        **({} if replaced is None else {f"{code} (replaced)": replaced}),
        f"{code}, before training": metrics["start"],
        f"{code}, after": metrics["after"],
    }


def before_and_after(code: str, metrics: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The same by adapters, without the new one before training."""
    best, replaced = metrics["best_existing"], metrics.get("replaced")
    old = {} if replaced is None else {f"{code} (replaced)": replaced}
    return {best: metrics["existing"][best], **old, code: metrics["after"]}


def _check_shared(donors: Any, model: XmodPreTrainedModel, options: ExtendOptions) -> None:
    """Raises ConfigurationError if a donor would hand down its own vocabulary: the data are in shared pieces."""
    shares = {} if donors is None else donor_weights(donors, model.languages)
    if own := [code for code, share in shares.items() if share and code in model.config.vocabularies]:
        new = " or give the new one its own (--new-vocabulary)" if options.text is not None else ""
        raise ConfigurationError(
            f"--init-from names {', '.join(own)}, whose adapter reads its own vocabulary, but the training data are "
            f"read in the shared one: start from another language{new}."
        )


def _donors(init_from: Sequence[str]) -> dict[str, float] | list[str]:
    """The languages, or their weights.

    Raises:
        ConfigurationError: a weight is not a number, or only some languages have one.
    """
    if alone := {NEUTRAL, _AUTO}.intersection(init_from):
        name = alone.pop()
        raise ConfigurationError(f"init_from is {','.join(init_from)!r}: {name} cannot be combined with languages.")
    named = [each.partition("=") for each in init_from]
    if not any(sign for _, sign, _ in named):
        return [name.strip() for name, _, _ in named]
    try:
        weights = {name.strip(): float(weight) for name, _, weight in named}
        if len(weights) < len(named):
            raise ValueError("a language twice")
        return weights
    except ValueError:
        raise ConfigurationError(
            f"init_from is {','.join(init_from)!r}: give names (de,nl), or each with a weight (de=2,nl=1), none twice."
        ) from None
