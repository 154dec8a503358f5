"""Where test data comes from: folders, files with a column, several at once; and what is wrong with it."""

import gzip
import json
import shutil

import pytest
import torch
from seqeval.metrics import recall_score
from sklearn.metrics import accuracy_score, f1_score
from typer.testing import CliRunner

from xmodular import Predictor, evaluate
from xmodular.cli import app
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.results import Results
from xmodular.tasks import load_saved


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def model(make_model):
    return make_model("topic", 1)


def test_one_file_with_a_column_of_languages(model, feelings, tmp_path, capsys):
    rows = []
    for name, path in (("German", "de_DE"), ("sw", "sw_KE"), ("ta", "sw_KE")):
        lines = (feelings / f"{path}.test.jsonl").read_text(encoding="utf-8").splitlines()
        rows += [{**json.loads(line), "lang": name} for line in lines]
    rows.sort(key=lambda row: row["id"])  # mixed
    path = write(tmp_path / "all.jsonl", rows)
    results = evaluate(model, path, columns={"language": "lang"})
    apart = evaluate(model, feelings, languages=("de", "sw"))
    assert set(results.languages()) == {"de_DE", "sw_KE"}
    for code in results.languages():
        assert results.value(code).value == apart.value(code).value
    assert "Left out, not among the model's languages: ta" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"all.jsonl:1: the row has no language.*--columns language=<column>"):
        evaluate(model, path)


def test_several_places_and_kinds(model, feelings, tmp_path):
    rows = [json.loads(line) for line in (feelings / "sw_KE.test.jsonl").read_text(encoding="utf-8").splitlines()]
    (tmp_path / "csv").mkdir()
    lines = ["review,stars", *(f"{row['text']},{row['label']}" for row in rows)]
    (tmp_path / "csv" / "sw_KE.test.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = {"text": "review", "label": "stars"}
    results = evaluate(model, tmp_path / "csv", columns=columns)
    both = evaluate(model, [feelings / "de_DE.test.jsonl", feelings / "sw*"])
    assert set(both.languages()) == {"de_DE", "sw_KE"}
    assert results.value("sw_KE") == both.value("sw_KE")


def test_suffixes_in_letters_of_any_size(model, feelings, tmp_path):
    for path in feelings.glob("*.test.jsonl"):
        packed = tmp_path / f"{path.name.split('.')[0]}.test.JSONL.GZ"
        packed.write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "de_DE.latest.jsonl").write_text("no row")
    assert evaluate(model, tmp_path).rows == evaluate(model, feelings).rows
    with pytest.raises(DataError, match=r"no files <language>\.dev\.jsonl \(or \.json, .*\.conllu\.gz\) in"):
        evaluate(model, tmp_path, split="dev")


def test_a_language_named_beside_its_file(model, feelings, tmp_path, capsys):
    held = shutil.copy(feelings / "de_DE.test.jsonl", tmp_path / "held.jsonl")
    results = evaluate(model, [f"German={held}", feelings / "sw_KE.test.jsonl"])
    by_mapping = evaluate(model, {"de": held})
    assert set(results.languages()) == {"de_DE", "sw_KE"}
    assert results.value("de_DE") == by_mapping.value("de_DE")
    with pytest.raises(DataError, match=r"held.jsonl:1: the row has no language: give --data <language>=.*held"):
        evaluate(model, held)
    with pytest.raises(DataError, match=r"Two files for de_DE: .*de_DE\.test\.jsonl and .*held\.jsonl"):
        evaluate(model, [f"de={held}", feelings / "de_DE.test.jsonl"])
    with pytest.raises(DataError, match=r"Two files for de_DE"):
        evaluate(model, [f"de={held}", f"German={held}"])
    with pytest.raises(LanguageError, match="Tamil"):
        evaluate(model, f"Tamil={held}")
    with pytest.raises(DataError, match=r"There is no file absent\.jsonl"):
        evaluate(model, "de=absent.jsonl")
    words = f"evaluate --model {model} --data German={held},{feelings / 'sw_KE.test.jsonl'}".split()
    done = CliRunner().invoke(app, [*words, "--output-dir", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    there = Results.from_json(tmp_path / "out" / "results.json")
    assert there.rows == results.rows
    assert f"--data German={held}," in there.about["command"]


def test_paths_with_an_equals_sign_are_paths(model, feelings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("lang=de/de.test.jsonl", "de=x.jsonl/sw.test.jsonl", "sw=all.jsonl"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        write(tmp_path / path, [{"text": "gut", "label": "glad", "language": "en_XX"}] * (1 + len(path)))
    both = evaluate(model, ["lang=de", "de=x.jsonl"])
    assert [(code, both.value(code).rows) for code in both.languages()] == [("de_DE", 22), ("sw_KE", 25)]
    assert evaluate(model, "lang=*/de.*").languages() == ["de_DE"]
    assert evaluate(model, "sw=all.jsonl").languages() == ["en_XX"]
    with pytest.raises(DataError, match=r"There is no file or folder lang=sw/sw\.test\.jsonl"):
        evaluate(model, "lang=sw/sw.test.jsonl")


def test_a_data_set_with_some_of_the_languages(model, feelings, tmp_path, monkeypatch, capsys):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "set"
    for code in ("en_XX", "sw_KE"):
        (folder / code[:2]).mkdir(parents=True)
        shutil.copy(feelings / f"{code}.test.jsonl", folder / code[:2] / "test.jsonl")
    header = "".join(f"- config_name: {code}\n  data_dir: {code}\n" for code in ("en", "sw"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{header}---\n")
    place = f"hub:{folder}:{{subtag}}:test"
    results = evaluate(model, place)
    assert results.languages() == ["en_XX", "sw_KE"]
    assert results.value("sw_KE") == evaluate(model, feelings).value("sw_KE")
    assert f"Leftout,notin{place}:de_DE" in "".join(capsys.readouterr().err.split())
    assert evaluate(model, place, languages=("sw",)).languages() == ["sw_KE"]
    both = [place, feelings / "de_DE.test.jsonl"]
    assert evaluate(model, both, languages=("sw", "de")).languages() == ["sw_KE", "de_DE"]
    with pytest.raises(LanguageError, match=r"no language 'de' here.* languages are: sw_KE"):
        evaluate(model, place, languages=("sw", "de"))
    with pytest.raises(DataError, match=r"has none of de; it has en, sw"):
        evaluate(model, place, languages=("de",))


def test_two_files_for_a_language(model, feelings, tmp_path):
    write(tmp_path / "more" / "de.test.jsonl", [{"text": "gut", "label": "glad"}])
    with pytest.raises(DataError, match=r"Two files for de_DE: .*de_DE\.test\.jsonl and .*de\.test\.jsonl"):
        evaluate(model, [feelings, tmp_path / "more"])


def test_one_row(model, tmp_path):
    path = write(tmp_path / "de.test.jsonl", [{"text": "gut", "label": "glad"}])
    results = evaluate(model, {"de": path}, output_dir=tmp_path / "out")
    score = results.value("de_DE")
    assert score.value in (0.0, 1.0)
    assert (score.low, score.high, score.rows) == (0.0, 1.0, 1)  # it says nothing of other rows
    assert (tmp_path / "out" / "report.html").is_file()


def test_what_is_wrong_with_files(model, feelings, tmp_path, capsys):
    (tmp_path / "empty.de.jsonl").touch()
    with pytest.raises(DataError, match=r"empty.de.jsonl has no rows"):
        evaluate(model, {"de": tmp_path / "empty.de.jsonl"})
    with pytest.raises(DataError, match="There is no file or folder nowhere"):
        evaluate(model, "nowhere")
    with pytest.raises(DataError, match=r"There are no files .*\.zip"):
        evaluate(model, str(tmp_path / "*.zip"))
    bad = write(tmp_path / "sw.test.jsonl", [{"text": "mto", "label": "sad"}, {"text": "mto"}, {"label": "sad"}])
    with pytest.raises(DataError, match=r"sw.test.jsonl:2: .*the field for the gold"):
        evaluate(model, bad)
    results = evaluate(model, bad, skip_bad_rows=True)
    assert results.value("sw_KE").rows == 1
    assert "2 bad rows were skipped" in capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(LanguageError, match="Tamil"):
        evaluate(model, feelings, languages=("Tamil",))
    write(tmp_path / "far" / "ta.test.jsonl", [{"text": "x", "label": "sad"}])
    with pytest.raises(DataError, match="None of the files is in one of the model's languages: en_XX, de_DE, sw_KE"):
        evaluate(model, tmp_path / "far")


def test_names_of_files_that_are_no_language_of_the_model(model, feelings, tmp_path, capsys):
    row = {"text": "gut", "label": "glad"}
    for name in ("mt", "gsw", "de"):
        write(tmp_path / "folder" / f"{name}.test.jsonl", [row])
    assert evaluate(model, tmp_path / "folder").languages() == ["de_DE"]
    assert "Left out, not among the model's languages: gsw, mt" in capsys.readouterr().err
    assert set(evaluate(model, tmp_path / "folder", fallback="relative").languages()) == {"gsw", "de_DE"}
    assert "Left out, not among the model's languages: mt" in capsys.readouterr().err
    assert evaluate(model, tmp_path / "folder" / "gsw.test.jsonl", fallback="relative").rows
    qa = write(tmp_path / "qa.jsonl", [{**row, "language": "de"}])
    assert evaluate(model, qa).languages() == ["de_DE"]
    for place in (write(qa, [row]), tmp_path / "folder" / "mt.test.jsonl"):
        with pytest.raises(DataError, match=rf"{place.name}:1: the row has no language: give --data <language>="):
            evaluate(model, place)


@pytest.mark.parametrize("skip_bad_rows", [False, True])
def test_labels_that_the_model_lacks_are_wrong(model, tmp_path, skip_bad_rows, capsys):
    rows = [{"text": "gut", "label": label} for label in ["calm", "glad", "sad", "proud", "shy", "proud"]]
    path = write(tmp_path / "de.test.jsonl", rows)
    results = evaluate(model, path, skip_bad_rows=skip_bad_rows, output_dir=tmp_path / "out", predictions=True)
    made = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    gold, predicted = [row["gold"] for row in made[:6]], [row["prediction"]["label"] for row in made[:6]]
    assert gold == [row["label"] for row in rows]
    assert results.value("de_DE").rows == 6
    assert results.value("de_DE").value == accuracy_score(gold, predicted) == 1 / 6
    macro = f1_score(gold, predicted, average="macro", zero_division=0)
    assert results.value("de_DE", metric="macro-F1").value == pytest.approx(macro)
    assert results.value("de_DE", "majority").value == 1 / 3
    said = " ".join(capsys.readouterr().err.split())
    assert "3 of 6 rows have labels that topic does not know, and count as wrong: proud, shy" in said


def test_tags_that_the_model_lacks_are_missed(make_model, tmp_path, capsys):
    model = make_model("tags", cls="XmodForTokenClassification", id2label={0: "O", 1: "B-PER", 2: "I-PER"})
    (row,) = Predictor(model)([["gut", "Brot", "mag"]], "de")
    said = row["tags"]
    names = ([*said[:2], "B-PER"], ["B-MISC", "O", "O"], ["O", "B-MISC", "O"])
    rows = [{"words": ["gut", "Brot", "mag"], "tags": tags} for tags in names]
    results = evaluate(model, write(tmp_path / "de.test.jsonl", rows))
    recall = recall_score(list(names), [said] * 3, zero_division=0)
    assert results.value("de_DE", metric="recall").value == pytest.approx(recall)
    assert 0 <= recall < 1
    told = " ".join(capsys.readouterr().err.split())
    assert "2 of 3 rows have labels that tags does not know, and count as wrong: B-MISC" in told
    alien = write(tmp_path / "sw.test.jsonl", rows[1:])  # that both have O says nothing
    with pytest.raises(DataError, match=r"none of its labels .* It has B-MISC, O; tags has O, B-PER, I-PER"):
        evaluate(model, alien)
    plain = write(tmp_path / "en.test.jsonl", [{"words": ["gut"], "tags": ["O"]}])
    assert evaluate(model, plain).value("en_XX").rows == 1


def test_what_is_wrong_with_options(model, feelings, tmp_path):
    with pytest.raises(ConfigurationError, match="--predictions needs --output-dir"):
        evaluate(model, feelings, predictions=True)
    with pytest.raises(ConfigurationError, match="--adapter names an adapter twice"):
        evaluate(model, feelings, adapter=("none", "none"))
    with pytest.raises(ConfigurationError, match="--model is empty"):
        evaluate([], feelings)
    with pytest.raises(ConfigurationError, match="the task classify has no field 'colour'"):
        evaluate(model, feelings, columns={"colour": "x"})


def test_room_is_that_of_the_fine_tuning(make_model, tmp_path):
    path = write(tmp_path / "de.test.jsonl", [{"text": "gut " * n, "label": "glad"} for n in range(1, 40)])

    def scores(model, **options):
        results = evaluate(
            model, path, adapter=("right",), output_dir=tmp_path / "o", predictions=True, overwrite=True, **options
        )
        lines = (tmp_path / "o" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        assert results.value("de_DE").rows == 39
        return [json.loads(line)["prediction"]["score"] for line in lines]

    plain, short = make_model("plain", 4), make_model("short", 4, task_max_length=10, task_stride=2)
    assert scores(short) == scores(plain, max_length=10)
    assert scores(short) != scores(plain)


def test_an_output_folder_that_cannot_be_is_found_out_first(model, feelings, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"--output-dir .*file/out cannot be created: .*file is a file"):
        evaluate(model, feelings, output_dir=tmp_path / "file" / "out")
    assert "Evaluating" not in capsys.readouterr().err


def test_outputs_that_are_no_numbers_are_named(model, feelings, capsys):
    broken = load_saved(model)
    torch.nn.init.constant_(broken.classifier.out_proj.weight, float("nan"))
    evaluate(broken, feelings, adapter=("right",))
    assert "are infinite or NaN for 90 of 90 inputs" in " ".join(capsys.readouterr().err.split())
