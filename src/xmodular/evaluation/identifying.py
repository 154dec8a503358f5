"""Rows that are read by the adapters of the languages they are identified as, and how often these are the right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xmodular.console import console
from xmodular.errors import ConfigurationError
from xmodular.evaluation.conditions import Job
from xmodular.evaluation.scoring import Scored
from xmodular.evaluation.subjects import Subject
from xmodular.identification import chosen_identifier
from xmodular.options import EvaluateOptions
from xmodular.tasks.readers import default_of

_WORST = 3  # languages that are named


def check_identifying(options: EvaluateOptions, subjects: Sequence[Subject], *, inside: bool) -> None:
    """Check before any work that languages can be identified, where that is asked for.

    Args:
        options: of the verb.
        subjects: the models.
        inside: whether languages may change inside a text.

    Raises:
        ConfigurationError, LanguageError, DataError: they cannot.
    """
    if "identified" not in options.adapter:
        return
    for subject in subjects:
        if subject.source is None and default_of(subject.config) is None:
            raise ConfigurationError(
                f"{subject.run} does not record its training language, whose adapter reads rows that cannot be "
                "identified: give it with --source."
            )
        found = chosen_identifier(options.identify, subject.config.languages, options.identify_languages)
        if not inside and hasattr(found, "spans"):
            raise ConfigurationError("One adapter reads each text that becomes a vector: use --identify without spans.")
        if found is not None and found.unknown:
            console.print(f"{subject.run}: cannot be identified: {', '.join(found.unknown)}")


def identified(subjects: Sequence[Subject], scored: Sequence[Mapping[Job, Scored]]) -> list[dict[str, Any]]:
    """How the rows of each language were identified, by run; seeds of a run read alike. Shares are rounded."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for subject, each in zip(subjects, scored, strict=True):
        for job, one in each.items():
            code = job.reading.language
            if one.told and code in subject.config.languages and (subject.run, code) not in found:
                counts = Counter(reading.language for reading in one.told)
                unsure, right = counts.pop("", 0), counts.pop(code, 0)
                shares = {"right": right, "unsure": unsure, "other": counts.total()}
                found[subject.run, code] = {
                    **{"run": subject.run, "language": code, "rows": len(one.told)},
                    **{name: round(count / len(one.told), 4) for name, count in shares.items()},
                    "mostly": ", ".join(name for name, _ in counts.most_common(_WORST)),
                }
    return list(found.values())


def say_identified(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence for each run: how many rows are read by the right adapter, and in which languages the fewest."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for each in found:
        runs.setdefault(each["run"], []).append(each)
    said = []
    for run, parts in runs.items():
        rows = sum(each["rows"] for each in parts)
        right, unsure = (sum(each["rows"] * each[name] for each in parts) / rows for name in ("right", "unsure"))
        worst = [each for each in sorted(parts, key=lambda each: each["right"]) if each["right"] < right][:_WORST]
        named = ", ".join(f"{each['language']} {100 * each['right']:.1f}" for each in worst)
        said.append(
            f"{run}: the language of {100 * right:.1f} % of the rows is identified rightly, {100 * unsure:.1f} % are "
            f"unsure{f'; fewest right: {named} %' if named else ''}."
        )
    return said
