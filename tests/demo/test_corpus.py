"""The embedded corpus: what it promises about sentences, labels, splits and files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from xmodular.demo import grammar, meanings, surface
from xmodular.demo.grammar import Reference
from xmodular.demo.parallel_corpus import LANGUAGES, TOPICS, Sentence, pairs, questions, sentences, write_corpus
from xmodular.errors import ConfigurationError, DataError, InputError, LanguageError

PINNED = Path(__file__).with_name("pinned.txt")

DIGEST = """
import hashlib, sys
from xmodular.demo.parallel_corpus import LANGUAGES, pairs, questions, sentences
digest = hashlib.sha256()
for language in LANGUAGES:
    for make in (sentences, pairs, questions):
        for row in make(language, 40, seed=3):
            digest.update(repr(row).encode())
print(digest.hexdigest(), "torch" in sys.modules)
"""


def _plain(text: str) -> str:
    return re.sub(r"[\[\]]", "", text)


def _meaning(block: str) -> tuple[meanings.Meaning, dict[str, str]]:
    """A meaning and what it says, from a block of pinned.txt."""
    head, *lines = block.splitlines()
    topic, frame, *wrap = head.split()
    values, said = {}, {}
    for line in lines:
        if line.startswith("  "):
            slot, option = line.strip().split(" = ")
            options = meanings.slots_of(topic)[slot].forms["en_XX", ""]
            values[slot] = [_plain(text) for text in options].index(option)
        else:
            language, text = line.split(": ")
            said[language] = text
    return meanings.Meaning(topic, frame, tuple(sorted(values.items())), "".join(wrap)), said


BLOCKS = [block for block in PINNED.read_text(encoding="utf-8").split("\n\n") if not block.startswith("#")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_hand_checked_sentences(block: str) -> None:
    meaning, said = _meaning(block)
    assert {language: surface.sentence(meaning, language).text for language in LANGUAGES} == said


def test_hand_checked_questions() -> None:
    meaning, _ = _meaning(BLOCKS[0])
    ask = next(question for question in meanings.frame_of(meaning).questions if "T" in question.slots)
    named = {slot: option for slot, option in meaning.values if slot != "T"} | {"W": 0}
    assert [surface.question(meaning, ask.templates[language], named, language) for language in LANGUAGES] == [
        "When did Anna Keller win the race in Madrid?",
        "Wann gewann Anna Keller in Madrid das Rennen?",
        "¿Cuándo ganó Anna Keller la carrera en Madrid?",
        "Quand est-ce qu'Anna Keller a gagné la course à Madrid ?",
        "Kapan Anna Keller memenangkan lomba di Madrid?",
        "Anna Keller Madrid'de yarışı ne zaman kazandı?",
        "Когда Анна Келлер выиграла гонку в Мадриде?",
        "Anna Keller alishinda mbio mjini Madrid lini?",
    ]


def test_the_same_everywhere_and_without_torch() -> None:
    printed = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", DIGEST]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        printed.add(run.stdout)
    assert len(printed) == 1
    assert printed.pop().split()[1] == "False"


def test_seeds_differ() -> None:
    first, second = ({row.id for row in sentences("en_XX", 100, seed=seed)} for seed in (0, 1))
    assert len(first & second) < 5


@pytest.fixture(scope="module")
def parallel() -> dict[str, list[Sentence]]:
    return {language: list(sentences(language, 1200)) for language in LANGUAGES}


def test_sentences_are_parallel(parallel: dict[str, list[Sentence]]) -> None:
    for rows in zip(*parallel.values(), strict=True):
        assert len({(row.id, row.topic) for row in rows}) == 1
        entities = {tuple(sorted(tag for tag in row.tags if tag.startswith("B-"))) for row in rows}
        assert len(entities) == 1, [row.text for row in rows]
        numbers = {tuple(sorted(re.findall(r"\d+", row.text))) for row in rows}
        assert len(numbers) == 1, [row.text for row in rows]


def test_tokens_and_spaces_give_the_text(parallel: dict[str, list[Sentence]]) -> None:
    for rows in parallel.values():
        for row in rows:
            joined = "".join(token + " " * space for token, space in zip(row.tokens, row.spaces, strict=True))
            assert joined == row.text
            assert row.text.endswith(".")
            assert row.text[0].isupper() or row.text[0].isdigit()
            assert not re.search(r"[\[\]{}~|]|  ", row.text)


def _spans(row: Sentence) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for token, tag in zip(row.tokens, row.tags, strict=True):
        if tag.startswith("B-"):
            found.append((tag[2:], token))
        elif tag.startswith("I-"):
            assert found
            assert found[-1][0] == tag[2:]
            found[-1] = (tag[2:], f"{found[-1][1]} {token}")
    return found


def test_tags_are_on_the_names_and_nowhere_else(parallel: dict[str, list[Sentence]]) -> None:
    shared = grammar.load("shared").slots
    organisations = set(shared["organisation"].forms["en_XX", "name"])
    for topic in TOPICS:
        organisations |= set(grammar.load(topic).slots["organisation"].forms["en_XX", "name"])
    for language, rows in parallel.items():
        persons = {
            _plain(text)
            for form in ("", "latin")
            for text in meanings.slots_of("sport")["P"].forms.get((language, form), ())
        }
        places = {
            re.search(r"\[(.*)\]", text)[1]
            for (code, form), texts in meanings.slots_of("sport")["L"].forms.items()
            if code == language
            for text in texts
        }
        places |= {
            re.search(r"\[(.*)\]", text)[1]
            for (code, form), texts in shared["city"].forms.items()
            if code == language and form not in ("name",)
            for text in texts
        }
        known = {"PER": persons, "LOC": places, "ORG": organisations}
        for row in rows:
            for kind, name in _spans(row):
                bare = name.split("'")[0] if language == "tr_TR" else name
                assert bare in known[kind], (row.text, name)
            for token, tag in zip(row.tokens, row.tags, strict=True):
                if token.split("'")[0] in places:
                    assert tag == "B-LOC", row.text


def test_there_are_many_sentences_and_no_two_alike() -> None:
    rows = list(sentences("sw_KE", 50_000, seed=7))
    assert len({row.text for row in rows}) == len({row.id for row in rows}) == 50_000


def test_vocabulary_is_compact(parallel: dict[str, list[Sentence]]) -> None:
    for language, rows in parallel.items():
        words = {token for row in rows for token, tag in zip(row.tokens, row.tags, strict=True) if tag == "O"}
        assert 150 < len(words) < 500, language


def test_topics_and_labels_are_balanced(parallel: dict[str, list[Sentence]]) -> None:
    assert Counter(row.topic for row in parallel["en_XX"]) == dict.fromkeys(TOPICS, 200)
    labels = Counter(pair.label for pair in pairs("de_DE", 600))
    assert labels == {"entailment": 200, "neutral": 200, "contradiction": 200}


def _accuracy(texts: list[str], labels: list[str]) -> float:
    """Of naive Bayes over words and word pairs, trained on three quarters."""
    counts = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2)).fit_transform(texts)
    half = len(texts) * 3 // 4
    return float(MultinomialNB().fit(counts[:half], labels[:half]).score(counts[half:], labels[half:]))


def test_the_hypothesis_alone_does_not_tell_the_label() -> None:
    rows = list(pairs("en_XX", 4000))
    assert _accuracy([row.hypothesis for row in rows], [row.label for row in rows]) < 0.40


def test_words_tell_the_topic_and_names_do_so_in_part() -> None:
    rows = list(sentences("en_XX", 2400, seed=2))
    topics = [row.topic for row in rows]

    def kept(*kinds: str) -> list[str]:
        tagged = (zip(row.tokens, row.tags, strict=True) for row in rows)
        return [" ".join(token for token, tag in row if tag[2:] in kinds or tag in kinds) for row in tagged]

    words = _accuracy(kept("O"), topics)
    assert words > 0.95
    assert 0.25 < _accuracy(kept("PER", "ORG", "LOC"), topics) < words - 0.3
    assert _accuracy(kept("PER", "LOC"), topics) < 0.27  # persons and places say nothing about the topic


def test_premises_relate_to_hypotheses_as_labelled() -> None:
    for label in ("entailment", "neutral", "contradiction"):
        for index in range(200):
            rng = meanings.random.Random(f"{label} {index}")
            premise, hypothesis = meanings.draw_pair(rng, TOPICS[index % 6], label)
            slots = meanings.slots_of(premise.topic)
            given, claimed = dict(premise.values), dict(hypothesis.values)
            differ = {slot for slot in given.keys() & claimed.keys() if given[slot] != claimed[slot]}
            lost = claimed.keys() - given.keys()
            assert premise.frame == hypothesis.frame
            assert premise != hypothesis
            if label == "contradiction":
                assert len(differ) == 1
                assert not lost
                slot = differ.pop()
                assert given[slot] in slots[slot].rivals(claimed[slot])
            else:
                general = claimed if label == "entailment" else given
                assert all(slots[slot].kind == "kinds" and general[slot] == 0 for slot in differ)
                assert (len(lost) + len(differ) == 1) if label == "neutral" else not lost


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_stand_in_their_contexts(language: str) -> None:
    english = questions("en_XX", 300)
    for row, other in zip(questions(language, 300), english, strict=True):
        assert row.id == other.id
        assert row.answer
        assert row.context[row.answer_start : row.answer_start + len(row.answer)] == row.answer
        assert 3 <= len(re.findall(r"\.(?: |$)", row.context)) <= 5
        assert row.question.endswith("?")
        if row.id.endswith("-N"):
            assert row.answer == other.answer


def test_references_of_templates_have_their_forms() -> None:
    for topic in TOPICS:
        slots = meanings.slots_of(topic)
        for frame in grammar.load(topic).frames.values():
            for templates in (frame.templates, *(question.templates for question in frame.questions)):
                for language, template in templates.items():
                    for part in (part for word in template for part in word if isinstance(part, Reference)):
                        slot, place = slots[part.slot], f"{topic}.{frame.name} {language} {part}"
                        if part.form not in ("", "P"):
                            assert (language, part.form) in slot.forms, place
                        if part.choices != ("",):
                            genders = slot.forms.get((language, "g"))
                            needed = max(map("mfn".index, genders)) + 1 if genders else slot.groups[-1][0].stop
                            assert len(part.choices) >= needed, place


# ---------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(
        tmp_path_factory.mktemp("corpus") / "demo", sentences_per_language=400, task_train=120, task_test=60
    )


def _sentences_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return set(text.splitlines())
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        return {row[key] for row in rows for key in ("text", "premise", "hypothesis") if key in row}
    if path.suffix == ".json":
        contexts = [p["context"] for article in json.loads(text)["data"] for p in article["paragraphs"]]
        return {sentence for context in contexts for sentence in re.split(r"(?<=\.) ", context)}
    blocks = [[line.split("\t")[0] for line in block.splitlines()] for block in text.strip().split("\n\n")]
    return {" ".join(block) for block in blocks}


def _squeezed(path: Path) -> set[str]:
    return {re.sub(r"\s", "", sentence) for sentence in _sentences_in(path)}


def test_layout(folder: Path) -> None:
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = {f"text/{language}.demo.txt" for language in LANGUAGES}
    wanted |= {f"text_dev/{language}.txt" for language in LANGUAGES}
    for task, suffix in (("topic", "jsonl"), ("ner", "conll"), ("nli", "jsonl"), ("qa", "json")):
        wanted |= {f"{task}/{language}.test.{suffix}" for language in LANGUAGES}
        wanted |= {f"{task}/en_XX.{split}.{suffix}" for split in ("train", "dev")}
    assert written == wanted
    assert sorted(path.name for path in folder.parent.iterdir()) == ["demo"]


def test_no_test_sentence_is_ever_read_before(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    test = set().union(*(_squeezed(path) for path in files if ".test." in path.name))
    before = set().union(*(_squeezed(path) for path in files if ".test." not in path.name))
    dev = set().union(*(_squeezed(path) for path in files if ".dev." in path.name or path.parent.name == "text_dev"))
    train = set().union(*(_squeezed(path) for path in files if ".train." in path.name or path.parent.name == "text"))
    assert len(test) > 3000
    assert not test & before
    assert not dev & train


def test_text_is_not_line_parallel(folder: Path) -> None:
    lines = [
        (folder / "text" / f"{language}.demo.txt").read_text(encoding="utf-8").splitlines() for language in LANGUAGES
    ]
    numbers = [[re.findall(r"\d+", line) for line in language] for language in lines]
    for first, second in pairwise(numbers):
        same = sum(one == other for one, other in zip(first, second, strict=True) if one)
        assert same < 40
    assert all(len(set(language)) == 400 for language in lines)


def test_test_files_are_parallel(folder: Path) -> None:
    for task in ("topic", "nli"):
        keys = set()
        for language in LANGUAGES:
            rows = (folder / task / f"{language}.test.jsonl").read_text(encoding="utf-8").splitlines()
            keys.add(tuple((row["id"], row["label"]) for row in map(json.loads, rows)))
        assert len(keys) == 1
        assert len(keys.pop()) == 60


def test_written_again_it_is_the_same_and_leaves_other_files(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "demo"
    (target / "text").mkdir(parents=True)
    mine = [target / "notes.txt", target / "text" / "old.txt"]
    for path in mine:
        path.write_text("mine", encoding="utf-8")
    (target / "text" / "de_DE.demo.txt").write_text("of another corpus", encoding="utf-8")
    sizes = {"sentences_per_language": 400, "task_train": 120, "task_test": 60, "languages": ("en", "Swahili")}
    with pytest.raises(ConfigurationError, match=r"de_DE\.demo\.txt already exists, from another corpus"):
        write_corpus(target, **sizes)
    write_corpus(target, **sizes, overwrite=True)
    write_corpus(target, **sizes)  # the same once more
    assert all(path.read_text(encoding="utf-8") == "mine" for path in mine)
    assert sorted(path.name for path in (target / "text").iterdir()) == ["en_XX.demo.txt", "old.txt", "sw_KE.demo.txt"]
    for path in target.rglob("*.*"):
        if path not in mine:
            assert path.read_bytes() == (folder / path.relative_to(target)).read_bytes()


# ---------------------------------------------------------------- errors


def test_unknown_language() -> None:
    with pytest.raises(LanguageError, match=r"'xx'.*en_XX.*sw_KE"):
        sentences("xx", 1)
    with pytest.raises(LanguageError, match="Basque"):
        write_corpus("never", languages=("en_XX", "Basque"))
    assert not Path("never").exists()


def test_english_and_rows_are_needed(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="en_XX"):
        write_corpus(tmp_path / "a", languages=("de_DE",))
    with pytest.raises(InputError, match="task_test is 0"):
        write_corpus(tmp_path / "a", task_test=0)
    with pytest.raises(InputError, match="-1"):
        pairs("en_XX", -1)
    assert not list(tmp_path.iterdir())


GOOD = "slot day exclusive\nall: a | b\n\nframe go\nall: {day} x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("all: a", "en de: a"), "languages missing"),
        (GOOD + "\nen: y", "twice|'en'"),
        (GOOD.replace("all: {day} x", "en: {day} x\nde es fr id tr ru sw: x"), "English has"),
        (GOOD.replace("all: a | b", "all: a | b\nde.acc: a"), "options"),
        (GOOD.replace("a | b", "a | a"), "two meanings with the same text"),
        (GOOD.replace("exclusive", "often"), "kind 'often'"),
        (GOOD.replace("all: a", "xx: a"), "xx: a"),
        ("verb go\nall: x", "must begin with"),
    ],
)
def test_grammars_are_checked(text: str, message: str) -> None:
    grammar.parse(GOOD, "good")
    with pytest.raises(DataError, match=message):
        grammar.parse(text, "bad")
