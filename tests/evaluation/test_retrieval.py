"""Retrieval of translations: files, adapters, duplicates and ties, and the figures against a plain computation."""

import json

import fsspec
import numpy as np
import pyarrow
import pytest
import torch

from xmodular import evaluate
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.evaluation.translations import Bitext, by_chance, measured
from xmodular.results import Results
from xmodular.tasks import load_saved, tokenizer_of
from xmodular.tasks.nearest import ranked, unit_vectors

WORDS = (
    *("house", "doctor", "bread", "good", "bad", "old", "opens", "likes", "nyumba", "daktari", "mkate", "nzuri"),
    *("mbaya", "alte", "Haus", "mag", "Brot", "gut"),
)


@pytest.fixture
def lines() -> dict[str, list[str]]:
    """Thirty lines in each language; translations share words, so that some are found."""
    draw = np.random.default_rng(0)
    kept = [[str(word) for word in draw.choice(WORDS, 6)] for _ in range(30)]
    return {
        code: [" ".join([*each[place:], code[:2], *each[:1]]) for each in kept]
        for place, code in enumerate(("en_XX", "de_DE", "sw_KE"))
    }


@pytest.fixture
def aligned(lines, tmp_path):
    folder = tmp_path / "aligned"
    folder.mkdir()
    for code, texts in lines.items():
        (folder / f"{code}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def encoder(make_model):
    return make_model("encoder", cls="XmodModel", source=None)


@torch.no_grad()
def by_hand(folder, texts, adapter: str | None, pooling: str = "mean") -> np.ndarray:
    """One text at a time; without an adapter, all of them add nothing."""
    model, tokenizer = load_saved(folder).eval(), tokenizer_of(load_saved(folder), None)
    if adapter is None:
        for name, weight in model.named_parameters():
            if ".adapter_modules." in name and "dense2" in name:
                weight.zero_()
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states = model(ids, lang_ids=model.lang_ids(adapter or "en_XX")).last_hidden_state[0]
        vector = states.mean(0) if pooling == "mean" else states[0]
        found.append((vector / vector.norm()).numpy())
    return np.stack(found)


def plainly(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Accuracy both ways and mean reciprocal rank from the whole matrix."""
    cosines = one @ other.T
    n = np.arange(len(one))
    ranks = [1 + (each > each.diagonal()[:, None]).sum(1) for each in (cosines, cosines.T)]
    return (ranks[0] == 1).mean(), (ranks[1] == 1).mean(), np.mean([(1 / each)[n].mean() for each in ranks])


@pytest.mark.parametrize(("condition", "adapter"), [("own", "de_DE"), ("source", "en_XX"), ("none", None)])
def test_figures_are_those_of_the_whole_matrix(encoder, aligned, lines, condition, adapter):
    results = evaluate(encoder, aligned, adapter=[condition])
    there, back, rank = plainly(
        by_hand(encoder, lines["de_DE"], adapter),
        by_hand(encoder, lines["en_XX"], None if adapter is None else "en_XX"),
    )
    assert 0 < there < 1
    said = {metric: results.value("de_DE", condition, metric).value for metric in results.metrics()}
    assert said == pytest.approx(
        {
            "accuracy": (there + back) / 2,
            "accuracy to pivot": there,
            "accuracy from pivot": back,
            "mean reciprocal rank": rank,
        }
    )
    score = results.value("de_DE", condition)
    assert score.low < score.value < score.high


def test_all_pairs_as_a_matrix_and_what_is_written(encoder, aligned, lines, tmp_path):
    results = evaluate(encoder, aligned, output_dir=tmp_path / "out", gate={"floors": {"default": 0.0, "sw": 1.0}})
    vectors = {code: by_hand(encoder, texts, code) for code, texts in lines.items()}
    matrix = results.pair_matrix()
    for row, one in enumerate(matrix.sources):
        for column, other in enumerate(matrix.languages):
            if one == other:
                assert matrix.values[row][column] is None
            else:
                assert matrix.values[row][column] == pytest.approx(plainly(vectors[one], vectors[other])[0])
    assert not results.passed
    assert Results.from_json(tmp_path / "out" / "results.json") == results
    assert {"pairs.png", "pairs.svg", "report.html"} <= {each.name for each in (tmp_path / "out").iterdir()}
    for name in ("report.html", "results.md"):
        assert "sentence in" in (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert not evaluate(encoder, aligned, pairs="pivot").pairs


def test_pairs_in_tables_with_and_without_a_header(encoder, aligned, lines, tmp_path):
    plain, named, rows = tmp_path / "de.all.tsv", tmp_path / "pairs.tsv", tmp_path / "de.jsonl"
    both = list(zip(lines["en_XX"], lines["de_DE"], strict=True))
    plain.write_text("".join(f"{en}\t{de}\n" for en, de in both), encoding="utf-8")
    named.write_text("en\tGerman\n" + plain.read_text(encoding="utf-8"), encoding="utf-8")
    rows.write_text("".join(json.dumps({"id": n, "a": en, "b": de}) + "\n" for n, (en, de) in enumerate(both)))
    expected = evaluate(encoder, aligned, languages="de").rows
    values = {(row.adapter, row.metric): row.value for row in expected}
    memory = [{"en": en, "de": de} for en, de in both]
    tuned = [{"text": en, "positive": de, "language": "en", "positive_language": "de"} for en, de in both]
    tables = ((plain, {}), (named, {}), (rows, {"columns": {"en": "a", "de": "b"}}), (memory, {}), (tuned, {}))
    for data, more in tables:
        found = evaluate(encoder, data, **more)
        assert {(row.adapter, row.metric): row.value for row in found.rows} == values
        assert found.languages() == ["de_DE"]


def test_a_folder_with_a_table_that_is_called_by_the_split(encoder, aligned, lines, tmp_path, capsys):
    """Columns say what test.jsonl is in. Other names that the model lacks are left out, and such files not opened."""
    both = list(zip(lines["en_XX"], lines["de_DE"], strict=True))
    folder = tmp_path / "tables"
    folder.mkdir()
    table = folder / "test.jsonl"
    table.write_text("".join(json.dumps({"id": n, "en": en, "de": de}) + "\n" for n, (en, de) in enumerate(both)))
    (folder / "mt.test.tsv").write_text("".join(f"{en}\t{de}\n" for en, de in both), encoding="utf-8")
    (folder / "notes.test.csv").write_text("a,a\n1,2\n")
    expected = evaluate(encoder, aligned, languages="de").value("de_DE")
    for data in (folder, str(folder / "*")):
        assert evaluate(encoder, data).value("de_DE") == expected
        assert "Left out, not among the model's languages: mt, notes" in capsys.readouterr().err
    table.rename(folder / "de.jsonl")
    (folder / "test.jsonl").write_text('{"en": "one", "de": "eins"}\n{"en": "two", "de": "zwei"}\n')
    assert evaluate(encoder, folder).value("de_DE").rows == 2  # the split, of a folder that has it
    (aligned / "test.txt").write_text("no language\n")
    assert evaluate(encoder, aligned, languages="de").value("de_DE") == expected
    (aligned / "test.txt").unlink()


def test_prefix_and_pooling(encoder, aligned, lines):
    results = evaluate(encoder, aligned, prefix="good ", pooling="first", adapter="own")
    one, other = ([f"good {text}" for text in lines[code]] for code in ("sw_KE", "en_XX"))
    there, _, _ = plainly(by_hand(encoder, one, "sw_KE", "first"), by_hand(encoder, other, "en_XX", "first"))
    assert results.value("sw_KE", "own", "accuracy to pivot").value == pytest.approx(there)
    assert results.about["vectors"][0]["prefix"] == "good "


def test_a_model_with_a_head_by_request_and_several_models(make_model, aligned):
    one, other = make_model("one"), make_model("two", seed=1, cls="XmodForMaskedLM")
    results = evaluate([one, other], aligned, task="retrieval")
    assert results.runs() == ["one", "two"]
    assert {each.language for each in results.comparisons if each.run == "two"} >= {"de_DE", "sw_KE", None}


def test_another_pivot_and_missing_translations(encoder, aligned, lines):
    (aligned / "sw_KE.txt").write_text("\n".join(["", *lines["sw_KE"][1:]]), encoding="utf-8")
    results = evaluate(encoder, aligned, pivot="sw")
    assert results.languages() == ["de_DE", "en_XX"]
    assert results.value("de_DE").rows == 29


def test_lines_without_a_translation_can_be_candidates(encoder, aligned, lines, tmp_path):
    german = [*lines["de_DE"][:20], *[""] * 10]
    (aligned / "de_DE.txt").write_text("\n".join(german) + "\n", encoding="utf-8")
    one, other = by_hand(encoder, lines["de_DE"][:20], "de_DE"), by_hand(encoder, lines["en_XX"], "en_XX")
    cosines = one @ other.T
    own = cosines.diagonal()[:, None]
    back = (1 / (1 + (own < cosines[:, :20].T).sum(1))).mean()
    hard, easy = ((1 / (1 + (cosines[:, :count] > own).sum(1))).mean() for count in (30, 20))
    said = {
        given: evaluate(encoder, aligned, candidates=given, languages=["de"], adapter="own").value(
            "de_DE", "own", "mean reciprocal rank"
        )
        for given in ("all", "paired")
    }
    assert hard < easy
    assert said["all"].value == pytest.approx((hard + back) / 2)
    assert said["paired"].value == pytest.approx((easy + back) / 2)
    assert said["all"].rows == said["paired"].rows == 20
    table = tmp_path / "pairs.jsonl"
    rows = [{"en": en, "de": de} for en, de in zip(lines["en_XX"], german, strict=True)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    again = evaluate(encoder, table, candidates="all", adapter="own")
    assert again.value("de_DE", "own", "mean reciprocal rank") == said["all"]
    bare = [{name: text for name, text in row.items() if text} for row in rows]  # columns that rows lack
    for given, order in (("all", [*bare[20:], *bare[:20]]), ("paired", bare)):
        table.write_text("".join(json.dumps(row) + "\n" for row in order), encoding="utf-8")
        again = evaluate(encoder, table, candidates=given, skip_bad_rows=given == "paired", adapter="own")
        assert again.value("de_DE", "own", "mean reciprocal rank").value == pytest.approx(said[given].value)
    table.write_text("".join(json.dumps({"en": en}) + "\n" for en in lines["en_XX"]), encoding="utf-8")
    with pytest.raises(DataError, match="has texts in en_XX only"):
        evaluate(encoder, table, candidates="all")


def test_duplicates_are_one_candidate_and_right_for_all_their_translations():
    bitext = Bitext.of(["a", "b", "c", "a"], ["x", "y", "y", "z"])
    assert bitext.one == ("a", "b", "c")
    assert len(set(bitext.units.tolist())) == 2  # a with x and z; b and c with y
    one = np.eye(4, dtype=np.float32)[[0, 1, 2]]
    other = np.eye(4, dtype=np.float32)[[0, 1, 3]]  # x near a, y near b, z near nothing
    found = measured(bitext, one, other, np.arange(4))
    # a finds x, which is right in both of its rows; b finds y; c is as far from all three, one of which is right.
    assert found["accuracy to pivot"].value == pytest.approx((1 + 1 + 1 / 3 + 1) / 4)
    # x finds a; y finds b, right for both rows; z is as far from all three.
    assert found["accuracy from pivot"].value == pytest.approx((1 + 1 + 1 + 1 / 3) / 4)


def test_ties_get_the_chance_of_drawing_a_right_one():
    same = np.ones((5, 3), np.float32) / np.sqrt(3)
    found = ranked(same, same, np.stack([np.arange(5)] * 2, 1))
    assert found.found == pytest.approx(np.full(5, 1 / 5))
    assert found.reciprocal == pytest.approx(np.full(5, 1 / 3))  # the expected rank of one of five
    assert not unit_vectors(np.array([[np.nan, 1.0], [0.0, 0.0]])).any()


def test_chunks_give_what_the_whole_gives(monkeypatch):
    draw = np.random.default_rng(1)
    one, other = (unit_vectors(draw.normal(size=(40, 8))) for _ in range(2))
    right = np.stack([np.arange(40), draw.permutation(40)], 1)
    whole = ranked(one, other, right)
    monkeypatch.setattr("xmodular.tasks.nearest._AT_ONCE", 120)
    parts = ranked(one, other, right)
    np.testing.assert_array_equal(whole.found, parts.found)
    np.testing.assert_array_equal(whole.reciprocal, parts.reciprocal)


def test_by_chance_is_what_equal_vectors_reach():
    bitext = Bitext.of([str(n) for n in range(8)], [str(n) for n in range(8)])
    assert by_chance(bitext)["accuracy"] == pytest.approx(1 / 8)


def test_translations_at_an_address(encoder, aligned):
    system = fsspec.filesystem("memory")
    system.put(f"{aligned}/", "/translations/", recursive=True)
    try:
        here = evaluate(encoder, aligned)
        for data in ("memory://translations", "memory://translations/*.txt"):
            assert [row.value for row in evaluate(encoder, data).rows] == [row.value for row in here.rows]
    finally:
        system.rm("/translations", recursive=True)


def test_packed_files_of_a_folder_are_read_like_others(encoder, aligned):
    expected = [row.value for row in evaluate(encoder, aligned).rows]
    plain = (aligned / "de_DE.txt").read_bytes()
    (aligned / "de_DE.txt").unlink()
    with pyarrow.CompressedOutputStream(aligned / "de_DE.TXT.zst", "zstd") as file:
        file.write(plain)
    assert [row.value for row in evaluate(encoder, aligned).rows] == expected


def test_a_column_of_numbers_is_no_language(encoder, lines):
    both = zip(lines["en_XX"], lines["sw_KE"], strict=True)
    rows = [{"ID": f"a{n}", "de": str(n), "en": en, "sw": sw} for n, (en, sw) in enumerate(both)]
    with pytest.raises(DataError, match="the column 'de' is taken for de_DE, but no text in it has a letter"):
        evaluate(encoder, rows)


def test_what_is_refused(encoder, aligned, tmp_path):
    (aligned / "de_DE.txt").write_text("zwei\nZeilen\n")
    with pytest.raises(DataError, match=r"has 2 lines"):
        evaluate(encoder, aligned)
    with pytest.raises(DataError, match="is alone"):
        evaluate(encoder, aligned / "en_XX.txt")
    with pytest.raises(DataError, match="There is no file or folder"):
        evaluate(encoder, tmp_path / "none")
    with pytest.raises(LanguageError, match="tlh"):
        evaluate(encoder, {"tlh": aligned / "en_XX.txt", "en": aligned / "sw_KE.txt"})
    with pytest.raises(LanguageError):
        evaluate(encoder, aligned, pivot="fr")
    with pytest.raises(ConfigurationError, match=r"--predictions is for .*; this is an evaluation by retrieval"):
        evaluate(encoder, aligned, predictions=True, output_dir=tmp_path / "out")
    (tmp_path / "other.tsv").write_text("source\ttarget\nhouse\tHaus\n")
    with pytest.raises(DataError, match="must be called as languages"):
        evaluate(encoder, tmp_path / "other.tsv")
