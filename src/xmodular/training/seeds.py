"""Run once with each of several seeds, and combine the results."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xmodular.console import console, table
from xmodular.errors import ConfigurationError
from xmodular.files import write_json
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import FinetuneOptions
from xmodular.outputs import held, is_run
from xmodular.tasks import load_saved, tokenizer_of
from xmodular.training import contents
from xmodular.training.checkpoints import remove_checkpoints
from xmodular.training.optimising import training_arguments
from xmodular.training.runs import Run, check_claim, check_sources, claim, clear, is_finished
from xmodular.training.task_data import source_hash

_Train = Callable[[FinetuneOptions, XmodPreTrainedModel | None], Run]


def each_seed(
    options: FinetuneOptions, given: XmodPreTrainedModel | None, train: _Train, decisive: Sequence[str]
) -> Run:
    """Run once with each of `options.seeds`, in ``<output_dir>/seed-<seed>``, and write ``seeds.json``.

    Finished seeds are not repeated, unless the group is overwritten.

    Args:
        options: of the group.
        given: a model object; each seed starts from a copy.
        train: runs one seed.
        decisive: as for `begin`.

    Returns:
        The best seed's model (without validation, the first one's) with the metrics of ``seeds.json``.

    Raises:
        ConfigurationError: the folder contains a finished group or a run, or seeds with other data, and is not to be
            overwritten; or it contains the model.
    """
    folder = options.output_dir
    for place in (folder, *(folder / f"seed-{seed}" for seed in options.seeds)):
        check_sources(options, place)
    with training_arguments(options).main_process_first(local=False, desc="the folder of the seeds"):
        _claim(options)
    runs = [replace(options, seed=seed, seeds=(), output_dir=folder / f"seed-{seed}") for seed in options.seeds]
    origin = contents.base(options.model, given)
    finished = [] if options.overwrite else [own for own in runs if is_finished(own, decisive)]
    for own in finished:
        _check_its_data(own, origin)
    done = {own.seed for own in finished}
    metrics: dict[int, dict[str, Any]] = {}
    best: tuple[int, Run | None] | None = None
    for number, own in enumerate(runs, start=1):
        seed = own.seed
        console.print(f"Seed {seed}, {number} of {len(options.seeds)}")
        run = None
        if seed in done:
            console.print(f"{own.output_dir} is already finished.")
            remove_checkpoints(own.output_dir)  # which a killed process may have left
            metrics[seed] = json.loads((own.output_dir / "metrics.json").read_text(encoding="utf-8"))
        else:
            goes_on = options.resume and not (own.output_dir / "options.json").is_file()
            with held(own.output_dir):
                run = train(replace(own, resume=goes_on), None if given is None else copy.deepcopy(given))
            metrics[seed] = run.metrics
        if best is None or _score(metrics[seed]) > _score(metrics[best[0]]):
            best = (seed, run)
    assert best is not None
    found = {
        "seeds": list(options.seeds),
        "best": best[0],
        "metrics": _spread([metrics[seed] for seed in options.seeds]),
    }
    _show(found)
    if training_arguments(options).process_index == 0:
        write_json(folder / "seeds.json", found)
    if best[1] is not None:
        return replace(best[1], output_dir=folder, metrics=found)
    model = load_saved(folder / f"seed-{best[0]}").eval()
    return Run(model, tokenizer_of(model, None), folder, found)


def _check_its_data(options: FinetuneOptions, origin: Mapping[str, str]) -> None:
    """Check that the data that a finished seed was trained on, and the model it started from, have not changed.

    Raises:
        ConfigurationError: they have changed.
    """
    facts = json.loads((options.output_dir / "run.json").read_text(encoding="utf-8")).get("data", {})
    sources = [*facts.get("train", ()), *facts.get("dev", ())]
    held = {str(source): source for source in (*options.train, *options.dev)}  # with the rows of those in memory
    hashes = {name: source_hash(held.get(name, name)) for name in (each["source"] for each in sources)}
    changed = [each["source"] for each in sources if hashes[each["source"]] != each["sha256"]]
    changed += [name for name, value in origin.items() if facts.get(name) != value]
    if changed:
        raise ConfigurationError(
            f"{', '.join(changed)}: changed since {options.output_dir} was trained. Choose another folder, or "
            "start over with --overwrite."
        )


def _claim(options: FinetuneOptions) -> None:
    """Make sure that the group may write here."""
    done = (options.output_dir / "seeds.json").is_file()
    if done and options.resume:
        return
    check_claim(options.output_dir, overwrite=options.overwrite)
    if done:
        for place in (options.output_dir / f"seed-{seed}" for seed in options.seeds):
            if place.is_dir() and is_run(place):
                clear(place)
    claim(options.output_dir, overwrite=options.overwrite)


def _score(metrics: Mapping[str, Any]) -> float:
    return float(metrics.get("dev", {}).get("score", 0.0))


def _spread(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation (of a sample; 0 for one run) of each number, with the numbers."""
    answer: dict[str, Any] = {}
    for name, value in runs[0].items():
        values = [run[name] for run in runs]
        if isinstance(value, Mapping):
            answer[name] = _spread(values)
        elif all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values):
            mean = sum(values) / len(values)
            deviation = math.sqrt(sum((each - mean) ** 2 for each in values) / max(len(values) - 1, 1))
            answer[name] = {"mean": mean, "std": deviation, "values": values}
    return answer


def _show(found: Mapping[str, Any]) -> None:
    """Print the validation metrics of the group."""
    metrics = found["metrics"]
    shown = {"train loss": metrics["train_loss"], **metrics.get("dev", {})}
    rows = [
        (name, *(f"{value:.4f}" for value in (values["mean"], values["std"], *values["values"])))
        for name, values in shown.items()
        if name != "score"
    ]
    seeds = [str(seed) for seed in found["seeds"]]
    console.print(table(f"Seeds {', '.join(seeds)}", ("metric", "mean", "deviation", *seeds), rows))
