"""The encoder for MTEB: which adapter reads which side of a task, and MTEB's own mock tasks, offline."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.kinds import LINES
from xmodular import MtebEncoder, evaluate
from xmodular.embeddings import Embedder
from xmodular.errors import ConfigurationError, LanguageError

ENGLISH = ["All human beings are born free and equal in dignity", "The weather is nice today, is it not?"]
GERMAN = ["Alle Menschen sind frei und gleich an Würde geboren", "Das Wetter ist heute schön, nicht wahr?"]


@pytest.fixture
def encoder(different, monkeypatch):
    """It notes which adapter is asked to read what."""
    pytest.importorskip("mteb")
    made = MtebEncoder(different)
    read = made.embedder.read
    made.asked = []

    def noted(texts, readings):
        made.asked += [(text, reading.adapter) for text, reading in zip(texts, readings, strict=True)]
        return read(texts, readings)

    monkeypatch.setattr(made.embedder, "read", noted)
    return made


def task(languages: dict[str, list[str]], kind: str = "BitextMining") -> SimpleNamespace:
    return SimpleNamespace(name="some", type=kind, hf_subsets_to_langscripts=languages)


def ask(encoder, texts, about, subset, **more) -> list[str]:
    encoder.asked.clear()
    found = encoder.encode(
        [{"text": texts[:1]}, {"text": texts[1:]}], task_metadata=about, hf_split="test", hf_subset=subset, **more
    )
    assert found.shape == (len(texts), encoder.embedder.dimension)
    assert found.dtype == np.float32
    return [adapter for _, adapter in encoder.asked]


def test_sides_of_a_bitext_in_either_order_of_its_columns(encoder):
    about = task({"deu-eng": ["deu-Latn", "eng-Latn"]})
    assert ask(encoder, GERMAN, about, "deu-eng") == ["de_DE"] * 2
    assert ask(encoder, ENGLISH, about, "deu-eng") == ["en_XX"] * 2
    assert ask(encoder, ENGLISH, about, "deu-eng") == ["en_XX"] * 2  # the other column first
    assert ask(encoder, GERMAN, about, "deu-eng") == ["de_DE"] * 2
    assert ask(encoder, ["1", "2"], about, "deu-eng") == ["de_DE"] * 2  # nothing to tell by: as the task lists them


def test_columns_that_come_again_are_known_by_their_texts(encoder):
    """Nothing tells numbers apart but their order, which a repeated run may not keep."""
    about, first, second = task({"deu-eng": ["deu-Latn", "eng-Latn"]}), ["1", "2"], ["3", "4"]
    assert ask(encoder, first, about, "deu-eng") == ["de_DE"] * 2
    assert ask(encoder, second, about, "deu-eng") == ["en_XX"] * 2
    for texts, code in ((second, "en_XX"), (second, "en_XX"), (first, "de_DE"), (second, "en_XX")):
        assert ask(encoder, texts, about, "deu-eng") == [code] * 2
    assert ask(encoder, ["5", "6"], about, "deu-eng") == ["de_DE"] * 2  # other rows of the same name
    assert ask(encoder, ["7", "8"], about, "deu-eng") == ["en_XX"] * 2


def test_a_parallel_corpus_names_the_column_and_other_tasks_their_subset(encoder):
    about = task({"deu_Latn-swh_Latn": ["deu-Latn", "swh-Latn"]})
    assert ask(encoder, ENGLISH, about, "swh_Latn") == ["sw_KE"] * 2
    assert ask(encoder, ENGLISH, task({"sw": ["swh-Latn"]}, "Classification"), "sw") == ["sw_KE"] * 2
    mixed = task({"default": ["swh-Latn", "eng-Latn", "deu-Latn"]}, "Retrieval")
    assert ask(encoder, [ENGLISH[0], GERMAN[0]], mixed, "default") == ["en_XX", "de_DE"]


def test_a_language_that_the_model_lacks_is_named_or_read_as_said(encoder, different):
    about = task({"fr": ["fra-Latn"]}, "STS")
    with pytest.raises(LanguageError, match="in fra-Latn \\(French\\), which the model lacks"):
        ask(encoder, ENGLISH, about, "fr")
    other = MtebEncoder(different, default_language="sw")
    assert other._languages(ENGLISH, about, "test", "fr") == ["sw_KE"] * 2
    dialect = task({"gsw": ["gsw-Latn"]}, "STS")
    assert MtebEncoder(different, fallback="relative")._languages(GERMAN, dialect, "test", "gsw") == ["de_DE"] * 2


def test_prompts_by_kind(different, encoder):
    prompted = MtebEncoder(different, prompts={"query": "Frage: "}, prefix="Text: ")
    about = task({"default": ["deu-Latn"]}, "Retrieval")
    for kind, before in (("query", "Frage: "), ("document", "Text: "), (None, "Text: ")):
        found = prompted.encode(
            [{"text": GERMAN}], task_metadata=about, hf_split="test", hf_subset="default", prompt_type=kind
        )
        np.testing.assert_allclose(found, encoder.embedder([before + text for text in GERMAN], "de"), atol=1e-6)
    with pytest.raises(ConfigurationError, match="prompts has 'passage'"):
        MtebEncoder(different, prompts={"passage": ""})


def test_without_the_package_the_extra_is_named(different, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"xmodular\[mteb\]"):
        MtebEncoder(different)


def run(encoder, names, cache):
    mteb = pytest.importorskip("mteb")
    from mteb.mocks import ALL_MOCK_TASK_TEST_GRID

    tasks = [each for each in ALL_MOCK_TASK_TEST_GRID if names(each)]
    assert tasks
    found = mteb.evaluate(encoder, tasks, cache=None, raise_error=True, show_progress_bar=False)
    return {each.task_name: each for each in found.task_results}


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
def test_mock_tasks_of_mteb(different, tmp_path):
    """Their bitexts, and their accuracy by a computation of ours."""
    pytest.importorskip("mteb")
    from mteb.models.models_protocols import EncoderProtocol

    encoder = MtebEncoder(different, default_language="en")
    assert isinstance(encoder, EncoderProtocol)
    found = run(encoder, lambda each: "Bitext" in type(each).__name__, tmp_path)
    assert "MockBitextMiningTask" in found
    for result in found.values():
        for part in result.scores["test"]:
            assert 0 <= part["accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_mock_tasks_of_text(different, tmp_path):
    encoder = MtebEncoder(different, default_language="en")
    found = run(encoder, lambda each: set(each.metadata.modalities) == {"text"}, tmp_path)
    assert len(found) > 10


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
def test_bitext_accuracy_is_that_of_evaluate(encoders):
    """The same sentences, adapters and cosines, counted by MTEB, by sentence-transformers, and by us."""
    mteb = pytest.importorskip("mteb")
    util = pytest.importorskip("sentence_transformers").util
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.mocks.mock_tasks.bitext_mining import MockBitextMiningTask, general_args

    _, encoder = encoders["unigram"]
    words = [text.split() for text in (*LINES["de_DE"].split(". "), *LINES["en_XX"].split(". "))]
    draw = np.random.default_rng(0)
    german = [" ".join(draw.choice(words[n % 2], 7)) for n in range(60)]
    english = [" ".join([*text.split()[:-1], draw.choice(words[2])]) for text in german]

    class Bitext(MockBitextMiningTask):
        metadata = TaskMetadata(
            type="BitextMining",
            name="Bitext",
            main_score="accuracy",
            **{**general_args, "eval_langs": {"deu-eng": ["deu-Latn", "eng-Latn"]}},
        )

        def load_data(self, num_proc=None, **kwargs):
            rows = Dataset.from_dict({"sentence1": german, "sentence2": english})
            self.dataset = DatasetDict({"deu-eng": DatasetDict({"test": rows})})
            self.data_loaded = True

    found = mteb.evaluate(MtebEncoder(encoder), [Bitext()], cache=None, show_progress_bar=False)
    theirs = found.task_results[0].scores["test"][0]["accuracy"]
    embed = Embedder(encoder)
    hits = util.semantic_search(embed(german, "de"), embed(english, "en"), top_k=1)
    ours = evaluate(encoder, [{"de": de, "en": en} for de, en in zip(german, english, strict=True)])
    value = ours.value("de_DE", "own", "accuracy to pivot").value
    assert 0.1 < value < 1
    assert value == pytest.approx(theirs)
    assert value == pytest.approx(np.mean([each[0]["corpus_id"] == n for n, each in enumerate(hits)]))
