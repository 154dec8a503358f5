"""SECURITY.md names tests that are there; and what no other file proves: nothing read is run, nothing else is asked."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xmodular.errors import ConfigurationError, DataError
from xmodular.options import read_options_file
from xmodular.prediction.parts import JOURNAL, OutputParts, read_journal
from xmodular.rows import BadRows, read_rows

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
NAMED = re.compile(r"`(tests/[a-z_0-9/]+\.py)::(test_[a-z_0-9]+)`")


def test_every_line_has_its_test() -> None:
    text = (HERE.parent / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    proofs = [NAMED.findall(line) for line in rows if not line.startswith("| what")]
    assert len(proofs) > 20
    assert all(proofs), "a line without a test"
    for file, name in {each for found in proofs for each in found}:
        assert f"\ndef {name}(" in (HERE.parent / file).read_text(encoding="utf-8"), f"{file}::{name}"


def calls() -> list[tuple[str, str, ast.Call]]:
    """All calls in the package: where, what is called, as it is written, and the call."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.append((f"{path.name}:{node.lineno}", ast.unparse(node.func), node))
    return found


def test_the_package_runs_nothing_that_it_reads() -> None:
    running = {"eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler", "os.system"}
    running |= {"os.popen", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "marshal.loads", "shelve.open"}
    for where, name, call in calls():
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in running, where
        assert not name.startswith("subprocess."), where
        assert keywords.get("shell") is None, where
        assert keywords.get("trust_remote_code") in (None, "False"), where
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", where
        if name == "yaml.load":  # with a reader that is a SafeLoader
            assert [ast.unparse(argument) for argument in call.args][1:] == ["Reader"], where


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]",
        "!!python/name:os.system",
        "!!python/module:os",
    ],
)
def test_tags_in_a_file_of_options_run_nothing(value: str, tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(f"model: {value.format(marker=tmp_path / 'marker')}\n")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        read_options_file(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.filterwarnings("ignore")
def test_the_script_of_a_data_set_does_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"import pathlib\n\npathlib.Path({str(tmp_path / 'marker')!r}).touch()\n")
    with pytest.raises(DataError, match="cannot be opened"):
        list(read_rows(f"hub:{folder}::train", BadRows()))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"[]", b"{}", b'{"run": [], "complete": false}', b'{"run": {}, "complete": false, "notes": []}'],
)
def test_a_journal_that_was_tampered_with_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        read_journal(tmp_path)
    with pytest.raises(DataError, match="is damaged"):
        OutputParts(tmp_path, {}, overwrite=True)
    assert (tmp_path / JOURNAL).read_bytes() == content


_LISTENER = """
import json, socket, sys

asked = []

def connect(self, address, *more):
    asked.append(str(address))
    raise OSError("no network")

socket.socket.connect = connect
socket.getaddrinfo = lambda *where, **more: connect(None, where)
from xmodular import evaluate, predict

model, rows, out = sys.argv[1:]
predict(model, rows, out)
evaluate(model, rows)
print(json.dumps(asked))
"""


def test_a_run_on_local_files_opens_no_connection(topic_run, corpus: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _LISTENER,
            topic_run.output_dir,
            corpus / "topic" / "de_DE.test.jsonl",
            tmp_path / "o.csv",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []
