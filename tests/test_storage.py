"""Full disks and missing permissions: one line and exit 2 from every verb, nothing lost, nothing half made left."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import xmodular
from xmodular import cli
from xmodular.errors import StorageError, XmodularError
from xmodular.training import Run

resource = pytest.importorskip("resource", reason="limits of the size of files are Unix's")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing more into any file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def like_any_user() -> Iterator[None]:
    """Permissions count, also for root, whose capabilities pass over them: these are put away for a while."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if not hasattr(libc, "capget") or libc.capget(header, data):
        pytest.skip("root's capabilities cannot be put away here")
    before = list(data)
    data[0] &= ~0b111  # CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of the effective ones
    if libc.capset(header, data):
        pytest.skip("root's capabilities cannot be put away here")
    try:
        yield
    finally:
        assert not libc.capset(header, (ctypes.c_uint32 * 6)(*before))


def content_of(folder: Path) -> dict[str, str]:
    """A hash of every file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def place(base_run: Run, topic_run: Run, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, a pack and data."""
    folder = tmp_path_factory.mktemp("storage")
    for name, run in (("base", base_run), ("topic", topic_run)):
        shutil.copytree(run.output_dir, folder / name)
    shutil.copytree(corpus / "topic", folder / "data")
    shutil.copytree(corpus / "text", folder / "text")
    xmodular.pack_save(folder / "base", "de_DE", output_dir=folder / "pack")
    return folder


TRAINING = ("--max-steps", "2", "--save-every", "1", "--batch-size", "4")
VERBS = {
    "pretrain": ("--text", "text", "--model", "base", "--output-dir", "out", "--block-size", "16", *TRAINING),
    "extend": (
        "--model",
        "base",
        "--language",
        "gsw",
        "--text",
        "text/de_DE.made.txt",
        "--output-dir",
        "out",
        *TRAINING,
    ),
    "finetune": ("--model", "base", "--train", "data/en_XX.train.jsonl", "--output-dir", "out", *TRAINING),
    "evaluate": ("--model", "topic", "--data", "data", "--output-dir", "out"),
    "predict": ("--model", "topic", "--input", "data/en_XX.test.jsonl", "--output", "out.jsonl"),
    "pack save": ("--model", "base", "--language", "de", "--output-dir", "out"),
    "pack install": ("pack", "--model", "topic", "--language", "de_AT"),
    "pack remove": ("--model", "topic", "--language", "sw"),
    "diff": ("base", "topic", "--output", "out.json"),
    "convert": ("base", "--to", "fairseq", "--output-dir", "out"),
    "upcycle": ("--model", "base", "--languages", "de,fr", "--output-dir", "out"),
    "trim": ("--model", "base", "--languages", "de", "--text", "text", "--output-dir", "out"),
}
READS = {"pretrain": "text/sw_KE.made.txt", "finetune": "data/en_XX.train.jsonl", "predict": "data/en_XX.test.jsonl"}


def refused(verb: str) -> str:
    """The one line that a verb ends with."""
    run = CliRunner().invoke(cli.app, [*verb.split(), *VERBS[verb]])
    assert run.exception is None or isinstance(run.exception, SystemExit), repr(run.exception)
    assert run.exit_code == 2, run.output
    errors = [line for line in run.stderr.splitlines() if line.startswith("Error: ")]
    assert errors == run.stderr.splitlines()[-1:], run.stderr
    return errors[0]


@pytest.mark.parametrize("size", [0, 3000])
@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_one_line_and_nothing_is_lost(verb, size, place, tmp_path, monkeypatch):
    if verb in ("diff", "evaluate", "predict") and size:
        size = 100  # they write little
    here = tmp_path / "here"
    shutil.copytree(place, here)
    monkeypatch.chdir(here)
    before = content_of(here)
    with files_no_larger_than(size):
        said = refused(verb)
    assert "free some space" in said, said
    after = content_of(here)
    assert before.items() <= after.items(), "something that was there is gone or changed"
    if verb not in ("pretrain", "extend", "finetune"):  # whose folders say how far they are
        assert set(after) == set(before), "something half made is left"


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_may_not_be_written_is_one_line(verb, place, tmp_path, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(place, here)
    monkeypatch.chdir(here)
    before = content_of(here)
    closed = [here, here / "topic"]
    for folder in closed:
        folder.chmod(0o555)
    try:
        with like_any_user():
            said = refused(verb)
    finally:
        for folder in closed:
            folder.chmod(0o755)
    assert "ermission denied" in said, said
    assert content_of(here) == before


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        *((verb, READS[verb]) for verb in READS),
        *(("diff", f"base/{name}") for name in ("model.safetensors", "config.json")),
        *(("predict", f"topic/{name}") for name in ("model.safetensors", "config.json", "tokenizer.json")),
        *((verb, "base/model.safetensors") for verb in ("convert", "upcycle", "pack save", "extend")),
        *(("pack install", f"pack/{name}") for name in ("pack.json", "adapter.safetensors")),
        ("evaluate", "data/sw_KE.test.jsonl"),
    ],
)
def test_a_file_that_may_not_be_read_is_named_and_not_called_damaged(verb, name, place, tmp_path, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(place, here)
    monkeypatch.chdir(here)
    (here / name).chmod(0)
    with like_any_user():
        said = refused(verb)
    assert "ermission denied" in said, said
    assert Path(name).name in said, said
    assert "damaged" not in said.replace(str(here), ""), said


def test_functions_raise_an_error_of_ours(place, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    with like_any_user(), pytest.raises(StorageError, match=r"closed.*Permission denied"):
        xmodular.diff(place / "base", place / "base", output=tmp_path / "closed" / "a.json")
    with files_no_larger_than(100), pytest.raises(XmodularError, match="free some space"):
        xmodular.pack_save(place / "base", "de", output_dir=tmp_path / "pack")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [["models"], pytest.param(["pack", "list"], marks=pytest.mark.slow)])
def test_output_that_cannot_be_written_is_one_line(words, tmp_path):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "xmodular", *words], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert run.returncode == 2
    assert run.stderr.startswith("Error: No space left on device. ")
    assert run.stderr.count("\n") == 1


def test_weights_may_be_read_by_whom_other_files_may(place, base_run, tmp_path):
    before = os.umask(0o027)
    try:
        base_run.model.save_pretrained(tmp_path / "model")
        xmodular.pack_save(place / "base", "de", output_dir=tmp_path / "pack")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
