"""Refusals say what is wrong and what to do, and nothing that is named in them acts on a terminal."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import is_flash_attn_2_available
from typer.testing import CliRunner

import xmodular
from tests.support import tiny_config
from tests.training.nursery import Nursery
from xmodular import cli
from xmodular.charts.pictures import Point, bar_picture
from xmodular.console import terminal
from xmodular.errors import ConfigurationError, DataError, InputError, LanguageError, PackError, visible
from xmodular.hub import on_hub, refusal
from xmodular.languages import resolve
from xmodular.packs import read_pack
from xmodular.rows import BadRows, read_rows
from xmodular.tasks import task_named, tokenizer_of
from xmodular.training import Run, finetune
from xmodular.training.log import RunLog
from xmodular.vocabulary import load_tokenizer

HOSTILE = "a\x1b]0;owned\x07b\u202ec\x9bd"
SHOWN = r"a\x1b]0;owned\x07b\u202ec\x9bd"


def invoke(*words: object):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("finetun", "There is no command 'finetun'; did you mean finetune?"),
        ("pack instal x", "There is no command 'instal'; did you mean install"),
        ("finetune -m x", "There is no option -m; did you mean --model or"),
        ("finetune --max_step 4", "There is no option --max_step; did you mean --max-steps?"),
        ("finetune --modle=x", "There is no option --modle; did you mean --model"),
        ("finetune x", "'x' does not belong to an option: give values as --name value."),
        ("finetune --seed x", "--seed must be a whole number; got 'x'."),
        ("finetune --learning-rate fast", "--learning-rate must be a number; got 'fast'."),
        ("--verison", "There is no option --verison; did you mean --version?"),
        ("finetune --config nowhere.yaml", "There is no configuration file nowhere.yaml."),
    ],
)
def test_a_slip_on_the_command_line_is_answered_in_one_line(words, said):
    run = invoke(*words.split())
    assert run.exit_code == 2
    assert run.stderr.startswith(f"Error: {said}")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "near"), [("ner", "tag"), ("NER", "tag"), ("clasify", "classify"), ("sts", "regress"), ("copa", "choice")]
)
def test_a_task_by_another_name_is_answered_with_ours(name, near):
    with pytest.raises(ConfigurationError, match=f"did you mean {near}?"):
        task_named(name)


@pytest.mark.parametrize("name", ["Deutsh", "Germn", "Deutschh"])
def test_a_language_that_is_misspelt_in_its_own_language_is_found(name):
    with pytest.raises(LanguageError, match="did you mean de_DE"):
        resolve(name, ["en_XX", "de_DE", "sw_KE"])


class _Wrapped(torch.nn.Module):
    """What PEFT gives, as far as it is looked at."""

    def __init__(self, model):
        super().__init__()
        self.base_model = model

    def merge_and_unload(self):
        return self.base_model


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (_Wrapped, r"PEFT _Wrapped: merge its adapters with model.merge_and_unload\(\)"),
        (torch.nn.DataParallel, "a DataParallel around an XmodForMaskedLM: give that model itself"),
        (
            lambda model: torch.nn.Linear(2, 2),
            "A model must be an X-MOD model, a folder or a name on the Hub; .* a Linear",
        ),
        (lambda model: None, "this is a NoneType"),
    ],
)
def test_an_object_that_is_no_model_says_what_to_give(wrap, said, base_run: Run, corpus: Path, tmp_path: Path):
    wrong = wrap(base_run.model)
    rows = corpus / "topic" / "en_XX.train.jsonl"
    with pytest.raises(InputError, match=said):
        finetune(wrong, rows, output_dir=tmp_path / "out")
    with pytest.raises(InputError, match=said):
        xmodular.evaluate([wrong], rows)
    with pytest.raises(InputError, match=said):
        xmodular.Predictor(wrong)
    assert not any(tmp_path.iterdir())


def test_a_model_without_tokenizer_names_the_option(topic_run: Run, corpus: Path, tmp_path: Path):
    topic_run.model.save_pretrained(tmp_path / "model")
    rows = corpus / "topic" / "en_XX.test.jsonl"
    run = invoke(*("predict", "--model", tmp_path / "model", "--input", rows, "--output", tmp_path / "out.jsonl"))
    assert run.exit_code == 2
    assert "There is no tokenizer with the model in" in run.stderr
    assert "give a --tokenizer" in run.stderr


def test_columns_of_fine_tuning_need_not_be_named_again(base_run: Run, corpus: Path, tmp_path: Path):
    """Predictions and scores from renamed columns are those from the usual ones; named columns count before all."""
    names = {"text": "Rezension", "label": "Note"}
    for split in ("train", "test"):
        lines = (corpus / "topic" / f"en_XX.{split}.jsonl").read_text().splitlines()
        rows = [{names.get(name, name): value for name, value in json.loads(line).items()} for line in lines]
        (tmp_path / f"en_XX.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, test = tmp_path / "en_XX.train.jsonl", tmp_path / "en_XX.test.jsonl"
    model = tmp_path / "model"
    more = {"columns": names, "max_steps": 2, "batch_size": 8}
    finetune(base_run.output_dir, train, output_dir=model, **more)
    own, usual = tmp_path / "own.jsonl", tmp_path / "usual.jsonl"
    xmodular.predict(model, test, own)
    xmodular.predict(model, corpus / "topic" / "en_XX.test.jsonl", usual)
    scores = [[json.loads(line)["score"] for line in each.read_text().splitlines()] for each in (own, usual)]
    assert scores[0] == scores[1]
    results = [xmodular.evaluate(model, data, adapter="right") for data in (test, corpus / "topic" / test.name)]
    metrics = [{(row.adapter, row.metric): row.value for row in each.rows} for each in results]
    assert metrics[0] == metrics[1]
    rows = [json.loads(line) for line in test.read_text().splitlines()]
    assert [each["score"] for each in xmodular.Predictor(model)(rows, "en")] == pytest.approx(scores[0])
    with pytest.raises(DataError, match="there is no column 'text'; the columns are 'id', 'Rezension', 'Note'"):
        xmodular.predict(model, test, tmp_path / "named.jsonl", columns={"text": "text"})


def test_interrupted_training_says_how_to_go_on(monkeypatch, tmp_path):
    def interrupted(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr("xmodular.training.finetune", interrupted)
    monkeypatch.setattr("xmodular.prediction.predict", interrupted)
    monkeypatch.setattr("xmodular.comparison.diff", interrupted)
    monkeypatch.setattr("xmodular.cli.look", lambda options: None)
    words = ("finetune", "--model", "m", "--train", "t.jsonl", "--output-dir", tmp_path)
    run = invoke(*words)
    assert run.exit_code == 130
    assert run.stderr.startswith("Interrupted: there is no checkpoint yet (--save-every)")
    (tmp_path / "seed-1" / "checkpoints" / "checkpoint-7").mkdir(parents=True)
    assert "the same command continues from the last checkpoint, " in (said := invoke(*words).stderr)
    assert "seed-1/checkpoints/checkpoint-7." in said
    assert "without --overwrite continues" in invoke(*words, "--overwrite").stderr
    output = tmp_path / "out.jsonl"
    words = ("predict", "--model", "m", "--input", "i", "--output", output)
    assert invoke(*words).stderr == "Interrupted: nothing was changed.\n"
    (tmp_path / "out.jsonl.parts").mkdir()
    (tmp_path / "out.jsonl.parts" / "part-00000.jsonl").touch()
    assert "continues after the finished rows, which are in" in invoke(*words).stderr
    assert invoke("diff", "a", "b").stderr == "Interrupted: nothing was changed.\n"


@given(st.text())
def test_nothing_visible_acts_on_a_terminal(text):
    shown = visible(text)
    assert all(char in "\t\n" or not (ord(char) < 32 or 127 <= ord(char) < 160) for char in shown)
    assert not set(shown) & {*"\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
    assert visible(shown) == shown


def test_marks_that_writing_needs_stay():
    text = "می\u200cروم क्\u200dष שלום\u200e 👩\u200d🔬"
    assert visible(text) == text


def test_what_is_named_is_shown_and_does_not_act(topic_run: Run, base_run: Run, tmp_path: Path, capsys):
    """In errors, messages, tables, and what a model says: files, data and labels with escapes in them."""
    run = invoke("predict", "--model", topic_run.output_dir, "--input", f"{HOSTILE}.jsonl", "--output", "o.jsonl")
    assert SHOWN in run.stderr
    assert HOSTILE not in run.stderr
    with pytest.raises(DataError) as error:
        read_rows(HOSTILE, BadRows())
    assert SHOWN in str(error.value)
    xmodular.pack_save(base_run.output_dir, "de", output_dir=tmp_path / HOSTILE)
    said = capsys.readouterr().err
    run = invoke("pack", "list", tmp_path)
    for shown in (said, run.output):
        assert "\x1b]" not in shown
        assert "\u202e" not in shown
        assert r"\x1b" in shown
    out = terminal(width=200, record=True, quiet=True)
    out.print(f"Saved {HOSTILE}")
    assert "\x1b" not in out.export_text()


@pytest.mark.parametrize(
    ("verb", "encoding"),
    [
        ("fill-mask", "ascii"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("diff", "ascii"), ("diff", "latin-1"))),
        pytest.param("fill-mask", "latin-1", marks=pytest.mark.slow),
    ],
)
def test_a_stream_that_is_not_utf8_crashes_nothing(verb, encoding, base_run: Run):
    """The made-up vocabulary has Ä and ▁, and a table has lines."""
    base = str(base_run.output_dir)
    more = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    filling = ["fill-mask", "--model", base, "--language", "de", "--top-k", "150", "Ärztin <mask> ф"]
    words = filling if verb == "fill-mask" else ["diff", base, base]
    run = subprocess.run([sys.executable, "-m", "xmodular", *words], capture_output=True, env={**os.environ, **more})
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_files_are_looked_for_before_torch_is_imported(base_run: Run, tmp_path: Path):
    script = (
        "import sys\nfrom xmodular.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    print(end.code, 'torch' in sys.modules)\n"
    )
    base = str(base_run.output_dir)
    for words in (
        ["predict", "--model", base, "--input", "nowhere.jsonl", "--output", "out.jsonl"],
        ["finetune", "--model", "./nowhere", "--train", "nowhere.jsonl", "--output-dir", "out"],
        ["evaluate", "--model", base, str(tmp_path), "--data", "x"],
        ["pretrain", "--text", "nowhere", "--output-dir", "out"],
        ["diff", base, "/no/where"],
    ):
        run = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=tmp_path)
        assert run.stdout == "2 False\n", run
        assert run.stderr.startswith("Error: ")


def test_registered_classes_print_no_errors(topic_run: Run):
    script = (
        "import sys, transformers, xmodular\nxmodular.register()\n"
        "print(len(transformers.pipeline('text-classification', model=sys.argv[1])('the house', language='en')))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(topic_run.output_dir)], capture_output=True, text=True)
    assert run.stdout == "1\n", run.stdout
    assert "ERROR" not in run.stderr


def test_names_and_their_revisions(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert on_hub("owner/name@v1.0") == ("owner/name", "v1.0")
    assert on_hub("owner/name@refs/pr/3") == ("owner/name", "refs/pr/3")
    assert on_hub("owner/name") == ("owner/name", None)
    (tmp_path / "a@b").mkdir()
    assert on_hub("a@b") == ("a@b", None)
    with pytest.raises(ConfigurationError, match="--revision v1 applies to a name on the Hub; a@b is a local path"):
        xmodular.predict("a@b", "x.jsonl", "y.jsonl", revision="v1")
    with pytest.raises(ConfigurationError, match="--revision v1 contradicts owner/name@v2"):
        xmodular.predict("owner/name@v2", "x.jsonl", "y.jsonl", revision="v1")


def test_a_revision_on_the_hub_is_what_is_read(topic_run: Run, corpus: Path, nursery: Nursery, tmp_path: Path):
    """In a cache of the Hub with two revisions: weights and tokenizer are those of the one that is asked for."""
    model = tmp_path / "hub" / "models--owner--name"
    for name, commit in (("main", "1" * 40), ("v1", "2" * 40)):
        place = model / "snapshots" / commit
        shutil.copytree(topic_run.output_dir, place, ignore=shutil.ignore_patterns("checkpoints"))
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / name).write_text(commit)
    changed = xmodular.XmodForSequenceClassification.from_pretrained(topic_run.output_dir)
    with torch.no_grad():
        changed.classifier.out_proj.bias += torch.tensor([3.0, -3.0])
    changed.save_pretrained(model / "snapshots" / ("2" * 40))
    (model / "snapshots" / ("1" * 40) / "tokenizer.json").write_text("{}")  # main's cannot be read
    rows = corpus / "topic" / "en_XX.test.jsonl"
    cache = f"import huggingface_hub.constants as constants; constants.HF_HUB_CACHE = {str(tmp_path / 'hub')!r}"
    words = ["predict", "--language", "en", "--input", str(rows), "--output"]
    for number, named in enumerate((["owner/name", "--revision", "v1"], ["owner/name@v1"])):
        out = tmp_path / f"{number}.jsonl"
        pid, log = nursery.start(*words, str(out), "--model", *named, first=cache)
        assert nursery.wait(pid) == 0, log.read_text(encoding="utf-8")
        expected = xmodular.Predictor(changed, topic_run.tokenizer)(
            [json.loads(each) for each in rows.read_text().splitlines()], "en"
        )
        scores = [json.loads(line)["score"] for line in out.read_text().splitlines()]
        assert scores == pytest.approx([each["score"] for each in expected], abs=1e-5)
    pid, log = nursery.start(*words, str(tmp_path / "x.jsonl"), "--model", "owner/name@v9", first=cache)
    assert nursery.wait(pid) == 2
    said = " ".join(log.read_text(encoding="utf-8").split())
    assert "Error: No model owner/name@v9: owner/name is not in the local cache" in said


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ConnectionError", "the Hub cannot be reached"),
        ("ReadTimeout", "the Hub cannot be reached"),
        ("GatedRepoError", "is gated: accept its terms"),
        ("RepositoryNotFoundError", "there is no a/b on the Hub, or it is private"),
        ("RevisionNotFoundError", "a/b has no revision v1 on the Hub"),
        ("OfflineModeIsEnabled", "HF_HUB_OFFLINE is set"),
    ],
)
def test_why_the_hub_gives_nothing_is_told_apart(kind, said, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    error = OSError("a/b is not a local folder and is not a valid model identifier")
    error.__cause__ = type(kind, (Exception,), {})("cause")
    assert said in refusal("a/b@v1", error)


@pytest.mark.skipif(is_flash_attn_2_available(), reason="the package is here")
def test_attention_of_a_package_that_is_not_here(topic_run: Run, corpus: Path, tmp_path: Path):
    said = r"asks for an attention backend \(attn_implementation\) whose package is missing"
    with pytest.raises(ConfigurationError, match=said):
        xmodular.XmodModel.from_pretrained(topic_run.output_dir, attn_implementation="flash_attention_2")


def test_numbers_that_are_none_are_damage(base_run: Run, tmp_path: Path):
    """A pack of such a model is not written, and one that has them all the same is not sound."""
    model = xmodular.XmodForMaskedLM.from_pretrained(base_run.output_dir)
    pack = xmodular.pack_save(model, "de", output_dir=tmp_path / "good")
    weight = model.roberta.encoder.layer[1].output.adapter_modules["de_DE"].dense1.weight
    with torch.no_grad():
        weight[0, 0] = torch.nan
    with pytest.raises(PackError, match=r"layer\.1\.dense1\.weight has infinite or NaN values"):
        xmodular.pack_save(model, "de", output_dir=tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    content = (pack.folder / "adapter.safetensors").read_bytes()
    damaged = content[:-4] + b"\x00\x00\xc0\x7f"
    (pack.folder / "adapter.safetensors").write_bytes(damaged)
    _sign_again(pack.folder)
    with pytest.raises(PackError, match=r"has infinite or NaN values in"):
        read_pack(pack.folder).check()
    assert not xmodular.pack_verify(pack.folder).ok


def _sign_again(folder: Path) -> None:
    """Make `pack.json` say what the files are."""
    import hashlib

    from xmodular.packs import manifest

    content = json.loads((folder / "pack.json").read_text())
    for name, record in content["files"].items():
        record["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    content["checksum"] = manifest.checksum(content)
    (folder / "pack.json").write_text(json.dumps(content))


def test_long_fields_are_read_by_several_threads_at_once(tmp_path: Path):
    """And the limit of the process is then as it was."""
    text = "x" * 300_000
    (tmp_path / "a.csv").write_text("text,label\n" + f"{text},1\n" * 20)
    before = csv.field_size_limit()
    wrong: list[object] = []

    def read() -> None:
        for _ in range(3):
            bad = BadRows(skip=True)
            rows = list(read_rows(tmp_path / "a.csv", bad))
            if len(rows) != 20 or bad.count:
                wrong.append(bad.summary())

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert not wrong
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["$\\frac$", "cost $5 or $6", "a_b^c", "$", "\\$x"])
def test_a_name_of_a_run_is_no_formula(name, tmp_path: Path):
    point = Point(0.5, 0.4, 0.6)
    bar_picture(tmp_path / "a.svg", name, [name], {name: ("#336699", [point])}, axis=name, limits=(0, 1))
    drawn = (tmp_path / "a.svg").read_text()
    assert f"<!-- {name} -->" in drawn


@pytest.mark.parametrize(
    "content", [b"{}", b"\xff\xfe", b"[]", b'{"model": {"type": "Unigram", "vocab": []}}', b'{"model": 1']
)
def test_a_damaged_tokenizer_is_refused_in_a_sentence(content, topic_run: Run, tmp_path: Path):
    shutil.copytree(topic_run.output_dir, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match="okenizer"):
        load_tokenizer(tmp_path / "model")


def test_a_tokenizer_that_panics_is_refused_in_a_sentence(topic_run: Run, tmp_path: Path):
    """A table of characters that ends too early lets the library panic, which is no Exception."""
    shutil.copytree(topic_run.output_dir, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "/////wAA"}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="okenizer"):
        xmodular.Predictor(tmp_path / "model")(["Ärztin"], "de")


def test_a_log_that_is_not_utf8_is_not_in_the_way(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 2.0}\n\xff\xfe{"step"\n{"step": 9, "loss": 1.0}\n')
    state = type("State", (), {"is_world_process_zero": True, "global_step": 5})
    RunLog(path).on_train_begin(None, state, None)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


def test_a_model_that_comes_from_nowhere_says_how_to_name_a_tokenizer():
    model = xmodular.XmodForMaskedLM(tiny_config())
    with pytest.raises(DataError, match="pass `tokenizer`"):
        tokenizer_of(model, None)
