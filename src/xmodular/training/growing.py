"""A language that is added: what it starts from, the pack that it leaves as, and the certificate of all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmodular.certificate import diff
from xmodular.console import console
from xmodular.errors import ConfigurationError, TrainingError
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.language_changes import check_new_code, donor_weights, make_neutral
from xmodular.options import ExtendOptions
from xmodular.training.bases import say_fields
from xmodular.training.checkpoints import saving
from xmodular.training.runs import Run, save_run
from xmodular.vocabulary import fingerprint

_NEUTRAL = "neutral"  # in place of languages to start from: adds nothing at first


@dataclass(frozen=True)
class Beginning:
    """What a new language's adapter starts from.

    Attributes:
        donors: languages, or their weights, as `XmodPreTrainedModel.add_language` takes them; None: drawn at random.
        neutral: whether it adds nothing at first.
        said: the same for people.
    """

    donors: dict[str, float] | list[str] | None
    neutral: bool
    said: str

    @classmethod
    def of(cls, options: ExtendOptions, model: XmodPreTrainedModel) -> Beginning:
        """As the options say.

        Raises:
            ConfigurationError: a weight is no number, or only some languages have one.
            LanguageError: the model has the new language, or lacks one to start from.
        """
        check_new_code(model, options.language)
        names = options.init_from or ((_NEUTRAL,) if options.parallel is not None else ())
        if names == (_NEUTRAL,):
            return cls(None, True, "started with a second matrix of zeros")
        if not names:
            return cls(None, False, "started at random")
        donors = _donors(names)
        donor_weights(donors, model.languages)
        return cls(donors, False, f"started from {', '.join(names)}")

    def add(self, model: XmodPreTrainedModel, code: str) -> None:
        """Add the language to a model."""
        model.add_language(code, self.donors)
        if self.neutral:
            make_neutral(model, code)


def save(
    run: Run,
    options: ExtendOptions,
    before: XmodPreTrainedModel | None,
    note: str,
    scores: Sequence[Mapping[str, Any]],
) -> None:
    """Save a model with its new language, the language's pack, and the certificate that nothing else moved.

    Args:
        run: the run.
        options: of the run.
        before: the model before; None: it is at `options.model`.
        note: how the adapter came about, for the pack.
        scores: what was measured, for the pack.

    Raises:
        TrainingError: a weight moved that should not have.
    """
    code, pack = options.language, options.output_dir / "pack"

    def more() -> None:
        tokens = fingerprint(run.tokenizer)
        run.model.save_language(
            code, pack, licence=options.licence, note=note, scores=list(scores), tokenizer_hash=tokens, overwrite=True
        )
        certificate = diff(before if before is not None else options.model, options.output_dir, allow=[code])
        certificate.to_json(options.output_dir / "certificate.json")
        console.print(f"Saved the model in {options.output_dir}, the language pack in {pack}")
        if not certificate.moved:
            console.print(f"All weights but those of {code} are bit-identical to before (certificate.json).")
        elif options.trainable == "all":
            console.print(f"Other weights than those of {code} moved, as --trainable all has it (certificate.json).")
        else:
            raise TrainingError(f"weights moved that should not have: {', '.join(sorted(certificate.moved))}.")
        say_fields(certificate)

    with saving("The model", options.output_dir):
        save_run(run, options, more=more)


def _donors(init_from: Sequence[str]) -> dict[str, float] | list[str]:
    """The languages, or their weights.

    Raises:
        ConfigurationError: a weight is no number, or only some languages have one.
    """
    if _NEUTRAL in init_from:
        raise ConfigurationError(f"init_from is {','.join(init_from)!r}: neutral adds nothing, and stands alone.")
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
            f"init_from is {','.join(init_from)!r}: give names (de,nl), or a weight to each (de=2,nl=1), none twice."
        ) from None
