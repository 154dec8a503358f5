"""Gates: conditions on results, such as a least accuracy per language, by which CI decides whether a model passes.

The form of their file is in `docs/guides/gates.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmodular.console import console
from xmodular.errors import ConfigurationError, LanguageError, did_you_mean
from xmodular.language_conditions import CONDITIONS, stored_name
from xmodular.languages import resolve
from xmodular.options import read_options_file
from xmodular.results.results import Results
from xmodular.results.scores import Scores
from xmodular.results.values import CORRELATIONS, LOWER_IS_BETTER, GateOutcome, Score, mean

_DEFAULT, _MEAN = "default", "mean"
_LIMITS = ("floors", "ceilings", "largest_drop")
_TEXTS = ("task", "metric", "adapter", "run", "against")
_KEYS = (*_TEXTS, *_LIMITS, "strict")


@dataclass(frozen=True)
class Gate:
    """Limits for one metric of one condition.

    Attributes:
        place: file and number, for messages.
        floors: least values by language, also for "default" (every other language) and "mean"; None: no limit.
        ceilings: the same for metrics of which less is better: most.
        largest_drop: how much worse a value may be than that of `baseline`, in the same form.
        metric: default: the main one.
        adapter: the condition, as stored.
        task, run: only for results of this task and of this run; None: of all.
        baseline: earlier results; None: the first model of the same evaluation.
        strict: whether a drop counts that may be chance.
    """

    place: str
    floors: Mapping[str, float | None] = field(default_factory=dict)
    ceilings: Mapping[str, float | None] = field(default_factory=dict)
    largest_drop: Mapping[str, float | None] = field(default_factory=dict)
    metric: str | None = None
    adapter: str = "right"
    task: str | None = None
    run: str | None = None
    baseline: Results | None = None
    strict: bool = False

    @property
    def limits(self) -> dict[str, Mapping[str, float | None]]:
        """The limits by kind."""
        return {name: limits for name in _LIMITS if (limits := getattr(self, name))}


def read_gates(source: Path | Mapping[str, Any]) -> list[Gate]:
    """The gates in a file, or in a table of the same form; earlier results that they name are read.

    Raises:
        ConfigurationError: the file cannot be read, or has another form.
        DataError: a file that it names does not contain results.
    """
    place, folder, content = "gates", Path(), source
    if isinstance(source, Path):
        place, folder, content = str(source), source.parent, read_options_file(source)
    assert isinstance(content, Mapping)
    listed = content.get("gates", [content])
    if "gates" in content and len(content) > 1:
        raise ConfigurationError(
            f"{place} has {', '.join(sorted(set(content) - {'gates'}))} beside gates: put it inside."
        )
    if not isinstance(listed, list) or not listed or not all(isinstance(each, Mapping) for each in listed):
        raise ConfigurationError(f"{place}: gates must be a list of tables, each with {', '.join(_LIMITS)}.")
    return [_gate(each, f"{place}, gate {number}", folder) for number, each in enumerate(listed, 1)]


def _gate(content: Mapping[str, Any], place: str, folder: Path) -> Gate:
    given = {str(name).replace("-", "_"): value for name, value in content.items()}
    for name, value in given.items():
        if name not in _KEYS:
            hint = did_you_mean(name, _KEYS, f"it may have {', '.join(_KEYS)}.")
            raise ConfigurationError(f"{place}: there is no {name!r}; {hint}")
        if name in _TEXTS and not isinstance(value, str):
            raise ConfigurationError(f"{place}: {name} must be a text; got {value!r:.60}.")
    if not isinstance(given.get("strict", False), bool):
        raise ConfigurationError(f"{place}: strict must be true or false; got {given['strict']!r:.60}.")
    limits = {name: _limits(given[name], f"{place}: {name}") for name in _LIMITS if name in given}
    if not limits:
        raise ConfigurationError(f"{place} sets no limit: give {', '.join(_LIMITS)}.")
    against = given.pop("against", None)
    if "largest_drop" not in limits and (against is not None or "strict" in given):
        raise ConfigurationError(f"{place}: against and strict belong to largest_drop, which is missing.")
    adapter = stored_name(given.pop("adapter", "right"))
    if adapter not in CONDITIONS:
        raise ConfigurationError(f"{place}: adapter is {adapter!r}; it must be own, {', '.join([*CONDITIONS][1:])}.")
    baseline = None
    if against is not None:
        path = folder / against
        baseline = Results.from_json(path / "results.json" if path.is_dir() else path)
    return Gate(place, **{**given, **limits}, adapter=adapter, baseline=baseline)


def _limits(content: Any, place: str) -> dict[str, float | None]:
    """The limits by language; a single number is one for all."""
    table = content if isinstance(content, Mapping) else {_DEFAULT: content}
    for name, value in table.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"{place} has {name!r} where a language is needed; in YAML, write it in quotes.")
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value)):
            raise ConfigurationError(f"{place} of {name} must be a number; got {value!r:.60}.")
    if not any(value is not None for value in table.values()):
        raise ConfigurationError(f"{place} sets no limit: it needs numbers by language, or for default.")
    return {name: None if value is None else float(value) for name, value in table.items()}


def check_gates(
    gates: Sequence[Gate],
    *,
    task: str,
    metrics: Sequence[str],
    languages: Sequence[str],
    runs: Sequence[str],
    adapters: Collection[str] | None = None,
    left_out: Callable[[str], bool] = lambda name: False,
) -> list[Gate]:
    """The gates that are for this evaluation, with languages by their names in it.

    Args:
        gates: from `read_gates`.
        task: its task.
        metrics: its metrics, the main one first.
        languages: those that are scored.
        runs: the names of the models, the first one first.
        adapters: the conditions that are scored; None: not known.
        left_out: whether a name is that of a language which is not scored this time: its limits do not apply.

    Raises:
        ConfigurationError, LanguageError: a gate names a language, metric, condition or run that is not scored, has a
            limit that cannot be meant, or lacks something to compare with.
    """
    found = [
        _checked(gate, metrics, languages, runs, adapters, left_out) for gate in gates if gate.task in (None, task)
    ]
    if not found:
        named = ", ".join(dict.fromkeys(str(gate.task) for gate in gates))
        raise ConfigurationError(f"{gates[0].place}: no gate is for the task {task}; they are for {named}.")
    for gate in found:
        if gate.baseline is not None and task not in {row.task for row in gate.baseline.rows}:
            raise ConfigurationError(f"{gate.place}: the results to compare with have no rows of the task {task}.")
    return found


def _checked(
    gate: Gate,
    metrics: Sequence[str],
    languages: Sequence[str],
    runs: Sequence[str],
    adapters: Collection[str] | None,
    left_out: Callable[[str], bool],
) -> Gate:
    metric = gate.metric or metrics[0]
    for what, name, names in (("metric", metric, metrics), ("run", gate.run, runs)):
        if name is not None and name not in names:
            hint = did_you_mean(name, names, f"there are {', '.join(names)}.")
            raise ConfigurationError(f"{gate.place}: {what} is {name!r}; {hint}")
    if adapters is not None and gate.adapter not in adapters:
        shown = "own" if gate.adapter == "right" else gate.adapter
        raise ConfigurationError(f"{gate.place}: adapter is {shown!r}, which --adapter does not score here.")
    less = metric in LOWER_IS_BETTER
    if (wrong := "floors" if less else "ceilings") in gate.limits:
        right, which = ("ceilings", "less") if less else ("floors", "more")
        raise ConfigurationError(f"{gate.place}: of {metric}, {which} is better: write {right} instead of {wrong}.")
    for name, limits in gate.limits.items():
        high = [value for value in limits.values() if value is not None and abs(value) > 1]
        if not less and high:
            kind = "between -1 and 1" if metric in CORRELATIONS else "a share between 0 and 1"
            raise ConfigurationError(
                f"{gate.place}: {name} has {high[0]:g}, but {metric} is {kind}, as in results.json."
            )
    if gate.largest_drop:
        _check_baseline(gate, metric, metrics[0], runs)
    known = {
        name: _resolved(limits, f"{gate.place}: {name}", languages, left_out) for name, limits in gate.limits.items()
    }
    return Gate(**{**vars(gate), **known, "metric": metric})


def _check_baseline(gate: Gate, metric: str, main: str, runs: Sequence[str]) -> None:
    if gate.baseline is None:
        if len(runs) < 2:
            raise ConfigurationError(
                f"{gate.place}: largest_drop needs something to compare with: earlier results (against: "
                "runs/last/results.json), or several models, which are compared with the first."
            )
        if metric != main or gate.adapter != "right":
            raise ConfigurationError(
                f"{gate.place}: models of one evaluation are compared by {main} with their own adapters; for other "
                "values, give results with against."
            )
    elif not any(row.metric == metric and row.adapter == gate.adapter for row in gate.baseline.rows):
        raise ConfigurationError(f"{gate.place}: the results to compare with have no {metric} of that adapter.")


def _resolved(
    limits: Mapping[str, float | None], place: str, languages: Sequence[str], left_out: Callable[[str], bool]
) -> dict[str, float | None]:
    """The limits by the languages' names in the results."""
    found: dict[str, float | None] = {}
    passed_over = []
    for name, value in limits.items():
        try:
            code = name if name in (_DEFAULT, _MEAN, *languages) else resolve(name, languages)
        except LanguageError as error:
            if left_out(name):
                passed_over.append(name)
                continue
            raise LanguageError(f"{place} names {name!r}, which is not scored: {error}") from None
        if code in found:
            raise ConfigurationError(f"{place} names {code} twice.")
        found[code] = value
    if passed_over:
        console.print(f"{place}: {', '.join(passed_over)} left out by --languages, so these limits do not apply.")
    return found


def gated(results: Results, gates: Sequence[Gate], *, whole: bool = True) -> tuple[GateOutcome, ...]:
    """What the gates say of results.

    Args:
        results: the results.
        gates: from `check_gates`.
        whole: whether a language of earlier results that is not scored any more fails.
    """
    return tuple(outcome for gate in gates for outcome in _outcomes(results, gate, whole))


def _outcomes(results: Results, gate: Gate, whole: bool) -> Iterator[GateOutcome]:
    assert gate.metric is not None
    for run in results.runs() if gate.run is None else [gate.run]:
        for kind, limits in gate.limits.items():
            if kind == "largest_drop" and gate.baseline is None and run == results.runs()[0] and gate.run is None:
                continue  # it is what the others are compared with
            judge = _dropped if kind == "largest_drop" else _bounded
            for language, limit in _of_languages(results, gate, run, limits):
                yield judge(results, gate, run, language, limit)
        if whole and gate.baseline is not None and gate.largest_drop.get(_DEFAULT) is not None:
            there = {*results.languages(), *gate.largest_drop}
            base = _run_in(gate.baseline, run)
            for code in gate.baseline.languages():
                if code not in there and gate.baseline.value(code, gate.adapter, gate.metric, run=base) is not None:
                    yield _outcome(
                        results, gate, run, code, "drop", gate.largest_drop[_DEFAULT] or 0.0, note="not scored"
                    )


def _of_languages(
    results: Results, gate: Gate, run: str, limits: Mapping[str, float | None]
) -> list[tuple[str, float]]:
    """The limit of each language that has one, and of the mean."""
    found = {name: value for name, value in limits.items() if name != _DEFAULT and value is not None}
    if (default := limits.get(_DEFAULT)) is not None:
        scored = [code for code in results.languages() if _value(results, gate, run, code) is not None]
        found = {code: default for code in scored if code not in limits} | found
    return list(found.items())


def _value(scores: Scores, gate: Gate, run: str, language: str, over: Sequence[str] | None = None) -> Score | None:
    """A value, or the mean over languages; an own adapter may also be the relative's, as everywhere."""
    if language == _MEAN:
        codes = scores.averaged(run) if over is None else over
        found = [score.value for code in codes if (score := _value(scores, gate, run, code)) is not None]
        return Score(mean(found, str(gate.metric)), None, None, len(found)) if found else None
    if gate.adapter == "right":
        return scores.own(language, gate.metric, run=run)
    return scores.value(language, gate.adapter, gate.metric, run=run)


def _outcome(
    results: Scores, gate: Gate, run: str, language: str, kind: str, limit: float, passed: bool = False, **more: Any
) -> GateOutcome:
    assert gate.metric is not None
    task = results.rows[0].task
    return GateOutcome(run, task, language, gate.metric, gate.adapter, kind, limit, passed=passed, **more)


def _bounded(results: Results, gate: Gate, run: str, language: str, limit: float) -> GateOutcome:
    """A floor or a ceiling."""
    less = gate.metric in LOWER_IS_BETTER
    kind, score = ("ceiling" if less else "floor"), _value(results, gate, run, language)
    if score is None:
        return _outcome(results, gate, run, language, kind, limit, note="there is no value")
    passed = score.value <= limit if less else score.value >= limit
    return _outcome(results, gate, run, language, kind, limit, passed, value=score.value)


def _dropped(results: Results, gate: Gate, run: str, language: str, limit: float) -> GateOutcome:
    """A drop against earlier results, or against the first model on the same rows."""
    base, over = gate.baseline or results, None
    earlier = _run_in(base, run) if gate.baseline else results.runs()[0]
    if language == _MEAN:  # over the same languages
        codes = results.averaged(run) if gate.baseline else results.others(metric=gate.metric)
        over = [code for code in codes if _value(base, gate, earlier, code) is not None]
    score, old = _value(results, gate, run, language, over), _value(base, gate, earlier, language, over)
    if score is None:
        return _outcome(results, gate, run, language, "drop", limit, note="there is no value")
    if old is None:  # a language that is new has nothing to drop from, unless the gate names it
        named = language in gate.largest_drop
        return _outcome(
            results, gate, run, language, "drop", limit, not named, value=score.value, note="no earlier value"
        )
    worse = score.value - old.value if gate.metric in LOWER_IS_BETTER else old.value - score.value
    low, high = _interval(results, gate, run, language, old, score)
    certain = gate.strict or low > 0
    passed = worse <= limit or (math.isfinite(worse) and not certain)
    note = "within chance" if passed and worse > limit else ""
    ends = {name: end if math.isfinite(end) else None for name, end in (("low", low), ("high", high))}
    return _outcome(
        results, gate, run, language, "drop", limit, passed, value=score.value, before=old.value, **ends, note=note
    )


def _interval(results: Results, gate: Gate, run: str, language: str, old: Score, new: Score) -> tuple[float, float]:
    """95 % of how much worse a value is: on the same rows, or from both intervals (Zou and Donner 2008).

    Of earlier results only the intervals are known, not which rows were right, so they count as independent: of the
    same rows, that is too wide.
    """
    less = gate.metric in LOWER_IS_BETTER
    if gate.baseline is None:
        code = None if language == _MEAN else language
        for each in results.comparisons:
            if each.run == run and each.baseline == results.runs()[0] != run and each.language == code:
                low = -math.inf if each.low is None else each.low
                high = math.inf if each.high is None else each.high
                return (low, high) if less else (-high, -low)
        return -math.inf, math.inf
    if language == _MEAN:  # of means no interval is stored
        return math.inf, math.inf
    ends = [-math.inf if each is None else each for each in (old.low, new.low)]
    tops = [math.inf if each is None else each for each in (old.high, new.high)]
    down = math.hypot(old.value - ends[0], tops[1] - new.value)
    up = math.hypot(tops[0] - old.value, new.value - ends[1])
    worse = new.value - old.value if less else old.value - new.value
    return (worse - up, worse + down) if less else (worse - down, worse + up)


def _run_in(scores: Scores, run: str) -> str:
    """The run of the same name; else the first."""
    return run if run in scores.runs() else scores.runs()[0]
