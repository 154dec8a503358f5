"""The demo on the user's own encoder and data: dense → modular → fine-tuned → evaluated in every language.

Each step runs a verb with its defaults. Finished steps are recorded in ``demo.json``, so that a demo can be resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from transformers import AutoModel

from xmodular.configuration import XmodConfig, config_content, read_config
from xmodular.console import console, counted, quiet_transformers
from xmodular.conversion import upcycle
from xmodular.conversion.upcycling import code_for
from xmodular.errors import ConfigurationError, DataError, LanguageError, first_of
from xmodular.evaluation import evaluate
from xmodular.evaluation.test_data import Finder, TestSet
from xmodular.files import json_text, write_json, write_text
from xmodular.hub import hub_source
from xmodular.languages import code_problem, english_name, names_of, resolve_or_none
from xmodular.modeling import XmodModel
from xmodular.options import DemoOptions, EvaluateOptions, as_record
from xmodular.outputs import check_apart, table_in
from xmodular.pack_verbs import pack_install
from xmodular.prediction import Predictor
from xmodular.results import Results
from xmodular.tasks import Example, Room, Task, collate, longest, task_named, tokenizer_of
from xmodular.tasks.examples import load
from xmodular.training import contents, extend, finetune
from xmodular.training.pairs import read_pairs
from xmodular.training.runs import claim
from xmodular.training.task_data import source_hash
from xmodular.vocabulary import is_with_tokenizer

_MODULAR, _GROWN, _TASK, _RECORD = "modular", "grown", "task", "demo.json"
_COMPARED, _AT_ONCE, _PREDICTED = 32, 8, 12  # rows
_LONGEST = 128  # tokens of a row whose states are compared


def walk(options: DemoOptions) -> Results:
    """Make an encoder modular, fine-tune it in one language, and evaluate it in all; optionally add a language.

    Args:
        options: options with a model.

    Returns:
        The scores in every language of the test sets: with its own adapter, with the training language's, and without.

    Raises:
        ConfigurationError, DataError, LanguageError: for problems found before the work starts.
    """
    assert options.model is not None
    folder, task = options.output_dir, task_named(options.task)
    if not is_with_tokenizer(options.model):
        raise ConfigurationError(
            f"{options.model} has no tokenizer next to its weights, but every step needs one: put it there."
        )
    there = _own_languages(options.model)
    codes, sets = _languages_and_sets(options, task, there)
    record = _Record.begun(options, sets)

    with record.step("make the encoder modular"):
        if record.is_done:
            console.print(f"Already done, in {folder / _MODULAR}")
        else:
            # In an empty place, or in place of output of this demo or of one that may be replaced.
            upcycle(options.model, codes, output_dir=folder / _MODULAR, head=False, seed=options.seed, overwrite=True)
            record.note(**_exactness(options.model, folder / _MODULAR, task, sets, there))

    with record.step("fine-tune"):
        if not _is_finished(folder / _TASK):
            finetune(
                folder / _MODULAR,
                list(options.train),
                dev=list(options.dev),
                task=options.task,
                language=options.language,
                columns=options.columns,
                output_dir=folder / _TASK,
                seed=options.seed,
                **({} if options.epochs is None else {"epochs": options.epochs}),
            )

    if options.add is not None:
        with record.step(f"add {options.add}: train its adapter on translations, and nothing else"):
            _add(options, options.add)

    with record.step("evaluate in every language: with its own adapter, the training language's, and none"):
        place = folder / _TASK / "eval"
        if record.is_done:
            results = Results.from_json(place / "results.json")
            console.print(results.table())
        else:
            results = evaluate(
                folder / _TASK,
                list(options.data),
                adapter=("right", "source", "none"),
                output_dir=place,
                overwrite=True,
            )
        _say_what_is_untrained([code for code in codes if code not in there], results)

    with record.step("predict"):
        _predict(folder, sets)
    record.finish()
    return results


def _own_languages(model: str) -> tuple[str, ...]:
    """The languages that the source has adapters for; none of a dense one."""
    if config_content(model).get("model_type") != XmodConfig.model_type:
        return ()
    return tuple(read_config(model).languages)


# ---------------------------------------------------------------- languages and sets


def _languages_and_sets(options: DemoOptions, task: Task, there: Sequence[str]) -> tuple[list[str], dict[str, TestSet]]:
    """The languages that get an adapter, the training languages first; and the test sets, read.

    Raises:
        LanguageError: a training language is not among `--languages`, or the language to add is among them.
        DataError: rows cannot be read, or do not say their language.
    """
    asked = list(dict.fromkeys(code_for(name, there) for name in options.languages))
    added = [] if options.add is None else [options.add]
    if options.add is not None:
        if wrong := code_problem(options.add):
            raise LanguageError(f"not a valid language code: {wrong}")
        if (twice := resolve_or_none(options.add, asked)) is not None:
            raise LanguageError(f"--add {options.add}: {twice} is among --languages, which already have adapters.")

    def code_of(name: str) -> str | None:
        if (code := resolve_or_none(name, [*added, *asked])) is not None or asked:
            return code
        return code_for(name, there) if names_of(name)["english"] is not None else None

    trained = _training_languages(options, task, code_of)
    if options.add in trained:
        raise LanguageError(
            f"--add {options.add}: the training rows are in this language, so it already has an adapter."
        )
    if not asked and any("{" in place for place in options.data if place.startswith("hub:")):
        raise ConfigurationError("--data with {language} or {subtag} in it needs --languages, to know what to load.")
    reading = EvaluateOptions(model=(str(options.model),), data=options.data)
    sets = Finder(reading, task, [*asked, *added], code_of, usual=options.columns or {}).sets()
    codes = list(dict.fromkeys([*trained, *asked, *(each.language for each in sets if each.language not in added)]))
    if options.parallel is not None:
        read_pairs(options.parallel, str(options.add), codes)  # reports its problems
    return codes, {each.language: each for each in sets}


def _training_languages(options: DemoOptions, task: Task, code_of: Callable[[str], str | None]) -> list[str]:
    """The codes of the languages that the training rows are in."""
    names: dict[str, str] = {}
    if options.language is not None:
        names[options.language] = "--language"
    else:
        for source in options.train:
            for row in load(task, source, columns=options.columns or {}, knows=lambda name: code_of(name) is not None):
                if row.language is None:
                    raise DataError(
                        f"{row.place}: the row's language is unknown. Give it with --language, in a column 'language', "
                        "or at the beginning of the file name (en_XX.train.jsonl)."
                    )
                names.setdefault(row.language, row.place)
    codes = {name: code_of(name) for name in names}
    if lacking := [name for name, code in codes.items() if code is None]:
        among = (
            f" is not among --languages {','.join(options.languages)}" if options.languages else " means no language"
        )
        raise LanguageError(f"{names[lacking[0]]}: the training language {lacking[0]!r}{among}.")
    return list(dict.fromkeys(code for code in codes.values() if code is not None))


# ---------------------------------------------------------------- finished steps


class _Record:
    """What a demo has done, in ``demo.json``; it is there from the start, and says at the end that all is done."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self._path, self._content = folder / _RECORD, content
        self._number, self._title = 0, ""
        self._before = dict(content["seconds"])

    @classmethod
    def begun(cls, options: DemoOptions, sets: Mapping[str, TestSet]) -> _Record:
        """A new demo, or an interrupted one with the same options and data to resume.

        Raises:
            ConfigurationError: another demo, or something else, is there, and is not to be replaced.
        """
        folder = options.output_dir
        asked = as_record(replace(options, overwrite=False))
        del asked["output_dir"]
        model = str(options.model)
        facts: dict[str, Any] = (
            dict(contents.base(model, None))
            if Path(model).is_dir()
            else {model: str(config_content(model).get("_commit_hash"))}
        )
        for source in (*options.train, *options.dev, *([options.parallel] if options.parallel else [])):
            facts[source] = source_hash(source)
        facts |= {f"test set of {code}": each.content for code, each in sets.items()}
        known = table_in(folder / _RECORD)
        if known and not options.overwrite:
            if known.get("options") is None or known.get("finished"):
                raise ConfigurationError(
                    f"{folder} contains a finished demo. Choose another folder, or use --overwrite."
                )
            was = {**known["options"], **known.get("data", {})}
            if differing := [name for name, value in {**asked, **facts}.items() if was.get(name) != value]:
                raise ConfigurationError(
                    f"{folder} contains an unfinished demo with another {', '.join(differing[:3])}. Choose another "
                    "folder, or use --overwrite."
                )
            console.print(f"Continuing the demo in {folder}")
            return cls(folder, known)
        _clear(options)
        record = cls(folder, {"options": asked, "data": facts, "seconds": {}, "finished": False})
        folder.mkdir(parents=True, exist_ok=True)
        record.note()
        return record

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step, whose seconds are noted when it is done."""
        self._number, self._title = self._number + 1, title
        console.rule(f"{self._number}  {title}", align="left")
        started = time.monotonic()
        yield
        if not self.is_done:
            self._content["seconds"][title] = round(time.monotonic() - started, 1)
            self.note()

    @property
    def is_done(self) -> bool:
        """Whether this step was done before."""
        return self._title in self._before

    def note(self, **facts: Any) -> None:
        """Record a finished step, with some facts."""
        self._content |= facts
        write_json(self._path, self._content)

    def finish(self) -> None:
        """All is done."""
        self.note(finished=True)
        folder = self._path.parent
        console.rule("written", align="left")
        for part in (_MODULAR, _GROWN, _TASK, "predicted.jsonl", _RECORD):
            if (place := folder / part).exists():
                files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
                console.print(f"{place}  ({sum(path.stat().st_size for path in files) / 1e6:.2f} MB)")
        minutes = sum(self._content["seconds"].values()) / 60
        console.print(f"{minutes:.1f} minutes in total. Start with {folder / _TASK / 'eval' / 'report.html'}")
        console.print(f"For your own rows: xmodular predict --model {folder / _TASK} --input <file> --output <file>")


def _clear(options: DemoOptions) -> None:
    """Make room for a demo that starts.

    Raises:
        ConfigurationError: something is there that is not to be replaced, or that is read.
    """
    sources = [options.model, options.parallel, *options.train, *options.dev, *options.data]
    for name in (_MODULAR, _GROWN, _TASK):
        place = options.output_dir / name
        check_apart(place, sources)
        if place.exists() and not options.overwrite:
            raise ConfigurationError(f"{place} already exists. Choose another folder, or use --overwrite.")
    for place in (options.output_dir / _GROWN, options.output_dir / _TASK):
        if place.exists():
            claim(place, overwrite=True)  # a finished run in it belongs to another demo


def _is_finished(run: Path) -> bool:
    """Whether a run of this demo is finished; the output of another demo is removed."""
    if not (run / "options.json").is_file():
        return False
    console.print(f"Already done, in {run}")
    return True


# ---------------------------------------------------------------- the steps that are not a single verb


def _exactness(
    source: str, modular: Path, task: Task, sets: Mapping[str, TestSet], there: Sequence[str]
) -> dict[str, Any]:
    """Say, and give back, how far the states of some rows are from those that the source gives them.

    A source that is modular gives states in its own languages only.
    """
    rows = [row for row in _spread(sets, _COMPARED) if not there or row.language in there]
    rows = [replace(row, gold=None) for row in rows]
    with quiet_transformers():
        model: Any = XmodModel.from_pretrained(modular, add_pooling_layer=False, dtype=torch.float32).eval()
    rows = [row for row in rows if row.language in model.languages]  # a language to add is not there yet
    if not rows:
        console.print(f"No row is in a language of {source}, so its states cannot be compared.")
        return {}
    name, where = hub_source(source)
    with quiet_transformers():
        theirs: Any = (XmodModel if there else AutoModel).from_pretrained(name, dtype=torch.float32, **where).eval()
    tokenizer, length = tokenizer_of(model, modular), longest(model, _LONGEST)
    encodings = task.encode(tokenizer, rows, [], Room(length, length // 4))
    largest = 0.0
    for first in range(0, len(encodings), _AT_ONCE):
        some = encodings[first : first + _AT_ONCE]
        batch = collate(some, [0] * len(some), model.config.pad_token_id)
        del batch["lang_ids"]
        flat = {name: values.flatten(0, -2) for name, values in batch.items()}
        spoken = [str(rows[each.example].language) for each in some for _ in each.sequences]
        with torch.inference_mode():
            apart = (_states(model, model.languages, flat, spoken) - _states(theirs, there, flat, spoken)).abs()
        largest = max(largest, float(apart[flat["attention_mask"] == 1].max()))
    languages = len({row.language for row in rows})
    console.print(
        f"The largest difference between the states of {source} and those of {modular}, on {counted(len(rows), 'row')} "
        f"of the test sets in {counted(languages, 'language')}: {largest:.1e}"
    )
    return {"difference": largest, "compared_rows": len(rows), "compared_languages": languages}


def _spread(sets: Mapping[str, TestSet], most: int) -> list[Example]:
    """Some rows of each set, from all over it; of many sets, one row each of the first."""
    chosen: list[Example] = []
    for each in sets.values():
        apart = max(1, len(each.examples) // max(1, most // len(sets)))
        chosen += each.examples[::apart][: max(1, most // len(sets))]
    return chosen[:most]


def _states(model: Any, languages: Sequence[str], batch: Mapping[str, Tensor], spoken: Sequence[str]) -> Tensor:
    """(batch, tokens, hidden) states of texts in these languages; a dense model has none and tells none apart."""
    routed = {"lang_ids": torch.tensor([languages.index(language) for language in spoken])} if languages else {}
    states: Tensor = model(**batch, **routed).last_hidden_state
    return states


def _add(options: DemoOptions, code: str) -> None:
    """Add a language to the modular encoder, and its pack to the fine-tuned model."""
    folder = options.output_dir
    if not _is_finished(folder / _GROWN):
        extend(folder / _MODULAR, code, parallel=options.parallel, output_dir=folder / _GROWN, seed=options.seed)
    if code not in read_config(folder / _TASK).languages:
        pack_install(folder / _GROWN / "pack", model=str(folder / _TASK))


def _say_what_is_untrained(codes: Sequence[str], results: Results) -> None:
    """Warn about untrained adapters, so that their columns are not misread as results."""
    if read := [code for code in results.languages() if code in codes]:
        console.print(
            f"The adapters of {first_of(read, 6)} add nothing until they are trained on text, so text in these "
            "languages is read the same with and without them. To train them, use xmodular pretrain --model."
        )


def _predict(folder: Path, sets: Mapping[str, TestSet]) -> None:
    """Predict a few rows of every language, and show them with the right answers."""
    predictor = Predictor(folder / _TASK)
    rows = _spread(sets, _PREDICTED)
    predictions = predictor.predict([replace(row, gold=None) for row in rows])
    lines = []
    table = Table("language", "row", "right", "predicted", title="A few rows", title_justify="left")
    for row, predicted in zip(rows, predictions, strict=True):
        lines.append(json_text({"texts": row.texts, "right": row.gold, **predicted}, default=str))
        answer = next(iter(predicted.values()))
        table.add_row(english_name(str(row.language)), *map(_shown, (row.texts, _right(row), answer)))
    write_text(folder / "predicted.jsonl", "".join(lines))
    console.print(table)


def _right(row: Example) -> Any:
    """The right answer, without positions."""
    is_answer = isinstance(row.gold, (list, tuple)) and row.gold and isinstance(row.gold[0], tuple)
    return row.gold[0][0] if is_answer else row.gold


def _shown(value: Any) -> str:
    """The beginning of a text, or of texts."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= 48 else f"{text[:45]}..."
