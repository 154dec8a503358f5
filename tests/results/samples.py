"""Made-up results of many languages, several runs and seeds."""

from __future__ import annotations

import random

from xmodular.results import Comparison, Results, Row

LANGUAGES = (
    *("en_XX", "ar_AR", "bg_BG", "da_DK", "de_DE", "el_GR", "es_XX", "et_EE", "eu_ES", "fi_FI", "fr_XX", "hi_IN"),
    *("hr_HR", "ht", "id_ID", "it_IT", "mi", "mt", "no_XX", "pt_XX", "qu", "ro_RO", "ru_RU", "sv_SE", "sw_KE"),
    *("ta_IN", "th_TH", "tr_TR", "tt", "ur_PK", "vi_VN", "zh_CN", "zh_TW"),
)


def made_up(
    runs: dict[str, str] | None = None,
    languages: tuple[str, ...] = LANGUAGES,
    metrics: tuple[str, ...] = ("accuracy", "macro-F1"),
    seeds: tuple[int, ...] = (),
) -> Results:
    """Results with every way to read, drawn random.

    Args:
        runs: their training languages by name.
        languages: test languages.
        metrics: names.
        seeds: of every run; none: one model of unknown seed.
    """
    draw, rows, comparisons = random.Random(0), [], []
    runs = runs or {"topic": "en_XX"}
    level = {code: draw.uniform(0.5, 0.85) for code in languages}
    for place, (run, source) in enumerate(runs.items()):
        for code in languages:
            for metric in metrics:
                value = min(0.97, level[code] + 0.03 * place + (0.1 if code == source else 0))
                for adapter, less in (("right", 0.0), ("source", 0.15), ("none", 0.2)):
                    if adapter == "source" and code == source:
                        continue
                    reader = {"right": code, "source": source}.get(adapter)
                    shown = max(0.05, value - less * draw.uniform(0.5, 1.2))
                    for seed in seeds or (None,):
                        own = shown + (0 if seed is None else draw.gauss(0, 0.01))
                        rows.append(
                            Row(
                                run,
                                "classify",
                                code,
                                metric,
                                adapter,
                                own,
                                own - 0.05,
                                own + 0.05,
                                204,
                                seed,
                                source,
                                reader,
                            )
                        )
                    if len(seeds) > 1:
                        rows.append(
                            Row(
                                run,
                                "classify",
                                code,
                                metric,
                                adapter,
                                shown,
                                shown - 0.04,
                                shown + 0.04,
                                204,
                                None,
                                source,
                                reader,
                            )
                        )
                for guess, share in (("majority", 0.25), ("uniform", 1 / 7)):
                    rows.append(Row(run, "classify", code, metric, guess, share, None, None, 204, None, source))
        first = next(iter(runs))
        pairs = [(run, "right", run, "source")] + ([(run, "right", first, "right")] if run != first else [])
        for pair in pairs:
            for code in (*languages, None):
                value = draw.gauss(0.03, 0.04)
                p = draw.random() ** 3
                comparisons.append(
                    Comparison(
                        *pair,
                        "classify",
                        metrics[0],
                        code,
                        value,
                        value - 0.05,
                        value + 0.05,
                        p,
                        None if code is None else min(1, 5 * p),
                        204,
                        None if code else len(set(languages) - {runs[pair[0]], runs[pair[2]]}),
                    )
                )
    sources = set(runs.values())
    return Results(
        tuple(rows), sources.pop() if len(sources) == 1 else None, tuple(comparisons), {"date": "2026-01-01"}
    )
