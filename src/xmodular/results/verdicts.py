"""Tell whether a value is better than a guess."""

from __future__ import annotations

from xmodular.language_conditions import CONDITIONS, GUESSES
from xmodular.results.score_tables import with_unit
from xmodular.results.scores import Scores
from xmodular.results.values import LOWER_IS_BETTER, mean

_HARDLY = 0.1  # of the way from the guess to a perfect score


def verdict(scores: Scores, metric: str, run: str) -> str:
    """A warning if a run's mean, or the value in a language, is close to that of a guess; otherwise empty.

    A value is no better than a guess if its interval contains the guess or lies below it (above it, if lower is
    better).

    Args:
        scores: results that include the guesses.
        metric, run: metric and run of the mean.
    """
    codes = scores.others(metric=metric) or [c for c in scores.languages() if scores.own(c, metric, run=run)]
    less = metric in LOWER_IS_BETTER
    guesses, values, no_better = [], [], 0
    for code in codes:
        own = scores.own(code, metric, run=run)
        found = {name: each.value for name in GUESSES if (each := scores.value(code, name, metric, run=run))}
        if own is None or not found:
            continue
        name = (min if less else max)(found, key=lambda each: found[each])
        end = own.high if less else own.low
        near = own.value if end is None else end
        no_better += not (near < found[name] if less else near > found[name])
        guesses.append((name, found[name]))
        values.append(own.value)
    if not values:
        return ""
    names = {name for name, _ in guesses}
    guess, reached = mean([value for _, value in guesses], metric), mean(values, metric)
    how = CONDITIONS[names.pop()].guess if len(names) == 1 else "the better of two guesses"
    against = f"{how} reaches {with_unit(guess, metric)}"
    counted = f"in {no_better} of {len(values)} languages" if len(values) > 1 else ""
    if no_better == len(values):
        return f"No better than guessing: {against}."
    if not less and reached - guess < _HARDLY * (1 - guess):
        return f"Hardly better than guessing{f', and no better {counted}' if no_better else ''}: {against}."
    return f"No better than guessing {counted}: {against}." if no_better else ""
