"""Gates of `evaluate`: checked before the work, judged after it, and the exit status."""

import json

import pytest
from typer.testing import CliRunner

from xmodular import evaluate
from xmodular.cli import app
from xmodular.errors import ConfigurationError, LanguageError
from xmodular.evaluation import evaluating
from xmodular.results import Results


def test_exit_status_and_results_are_written_all_the_same(make_model, feelings, tmp_path):
    model, gates = make_model("model"), tmp_path / "gates.yaml"
    words = ["evaluate", "--model", str(model), "--data", str(feelings), "--gate", str(gates), "--overwrite"]
    status = {}
    for name, floors in (("passes", "{default: 0.0}"), ("fails", "{default: 0.0, sw: 1.0}"), ("bad", "{tt: 0.5}")):
        gates.write_text(f"floors: {floors}\n")
        ran = CliRunner().invoke(app, [*words, "--output-dir", str(tmp_path / name)])
        status[name] = ran.exit_code
    assert status == {"passes": 0, "fails": 1, "bad": 2}
    assert not (tmp_path / "bad").exists()
    written = Results.from_json(tmp_path / "fails" / "results.json")
    assert [gate.language for gate in written.gates if not gate.passed] == ["sw_KE"]
    assert "gates.yaml" in json.loads((tmp_path / "fails" / "results.json").read_text())["about"]["command"]


def test_from_python_a_failed_gate_is_a_result(make_model, feelings, tmp_path):
    found = evaluate(make_model("model"), feelings, gate={"floors": {"sw": 1.0}}, output_dir=tmp_path / "out")
    assert not found.passed
    against = {"against": str(tmp_path / "out"), "largest_drop": 0.0, "strict": True}
    again = evaluate(tmp_path / "model", feelings, gate=against)
    assert again.passed
    assert {gate.language for gate in again.gates} == set(again.languages())
    assert evaluate(tmp_path / "model", feelings).passed


def test_languages_that_are_left_out_have_no_gate_this_time(make_model, feelings, capsys):
    """One file of gates serves a run in some of its languages; a language that no model has is still an error."""
    model, gate = make_model("model"), {"floors": {"sw": 1.0, "German": 0.0, "mean": 0.0}}
    found = evaluate(model, feelings, gate=gate, languages=["de"])
    assert [each.language for each in found.gates] == ["de_DE", "mean"]
    assert found.passed
    assert "sw left out by --languages, so these limits do not apply" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(LanguageError, match="names 'tt'"):
        evaluate(model, feelings, gate={"floors": {"tt": 0.5}}, languages=["de"])
    (feelings / "sw_KE.test.jsonl").unlink()
    with pytest.raises(LanguageError, match="names 'sw'"):
        evaluate(model, feelings, gate=gate)


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        ({"floors": {"tatar": 0.5}}, LanguageError, "names 'tatar'"),
        ({"floors": 0.5, "metric": "macro-f1"}, ConfigurationError, "did you mean 'macro-F1'"),
        ({"floors": 0.5, "adapter": "none"}, ConfigurationError, "does not score"),
    ],
)
def test_a_misspelt_gate_costs_no_work(make_model, feelings, monkeypatch, table, error, said):
    def work(*args, **kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(evaluating, "score_task", work)
    with pytest.raises(error, match=said):
        evaluate(make_model("model"), feelings, gate=table)


def test_a_gate_that_is_no_file_is_found_before_the_model_is_loaded(tmp_path, feelings):
    with pytest.raises(ConfigurationError, match="There is no configuration file"):
        evaluate("no-such-model", feelings, gate=tmp_path / "gates.yaml")
