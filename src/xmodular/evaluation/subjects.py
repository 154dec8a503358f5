"""The models to evaluate: names, seeds, training languages; each is loaded when needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xmodular.configuration import XmodConfig, read_config
from xmodular.errors import ConfigurationError, DataError
from xmodular.languages import resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import RunPrecision
from xmodular.tasks import given_model, task_for, to_run

_BARE = ("XmodModel", "XmodForSentenceEmbedding")
_PERPLEXITY = ("XmodForMaskedLM", "XmodForCausalLM")


@dataclass(frozen=True)
class Subject:
    """One model.

    Attributes:
        run: its name in the results; models that differ only in the seed share it.
        where: folder or name on the Hub.
        config: its configuration.
        given: the model, if it came as an object.
        seed: the seed of its training; None if unknown.
        source: the language that it was trained in; None if unknown or missing.
    """

    run: str
    where: str
    config: XmodConfig
    given: XmodPreTrainedModel | None
    seed: int | None
    source: str | None

    def load(self, precision: RunPrecision) -> XmodPreTrainedModel:
        """Load the model in a precision; with "auto" in that of its weights, for its rows are not known here."""
        return to_run(
            self.given if self.given is not None else self.where, "keep" if precision == "auto" else precision
        )

    @property
    def architecture(self) -> str:
        """Name of its class."""
        return type(self.given).__name__ if self.given is not None else str((self.config.architectures or ["?"])[0])


def subjects_of(
    models: Sequence[XmodPreTrainedModel | str | Path], source: str | None, *, alike: bool = True
) -> list[Subject]:
    """The models by name, with the folders of runs with several seeds expanded.

    Args:
        models: objects, folders or names on the Hub.
        source: the language to use instead of the one they were trained in.
        alike: whether they need the same task.

    Raises:
        ConfigurationError: there is no model, one is named twice, or their tasks differ.
        LanguageError: a model does not have the language `source`.
    """
    found: list[tuple[int, Subject]] = []  # with the number of the run
    for number, model in enumerate(models):
        given, where = given_model(model)
        members = [where] if given is not None else _members(where)
        found += [(number, _subject(place, given, source, len(members) > 1)) for place in members]
    twice = [name for name, count in Counter(s.where for _, s in found if s.given is None).items() if count > 1]
    if twice:
        raise ConfigurationError(f"The model {twice[0]} is named twice.")
    kinds = {subject.where: _kind(subject) for _, subject in found}
    if alike and len(set(kinds.values())) > 1:
        listed = "; ".join(
            f"{where}: {architecture}{f' ({task})' if task else ''}" for where, (architecture, task) in kinds.items()
        )
        raise ConfigurationError(f"Models that are evaluated together need the same task; these differ: {listed}.")
    names = _names([given_model(model)[1] for model in models])
    return [replace(subject, run=names[number]) for number, subject in found]


def _members(where: str) -> list[str]:
    """The model folders of a run with several seeds; else the given one."""
    folder = Path(where)
    path = folder / "seeds.json"
    if not path.is_file() or (folder / "config.json").is_file():
        return [where]
    try:
        seeds = [int(seed) for seed in json.loads(path.read_text(encoding="utf-8"))["seeds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not list the seeds of a run: {error!r}") from error
    if not seeds:
        raise DataError(f"{path} lists no seeds.")
    return [str(folder / f"seed-{seed}") for seed in seeds]


def _subject(where: str, given: XmodPreTrainedModel | None, source: str | None, one_of_many: bool) -> Subject:
    config = given.config if given is not None else read_config(where)
    language = None
    if source is not None:
        language = resolve(source, config.languages)
    elif config.task_language in config.languages:
        language = config.task_language
    seed = _seed(Path(where))
    if one_of_many and seed is None:
        seed = int(Path(where).name.removeprefix("seed-"))
    return Subject("", where, config, given, seed, language)


def _seed(folder: Path) -> int | None:
    """The seed that a model was fine-tuned with; None if unknown."""
    try:
        content = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    seed = content.get("seed") if isinstance(content, dict) and "train" in content else None
    return seed if isinstance(seed, int) else None


def _kind(subject: Subject) -> tuple[str, str | None]:
    """Class and task."""
    if is_for_retrieval(subject):
        return "encoder", None
    task = task_for(subject.config, subject.architecture)
    return subject.architecture, None if task is None else task.name


def use_of(subject: Subject) -> str:
    """What a model is evaluated by, if nothing else is asked for: a task, retrieval or perplexity."""
    return "retrieval" if is_for_retrieval(subject) else _kind(subject)[1] or "perplexity"


def _names(places: Sequence[str]) -> list[str]:
    """Short names that differ: the last parts of paths, as many as it takes; else with a number."""
    parts = [Path(place).parts or (place,) for place in places]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) or "model" for each in parts]
        if len(set(names)) == len(names):
            return names
    short = [each[-1] for each in parts]
    seen: Counter[str] = Counter()
    numbered = []
    for name in short:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return numbered


def is_for_perplexity(subject: Subject) -> bool:
    """Whether a model is a language model."""
    return subject.architecture in _PERPLEXITY


def is_for_retrieval(subject: Subject) -> bool:
    """Whether a model is an encoder without a head."""
    return subject.architecture in _BARE
