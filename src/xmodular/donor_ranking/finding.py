"""Rank a model's languages, and averages of them, for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedTokenizerFast

from xmodular.console import progress
from xmodular.donor_ranking.evidence import Evidence, gathered_evidence
from xmodular.donor_ranking.ranking import Candidate, Donors
from xmodular.donor_ranking.reasons import measured, unmeasured
from xmodular.donor_ranking.text_sample import sample_of
from xmodular.donor_ranking.trials import Trials, bits_per_character
from xmodular.errors import ConfigurationError
from xmodular.languages import resolve_all
from xmodular.modeling import XmodForMaskedLM, XmodPreTrainedModel
from xmodular.modeling.adapters_on_disk import on_disk
from xmodular.options import DonorsOptions
from xmodular.outputs import table_in
from xmodular.saved_models import given_model, home_of, longest, to_run, tokenizer_of
from xmodular.signatures import verb
from xmodular.text import TextFiles, files_of

_AGAIN = 8  # languages, at least, that are measured on the whole sample
_DECIMALS = 2  # of bits per character: a sample tells no more, and kinship decides between equals
# A script that the model never saw: its pieces are bytes, and no language predicts them better than at random (bits per
# byte), so that the measure only tells how sure each language is of its mistakes.
_SPELLED, _RAW = 0.9, 7.5
_SOFTNESS = 0.1  # bits per character: a language that is this much worse has 1/e of the weight in a mixture

_OF_MEASURING = ("most", "mask_probability", "batch_size", "seed")
_LEAST_SHARE = 0.01  # of a language in a mixture


@verb(DonorsOptions, "model", "text", "language", objects={"model": given_model}, holds="output")
def donors(options: DonorsOptions, given: XmodPreTrainedModel | None) -> Donors:
    """Rank a model's languages, and averages of them, as the start for a new language or the reader of a dialect.

    A model with a masked-LM head is measured: bits per character of a sample of the text under each adapter, always
    with the same masks, first on a quarter of the sample, then the best languages on all of it; then the average of
    the best two, three and so on, and mixtures of them that give better languages more weight. In a script that
    the model never saw, the best start is an adapter that adds nothing. Any other model is not measured: its languages
    are ranked by kinship, the language that the lines are taken for, script and pieces.

    Args:
        model: a folder, a name on the Hub, or an object, which is not changed.
        text: a file, or a folder with the language's files.
        language: the text's language, if known.

    Returns:
        The ranking with all evidence; its `init_from` is the best start, its `reader` the best single language.

    Raises:
        ConfigurationError: the output cannot be written, or no language of the model reads the shared vocabulary.
        DataError: the text cannot be read, or there is none; or there is no tokenizer with the model.
        LanguageError: the model lacks a candidate, or the folder has no text in the language.
    """
    _check_output(options)
    text = TextFiles(
        options.language or "the text", files_of(options.text, options.language), text_field=options.text_field
    )
    model = to_run(given if given is not None else options.model)
    found = ranked(options, model, tokenizer_of(model, None), text)
    if options.output is not None:
        found.to_json(options.output)
    return found


def ranked(
    options: DonorsOptions, model: XmodPreTrainedModel, tokenizer: PreTrainedTokenizerFast, text: TextFiles
) -> Donors:
    """Rank the languages of a model for a text.

    Args:
        options: what is compared, and how.
        model: the model; it is as before afterwards.
        tokenizer: of its shared vocabulary.
        text: the text.

    Raises:
        As `donors`.
    """
    if isinstance(model, XmodForMaskedLM) and on_disk(model):
        raise ConfigurationError(
            "This model reads its languages from disk as they are needed (resident_languages), so no average of them "
            "can be measured: give its folder."
        )
    if not isinstance(model, XmodForMaskedLM):
        options.refuse(
            _OF_MEASURING, f"is for measuring, which takes a masked-LM head; this is an {type(model).__name__}."
        )
    codes = _candidates(options, model)
    sample = sample_of(text, tokenizer, size=options.sample_bytes, block_size=longest(model, options.block_size))
    evidence = gathered_evidence(
        codes,
        sample,
        tokenizer,
        language=options.language,
        reference=options.reference,
        size=options.sample_bytes,
        text_field=options.text_field,
    )
    name = home_of(model) or "model object"
    if not isinstance(model, XmodForMaskedLM):
        return _by_evidence(name, options.language, evidence, type(model).__name__)
    with progress("Measuring adapters, blocks", None) as advance:
        trials = Trials(
            model,
            sample.text,
            tokenizer,
            probability=options.mask_probability,
            batch_size=options.batch_size,
            seed=options.seed,
            advance=advance,
        )
        singles = _singles(trials, evidence)
        averages = _averages(trials, singles, options.most)
    # The sort keeps the order of equals: single languages before averages.
    both = sorted([*singles, *averages], key=lambda each: (-each.characters, round(each.bits, _DECIMALS)))
    if sample.spelled > _SPELLED and both[0].bits > _RAW * sample.bytes_per_character:
        both.insert(0, Candidate({}, None, 0, None))
    why = (*measured(both, singles, sample.text, options.language), *_unknown(options.language, evidence))
    return Donors(name, options.language, True, tuple(both), singles[0].init_from, why)


def _check_output(options: DonorsOptions) -> None:
    """Raises ConfigurationError if the ranking cannot be written there."""
    output = options.output
    if output is None or not output.exists():
        return
    if output.is_dir():
        raise ConfigurationError(f"{output} is a folder; --output must be a JSON file.")
    if not options.overwrite:
        raise ConfigurationError(f"{output} already exists; --overwrite replaces it.")
    if "candidates" not in table_in(output):
        raise ConfigurationError(f"{output} is not replaced: it is not a ranking written by xmodular.")


def _candidates(options: DonorsOptions, model: XmodPreTrainedModel) -> list[str]:
    """The languages to compare: those that read the shared vocabulary."""
    own = model.config.vocabularies
    codes = resolve_all(options.candidates, model.languages) if options.candidates else list(model.languages)
    if options.candidates and (wrong := [code for code in codes if code in own]):
        raise ConfigurationError(
            f"{', '.join(wrong)} cannot be compared with others: own vocabularies read the text in other pieces."
        )
    codes = [code for code in codes if code not in own]
    if not codes:
        raise ConfigurationError(
            f"No language of {home_of(model) or 'the model'} uses its shared vocabulary: there is nothing to compare."
        )
    return codes


def _singles(trials: Trials, evidence: Mapping[str, Evidence]) -> list[Candidate]:
    """The single languages, best first: those measured on the whole sample before the others."""
    few = trials.sums(list(evidence), trials.first)

    def order(sums: Mapping[str, np.ndarray]) -> list[str]:
        return sorted(sums, key=lambda code: (round(bits_per_character(sums[code]), _DECIMALS), evidence[code].order))

    again = max(_AGAIN, len(few) // 4)
    best, others = order(few)[:again], order(few)[again:]
    more = trials.sums(best, trials.rest)
    sums = {code: few[code] + more[code] for code in best}
    ranked_codes = [*order(sums), *others]
    return [_candidate({code: 1.0}, (few | sums)[code], evidence[code]) for code in ranked_codes]


def _averages(trials: Trials, singles: Sequence[Candidate], most: int) -> list[Candidate]:
    """Averages of the best two, three ... languages, equal and weighted."""
    whole = np.concatenate([trials.first, trials.rest])
    most = min(most, sum(each.characters == singles[0].characters for each in singles))
    found: dict[str, Candidate] = {}
    for count in range(2, most + 1):
        best = singles[:count]
        bits = np.array([each.bits for each in best])
        weights = np.exp((bits[0] - bits) / _SOFTNESS)
        for shares in (np.full(count, 1 / count), _rounded(weights / weights.sum())):
            mixed = {each.init_from: float(share) for each, share in zip(best, shares, strict=True)}
            if min(mixed.values()) >= _LEAST_SHARE:  # else a smaller mixture, or a language alone, is the same
                made = _candidate(mixed, trials.sums_of_average(mixed, whole), None)
                found.setdefault(made.init_from, made)
    return list(found.values())


def _rounded(shares: np.ndarray) -> np.ndarray:
    """Shares with three decimals, as people read and write them; the first takes what is left of 1."""
    rounded = shares.round(3)
    rounded[0] += 1 - rounded.sum()
    return rounded.round(3)


def _candidate(shares: Mapping[str, float], sums: np.ndarray, evidence: Evidence | None) -> Candidate:
    return Candidate(shares, bits_per_character(sums), int(sums[5]), evidence)


def _unknown(language: str | None, evidence: Mapping[str, Evidence]) -> tuple[str, ...]:
    if language is None or any(each.closeness for each in evidence.values()):
        return ()
    return (f"No language is known by the name {language}, so nothing is known of its relatives.",)


def _by_evidence(name: str, language: str | None, evidence: Mapping[str, Evidence], kind: str) -> Donors:
    """The ranking of a model that cannot measure a text, as its class is `kind`."""
    order = sorted(evidence, key=lambda code: evidence[code].order)
    candidates = tuple(Candidate({code: 1.0}, None, 0, evidence[code]) for code in order)
    why = (*unmeasured(candidates[0], language, kind), *_unknown(language, evidence))
    return Donors(name, language, False, candidates, order[0], why)
