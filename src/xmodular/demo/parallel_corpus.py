"""The embedded corpus: parallel sentences, sentence pairs and questions in eight languages, made from grammars.

Meanings are drawn first (`xmodular.demo.meanings`) and then expressed in a language, so that labels, entity
tags and answers follow from the composition of a sentence. The same seed gives the same data on every machine.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from xmodular.demo import meanings, surface
from xmodular.demo.grammar import LANGUAGES, TOPICS
from xmodular.demo.grammar import Question as Ask
from xmodular.demo.meanings import LABELS, SPLITS, Meaning
from xmodular.errors import ConfigurationError, InputError, LanguageError
from xmodular.files import working_in
from xmodular.languages import resolve
from xmodular.outputs import held

SOURCE = "en_XX"  # the language of train and dev files
_TEXT_DEV = 400  # lines
_Drawn = TypeVar("_Drawn")


@dataclass(frozen=True)
class Sentence:
    """A sentence with its labels.

    Attributes:
        language: one of LANGUAGES.
        text: the sentence.
        topic: one of TOPICS.
        tokens: its words and punctuation marks.
        tags: IOB2 tags (PER, ORG, LOC) of the tokens.
        spaces: whether a space follows each token; so the tokens join to the text.
        id: the same for the same meaning in every language.
    """

    language: str
    text: str
    topic: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    spaces: tuple[bool, ...]
    id: str


@dataclass(frozen=True)
class Pair:
    """Two statements about the same event, and whether the second follows from the first.

    Attributes:
        language: one of LANGUAGES.
        premise: what is given.
        hypothesis: what is judged.
        label: "entailment", "neutral" or "contradiction".
        id: the same in every language.
    """

    language: str
    premise: str
    hypothesis: str
    label: str
    id: str


@dataclass(frozen=True)
class Question:
    """A question about a short text, and its answer as a part of the text.

    Attributes:
        language: one of LANGUAGES.
        context: three to five sentences.
        question: the question.
        answer: the answer, `context[answer_start : answer_start + len(answer)]`.
        answer_start: in characters.
        topic: one of TOPICS.
        id: the same in every language.
    """

    language: str
    context: str
    question: str
    answer: str
    answer_start: int
    topic: str
    id: str


@dataclass(frozen=True)
class _PairMeaning:
    premise: Meaning
    hypothesis: Meaning
    label: str
    id: str


@dataclass(frozen=True)
class _QuestionMeaning:
    context: tuple[Meaning, ...]
    about: Meaning
    ask: Ask
    answer: str
    named: dict[str, int]
    id: str


def sentences(language: str, count: int, *, seed: int = 0) -> Iterator[Sentence]:
    """Distinct labelled sentences; topics alternate in random order.

    Args:
        language: one of LANGUAGES, or another name for it.
        count: number of sentences.
        seed: random seed; its i-th sentence has the same meaning in every language.

    Raises:
        LanguageError: the corpus does not have the language.
        InputError: a negative count.
    """
    code = _checked(language, count)
    return (_sentence(meaning, code) for meaning in islice(_meanings(f"sentences {seed}"), count))


def pairs(language: str, count: int, *, seed: int = 0) -> Iterator[Pair]:
    """Distinct pairs of premise and hypothesis; the labels alternate in random order.

    Arguments and errors as for `sentences`.
    """
    code = _checked(language, count)
    return (_pair(pair, code) for pair in islice(_pair_meanings(f"pairs {seed}"), count))


def questions(language: str, count: int, *, seed: int = 0) -> Iterator[Question]:
    """Distinct questions with their contexts; topics alternate in random order.

    Arguments and errors as for `sentences`.
    """
    code = _checked(language, count)
    return (_question(asked, code) for asked in islice(_question_meanings(f"questions {seed}"), count))


def _checked(language: str, count: int) -> str:
    if count < 0:
        raise InputError(f"count is {count}: it cannot be negative.")
    return resolve(language, LANGUAGES)


def _sentence(meaning: Meaning, language: str) -> Sentence:
    said = surface.sentence(meaning, language)
    return Sentence(language, said.text, meaning.topic, said.tokens, said.tags, said.spaces, meaning.id)


def _pair(pair: _PairMeaning, language: str) -> Pair:
    premise, hypothesis = (surface.sentence(meaning, language).text for meaning in (pair.premise, pair.hypothesis))
    return Pair(language, premise, hypothesis, pair.label, pair.id)


def _question(asked: _QuestionMeaning, language: str) -> Question:
    context, start, answer = "", 0, ""
    for meaning in asked.context:
        said = surface.sentence(meaning, language)
        context += " " if context else ""
        if meaning is asked.about:
            begin, end = said.names[asked.answer]
            start, answer = len(context) + begin, said.text[begin:end]
        context += said.text
    text = surface.question(asked.about, asked.ask.templates[language], asked.named, language)
    return Question(language, context, text, answer, start, asked.about.topic, asked.id)


def _distinct(
    rng: random.Random, turns: Sequence[str], draw: Callable[[str], tuple[str, _Drawn] | None]
) -> Iterator[_Drawn]:
    """What is drawn with a name that was not drawn before, in shuffled turns; None is drawn again."""
    seen: set[str] = set()
    while True:
        for turn in meanings.shuffled(rng, turns):
            while (drawn := draw(turn)) is None or drawn[0] in seen:
                pass
            seen.add(drawn[0])
            yield drawn[1]


def _meanings(name: str, split: str | None = None) -> Iterator[Meaning]:
    """Distinct meanings, of one split or of all, from the random stream called `name`."""
    rng = random.Random(f"xmodular {name}")

    def drawn(topic: str) -> tuple[str, Meaning] | None:
        meaning = meanings.draw(rng, topic)
        return (meaning.id, meaning) if split in (None, meaning.split) else None

    return _distinct(rng, TOPICS, drawn)


def _pair_meanings(name: str, split: str | None = None) -> Iterator[_PairMeaning]:
    """Distinct pairs. Both statements are redrawn together when one is not of the split: to redraw the premise alone
    would favour, label by label, the hypotheses that have many premises."""
    rng = random.Random(f"xmodular {name}")

    def drawn(label: str) -> tuple[str, _PairMeaning] | None:
        premise, hypothesis = meanings.draw_pair(rng, meanings.pick(rng, TOPICS), label)
        if split not in (None, premise.split) or split not in (None, hypothesis.split):
            return None
        key = f"{premise.id}-{hypothesis.id}"
        return key, _PairMeaning(premise, hypothesis, label, key)

    return _distinct(rng, LABELS, drawn)


def _question_meanings(name: str, split: str | None = None) -> Iterator[_QuestionMeaning]:
    """Distinct questions; the sentences of a context share a topic and no two a frame, so that one answer is right."""
    rng = random.Random(f"xmodular {name}")

    def of(topic: str, frames: set[str]) -> Meaning:
        while True:
            meaning = meanings.draw(rng, topic)
            if meaning.frame not in frames and split in (None, meaning.split):
                return meaning

    def drawn(topic: str) -> tuple[str, tuple[str, Meaning, tuple[Ask, str, dict[str, int]]]] | None:
        about = of(topic, set())
        if (asked := meanings.draw_question(rng, about)) is None:
            return None
        key = f"{about.id}-{asked[1]}"
        return key, (key, about, asked)

    for key, about, (ask, answer, named) in _distinct(rng, TOPICS, drawn):
        context, frames = [about], {about.frame}
        for _ in range(meanings.pick(rng, (2, 3, 4))):
            context.append(of(about.topic, frames))
            frames.add(context[-1].frame)
        yield _QuestionMeaning(tuple(meanings.shuffled(rng, context)), about, ask, answer, named, key)


def write_corpus(
    folder: str | Path,
    *,
    sentences_per_language: int = 12000,
    task_train: int = 3000,
    task_test: int = 600,
    languages: Sequence[str] = LANGUAGES,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write text and tasks: `text/`, `text_dev/`, `topic/`, `ner/`, `nli/`, `qa/`, one file per language and split.

    Each language has its own text: no two languages have the same lines in the same order. Tasks have train and
    dev files in English and test files in every language, parallel by id. Each meaning belongs to one split, so no
    sentence of a test file is in a train, dev or text file of any language.

    Args:
        folder: created if needed; its other files stay.
        sentences_per_language: lines of `text/<language>.demo.txt`.
        task_train: rows of each task's train file; the dev file has a fifth of it.
        task_test: rows of each task's test files.
        languages: names of some of LANGUAGES, English among them.
        seed: random seed of the sentences.
        overwrite: replace the files of another corpus.

    Returns:
        `folder`.

    Raises:
        LanguageError: a language that the corpus does not have, or no English.
        InputError: a count below one.
        ConfigurationError: files of another corpus are there, and `overwrite` is False.
    """
    counts = {
        "sentences_per_language": sentences_per_language,
        "task_train": task_train,
        "task_test": task_test,
    }
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} is {count}: a file needs at least one row.")
    codes = [resolve(language, LANGUAGES) for language in languages]
    if SOURCE not in codes:
        raise LanguageError(f"languages has no {SOURCE}, the language of train and dev files: it has {codes}.")
    target = Path(folder)
    with held(target):
        target.mkdir(parents=True, exist_ok=True)
        with working_in(target) as new:
            _write_text(new, codes, sentences_per_language, seed)
            rows = {"train": task_train, "dev": max(1, task_train // 5), "test": task_test}
            for task in _TASKS:
                _write_task(new, task, codes, rows, seed)
            _take_over(new, target, overwrite)
    return target


def _take_over(new: Path, target: Path, overwrite: bool) -> None:
    """Move a corpus into its folder, in place of files of another one; all others stay.

    Raises:
        ConfigurationError: there are files of another corpus, and `overwrite` is False.
    """
    written = [path.relative_to(new) for path in sorted(new.rglob("*.*"))]
    others = [path for path in _names() if path not in written and (target / path).is_file()]
    changed = [
        path for path in written
        if (target / path).exists() and (target / path).read_bytes() != (new / path).read_bytes()
    ]  # fmt: skip
    if not overwrite and (others or changed):
        raise ConfigurationError(
            f"{target / (others or changed)[0]} already exists, from another corpus. Choose another folder, or "
            "use --overwrite."
        )
    for path in written:
        (target / path).parent.mkdir(exist_ok=True)
        os.replace(new / path, target / path)
    for path in others:
        (target / path).unlink()


def _names() -> Iterator[Path]:
    """The files that a corpus may have."""
    for part, suffix in (("text", ".demo"), ("text_dev", "")):
        yield from (Path(part, f"{language}{suffix}.txt") for language in LANGUAGES)
    for task, (_, _, suffix) in _TASKS.items():
        yield from (Path(task, f"{language}.{split}.{suffix}") for language in LANGUAGES for split in SPLITS)


def _write_text(folder: Path, languages: Sequence[str], count: int, seed: int) -> None:
    for part, split, suffix, lines in (
        ("text", "train", ".demo", count),
        ("text_dev", "dev", "", min(_TEXT_DEV, count)),
    ):
        for language in languages:
            drawn = islice(_meanings(f"{part} {language} {seed}", split), lines)
            texts = (surface.sentence(meaning, language).text for meaning in drawn)
            _write_lines(folder / part / f"{language}{suffix}.txt", texts)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _json(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False)


def _topic_rows(drawn: Sequence[Meaning], language: str) -> Iterator[str]:
    for row in (_sentence(meaning, language) for meaning in drawn):
        yield _json({"id": row.id, "text": row.text, "label": row.topic})


def _ner_rows(drawn: Sequence[Meaning], language: str) -> Iterator[str]:
    for row in (_sentence(meaning, language) for meaning in drawn):
        for token, tag in zip(row.tokens, row.tags, strict=True):
            yield f"{token}\t{tag}"
        yield ""


def _nli_rows(drawn: Sequence[_PairMeaning], language: str) -> Iterator[str]:
    for row in (_pair(pair, language) for pair in drawn):
        yield _json({"id": row.id, "premise": row.premise, "hypothesis": row.hypothesis, "label": row.label})


def _qa_rows(drawn: Sequence[_QuestionMeaning], language: str) -> Iterator[str]:
    articles: dict[str, list[dict[str, Any]]] = {topic: [] for topic in TOPICS}
    for row in (_question(asked, language) for asked in drawn):
        answers = [{"text": row.answer, "answer_start": row.answer_start}]
        asked = {"id": row.id, "question": row.question, "answers": answers}
        articles[row.topic].append({"context": row.context, "qas": [asked]})
    data = [{"title": topic, "paragraphs": paragraphs} for topic, paragraphs in articles.items() if paragraphs]
    yield _json({"version": "1.1", "data": data})


# task: (draw meanings of a split, rows of a file, suffix)
_TASKS: dict[str, tuple[Callable[..., Iterator[Any]], Callable[[Any, str], Iterator[str]], str]] = {
    "topic": (_meanings, _topic_rows, "jsonl"),
    "ner": (_meanings, _ner_rows, "conll"),
    "nli": (_pair_meanings, _nli_rows, "jsonl"),
    "qa": (_question_meanings, _qa_rows, "json"),
}


def _write_task(folder: Path, task: str, languages: Sequence[str], rows: dict[str, int], seed: int) -> None:
    draw, lines, suffix = _TASKS[task]
    for split in SPLITS:
        drawn = list(islice(draw(f"{task} {split} {seed}", split), rows[split]))
        for language in languages if split == "test" else (SOURCE,):
            _write_lines(folder / task / f"{language}.{split}.{suffix}", lines(drawn, language))
