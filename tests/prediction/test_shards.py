"""Predictions for many files, each into a file of its own: what is written, how a run goes on, what is refused."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from pyarrow import parquet

from tests.prediction.conftest import LANGUAGES, SENTENCES
from xmodular.errors import ConfigurationError, DataError
from xmodular.prediction import predict
from xmodular.prediction.predicting import _predict_shard
from xmodular.prediction.shard_worker import ShardWorker
from xmodular.prediction.shards import shards_of

ONE = {"default_language": "en", "skip_bad_rows": True, "window": 16}
FILES = ("a.jsonl", "b.jsonl.gz", "c d.jsonl.zst", "2024/e.parquet", "2024/f.csv", "sw_KE.more.txt")


def rows_of(seed: int, count: int = 40) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    languages = [draw.choice(LANGUAGES) for _ in range(count)]
    return [
        {
            "id": number,
            "text": draw.choice(SENTENCES[language]) + " é\u200c👩‍🔬" * draw.randint(0, 2),
            "language": language,
        }
        for number, language in enumerate(languages)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = ["id,text,language", *(f'{row["id"]},"{row["text"]}",{row["language"]}' for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".txt":
        path.write_text("".join(row["text"] + "\n" for row in rows), encoding="utf-8")
    else:
        content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        if path.suffix == ".jsonl":
            content += b'{"text": ""}\n'  # a row that cannot be read
        if path.suffix == ".gz":
            content = gzip.compress(content)
        elif path.suffix == ".zst":
            content = pyarrow.compress(content, codec="zstd", asbytes=True)
        path.write_bytes(content)


def tree(folder: Path) -> dict[str, bytes]:
    """The output: all files that are not the run's notes."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith("_predict/")}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    for seed, name in enumerate(FILES):
        write(folder / name, rows_of(seed))
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.jsonl").write_text("no JSON")
    return folder


@pytest.fixture(scope="module")
def alone(source: Path, topic: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What `predict` makes of each file by itself."""
    folder = tmp_path_factory.mktemp("alone")
    for name in FILES:
        output = folder / name.replace(".txt", ".jsonl")
        output.parent.mkdir(exist_ok=True)
        predict(topic, source / name, output, **ONE)
    return {name: content for name, content in tree(folder).items() if not name.endswith(".bad.jsonl")}


def test_each_file_is_what_predict_makes_of_it(source, alone, topic, tmp_path, capsys) -> None:
    done = predict(topic, source, tmp_path / "out", engine="local", **ONE)
    assert tree(tmp_path / "out") == alone
    assert (done.rows, done.bad, done.output) == (len(FILES) * 40, 1, tmp_path / "out")
    noted = json.loads((tmp_path / "out/_predict/run.json").read_text())
    assert noted["complete"]
    assert (noted["rows"], noted["bad"], noted["files"]) == (240, 1, 6)
    (bad,) = (tmp_path / "out/_predict/bad").iterdir()
    assert json.loads(bad.read_text())["place"] == f"{source / 'a.jsonl'}:41"
    assert done.bad_rows == bad.parent
    assert not (tmp_path / "out/_predict/work").exists()
    assert not list((tmp_path / "out").rglob(".xmodular-*"))
    assert "240 rows in 6 files" in " ".join(capsys.readouterr().err.split())


def test_a_pattern_chooses_files_and_the_format_of_the_output(source, topic, tmp_path) -> None:
    predict(topic, f"{source}/**/*.parquet", f"{tmp_path}/out/*.jsonl.zst", engine="local", **ONE)
    (name,) = tree(tmp_path / "out")
    assert name == "2024/e.jsonl.zst"
    predict(topic, source / "2024/e.parquet", tmp_path / "e.jsonl.zst", **ONE)
    assert (tmp_path / "e.jsonl.zst").read_bytes() == (tmp_path / "out" / name).read_bytes()
    predict(topic, source, f"{tmp_path}/all/*.parquet", engine="local", **ONE)
    assert set(tree(tmp_path / "all")) == {
        *("a.parquet", "b.parquet", "c d.parquet", "sw_KE.more.parquet", "2024/e.parquet", "2024/f.parquet")
    }
    assert "label" in parquet.read_table(tmp_path / "all/b.parquet").column_names


def test_a_run_goes_on_and_finished_files_stay(source, alone, topic, tmp_path, monkeypatch) -> None:
    """A worker that stops in the middle of a file leaves its parts, which the next one continues."""
    from xmodular.prediction.parts import OutputParts

    output, closed, seen = tmp_path / "out", OutputParts.close, []

    def stops(self, part, bad):
        closed(self, part, bad)
        seen.append(part)
        if len(seen) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OutputParts, "close", stops)
        with pytest.raises(KeyboardInterrupt):
            predict(topic, source, output, engine="local", **ONE)
    first = {
        path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file() and "_predict" not in str(path)
    }
    assert 0 < len(first) < len(FILES)
    assert list(output.glob("_predict/work/**/part-*.jsonl"))
    assert not json.loads((output / "_predict/run.json").read_text())["complete"]
    predict(topic, source, output, engine="local", **ONE)
    assert tree(output) == alone
    assert {path: path.stat().st_mtime_ns for path in first} == first
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    predict(topic, source, output, engine="local", **ONE)  # nothing is left to do
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if before[path] != after[path]} == {"run.json"}


def test_new_files_are_added_and_lost_or_cut_outputs_made_again(topic, tmp_path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(source / "a.jsonl", rows_of(0))
    write(source / "b.jsonl", rows_of(1))
    predict(topic, source, output, engine="local", **ONE)
    whole = tree(output)
    (output / "a.jsonl").unlink()
    (output / "b.jsonl").write_bytes(whole["b.jsonl"][:-9])
    write(source / "c.jsonl", rows_of(2))
    assert predict(topic, source, output, engine="local", **ONE).rows == 120
    assert {name: content for name, content in tree(output).items() if name != "c.jsonl"} == whole


def test_another_run_and_changed_files_are_refused(topic, folders, tmp_path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(source / "a.jsonl", rows_of(0))
    write(source / "b.jsonl", rows_of(1))
    run = {"engine": "local", **ONE}
    predict(topic, source, output, **run)
    before = tree(output)
    with pytest.raises(ConfigurationError, match=r"contains another run; it differs in max_length \(None, now 16\)"):
        predict(topic, source, output, max_length=16, **run)
    with pytest.raises(ConfigurationError, match="contains another run; it differs in model"):
        predict(folders["regress"], source, output, **run)
    write(source / "a.jsonl", rows_of(5))
    with pytest.raises(ConfigurationError, match=r"a\.jsonl has changed since it was predicted\. Write new files"):
        predict(topic, source, output, **run)
    assert tree(output) == before
    predict(topic, source, output, overwrite=True, **run)
    assert tree(output)["b.jsonl"] == before["b.jsonl"]
    assert tree(output)["a.jsonl"] != before["a.jsonl"]
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"else contains thesis.txt and is not a run over files"):
        predict(topic, source, tmp_path / "else", overwrite=True, **run)


def test_a_long_run_says_how_far_it_is(source, topic, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("xmodular.prediction.shard_runs._SAY_EVERY", -1)
    predict(topic, source, tmp_path / "out", engine="local", **ONE)
    said = capsys.readouterr().err
    assert [line.split(" files,")[0] for line in said.splitlines() if " files, " in line] == [
        f"{number} of 6" for number in range(1, 7)
    ]


def test_a_file_that_fails_does_not_stop_the_others(topic, tmp_path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for seed, name in enumerate(("a.jsonl.gz", "b.jsonl.gz", "c.jsonl.gz")):
        write(source / name, rows_of(seed))
    (source / "b.jsonl.gz").write_bytes((source / "b.jsonl.gz").read_bytes()[:300])
    run = {"engine": "local", **ONE, "skip_bad_rows": False}
    with pytest.raises(DataError, match=r"1 of 3 files are not finished; the same command continues.\n.*b.jsonl.gz"):
        predict(topic, source, output, **run)
    assert set(tree(output)) == {"a.jsonl.gz", "c.jsonl.gz"}
    write(source / "b.jsonl.gz", rows_of(1))
    assert predict(topic, source, output, **run).rows == 120


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"output": "-"}, "--output must be a folder"),
        ({"input": "-"}, "--engine reads files"),
        ({"input": [{"text": "a"}]}, "--engine reads files"),
        ({"shard_rows": 5}, "--shard-rows does not go with --engine"),
        ({"precision": "auto"}, "decide once"),
        ({"worker_gpus": 1.0}, "belongs to --engine ray"),
        ({"engine": None, "workers": 3}, "--workers 3 belongs to --engine"),
        ({"engine": None, "output": "s3://bucket/a.jsonl"}, "is an address: give --engine"),
        ({"output": "out/*/a.jsonl"}, r"its last part may have one \*"),
        ({"output": "out/*.parquet.gz"}, r"its last part may have one \*"),
        ({"output": "{in}/out"}, "is in the folder of the input"),
        ({"output": "{in}"}, "is in the folder of the input"),
        ({"input": "{in}/**/*.jsonl", "output": "{in}/a"}, "is in the folder of the input"),
        ({"input": "{in}/../i*/*.jsonl", "output": "{in}"}, "is in the folder of the output"),
        ({"input": "shelf://{in}", "output": "shelf://{in}/out"}, "is in the folder of the input"),
        ({"input": "nowhere"}, "There is no file or folder"),
        ({"input": "{in}/*.tsv"}, "There are no files in"),
        ({"input": "{in}", "language": "qqq"}, "qqq"),
    ],
)
def test_what_does_not_fit_is_named_before_any_work(more, said, topic, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in" / "a.jsonl", [{"text": "x"}])
    more = {
        name: value.format(**{"in": tmp_path / "in"}) if isinstance(value, str) else value
        for name, value in more.items()
    }
    options = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "engine": "local", **more}
    with pytest.raises((ConfigurationError, DataError), match=said):
        predict(topic, **options)
    assert not tree(tmp_path / "out")


def test_a_pattern_and_its_output_may_be_neighbours(topic, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl.gz", rows_of(0))
    for _ in range(2):
        assert predict(topic, "*.jsonl.gz", "labelled", engine="local", **ONE).rows == 40
    assert set(tree(tmp_path / "labelled")) == {"a.jsonl.gz"}


def test_workers_that_never_finish_a_file_are_given_up(topic, tmp_path, monkeypatch) -> None:
    """As in a program that starts them without looking whether it is the main one."""

    class Dies:
        exitcode = 1

        def __init__(self, target, args, daemon):
            self.connection = args[-1]

        def start(self):
            self.connection.close()

        join = terminate = start

    monkeypatch.setattr(multiprocessing.get_context("spawn").__class__, "Process", Dies)
    for number in range(9):
        write(tmp_path / "in" / f"{number}.jsonl.gz", rows_of(0))
    with pytest.raises(ConfigurationError, match=r"die before they finish a file \(exit code 1\).*under `if __name__"):
        predict(topic, tmp_path / "in", tmp_path / "out", engine="local", workers=2, **ONE)


def test_names_of_outputs(tmp_path) -> None:
    for name in ("a.jsonl", "a.csv", "b.conll.gz", "c.JSON", "d.TXT.zst", "x/y.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [shard.name for shard in shards_of(str(tmp_path), None)] == [
        *("a.csv", "a.jsonl", "b.jsonl.gz", "c.jsonl", "d.jsonl.zst", "x/y.tsv")
    ]
    with pytest.raises(ConfigurationError, match=r"would both be predicted into a\.parquet"):
        shards_of(str(tmp_path), "*.parquet")
    (tmp_path / "e.jsonl.bz2").touch()
    with pytest.raises(DataError, match=r"e\.jsonl\.bz2 is of an unknown kind"):
        shards_of(str(tmp_path), None)
    (tmp_path / "e.jsonl.bz2").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "x")
    with pytest.raises(DataError, match="leads to no file"):
        shards_of(str(tmp_path), None)


class Shelf(LocalFileSystem):
    """A store at addresses, whose files are those of this machine."""

    protocol = "shelf"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("shelf://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"shelf://{self._strip_protocol(name)}"


def test_a_run_from_and_to_an_address(source, alone, topic, tmp_path) -> None:
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    for _ in range(2):  # the second one has nothing to do
        done = predict(topic, f"shelf://{source}", f"shelf://{tmp_path}/out", engine="local", **ONE)
        assert tree(tmp_path / "out") == alone
        assert (done.rows, done.output) == (240, f"shelf://{tmp_path}/out")
    (bad,) = (tmp_path / "out/_predict/bad").iterdir()
    assert json.loads(bad.read_text())["place"] == f"shelf://{source / 'a.jsonl'}:41"
    assert not list((tmp_path / "out").rglob(".xmodular-*"))


def test_what_is_said_of_a_file_at_an_address_names_its_place_there(topic, tmp_path) -> None:
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    write(tmp_path / "in/a.jsonl", rows_of(0, 4))
    write(tmp_path / "in/b.jsonl.zst", rows_of(1, 4))
    (tmp_path / "in/b.jsonl.zst").write_bytes(b"not packed")
    with pytest.raises(DataError, match="1 of 2 files are not finished") as failed:
        predict(topic, f"shelf://{tmp_path}/in", f"shelf://{tmp_path}/out", engine="local", **ONE)
    assert f"shelf://{tmp_path}/in/b.jsonl.zst cannot be read" in str(failed.value)
    assert "xmodular-" not in str(failed.value)
    said = " ".join(json.loads((tmp_path / "out/_predict/done/a.jsonl.json").read_text())["said"])
    assert f"Saved 4 rows in shelf://{tmp_path}/out/a.jsonl" in said
    assert f"see shelf://{tmp_path}/out/_predict/bad/a.jsonl.jsonl for the reasons" in said


class Bucket(MemoryFileSystem):
    """A store without folders: what is written needs none, but for the bucket itself."""

    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = ["", "/bucket"]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("s3://"))

    def put_file(self, lpath: Any, rpath: Any, **more: Any) -> None:
        if not rpath.startswith("/bucket/"):
            raise FileNotFoundError(f"The specified bucket does not exist: {rpath}")
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def makedirs(self, path: Any, exist_ok: bool = False) -> None:
        raise AssertionError(f"a bucket would be made for {path}")


def test_no_bucket_is_made_by_a_mistake_in_its_name(topic, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(_registry, "s3", Bucket)
    write(tmp_path / "in/a.jsonl", rows_of(0, 4))
    run = {"engine": "local", **ONE}
    assert predict(topic, tmp_path / "in", "s3://bucket/out", **run).rows == 4
    assert {"/bucket/out/a.jsonl", "/bucket/out/_predict/run.json"} < set(Bucket.store)
    with pytest.raises(DataError, match=r"no place to write s3://bukcet/out/_predict/run\.json: .*does not exist"):
        predict(topic, tmp_path / "in", "s3://bukcet/out", **run)


def test_the_package_of_an_engine_is_named_where_it_is_missing(topic, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write(tmp_path / "in" / "a.jsonl", rows_of(0))
    with pytest.raises(ConfigurationError, match=r"pip install 'xmodular\[ray\]'"):
        predict(topic, tmp_path / "in", tmp_path / "out", engine="ray", **ONE)
    assert not (tmp_path / "out").exists()


def _run(model: str, source: str, output: str, workers: int) -> None:
    import torch

    torch.set_num_threads(1)
    predict(model, source, output, engine="local", workers=workers, **ONE)


def workers_of(pid: int) -> list[int]:
    """The processes of the workers that a process has started."""
    psutil = pytest.importorskip("psutil")
    return [each.pid for each in psutil.Process(pid).children() if "spawn_main" in " ".join(each.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_driver_lose_no_row(topic, tmp_path) -> None:
    """A worker is killed, then the process that gave it its files; the next run ends as one that was left alone."""
    source, output = tmp_path / "in", tmp_path / "out"
    for seed in range(6):
        write(source / f"{seed}.jsonl", rows_of(seed, 600))
        predict(topic, source / f"{seed}.jsonl", tmp_path / "alone" / f"{seed}.jsonl", **ONE)
    context = multiprocessing.get_context("fork")
    driver = context.Process(target=_run, args=(str(topic), str(source), str(output), 2))
    driver.start()
    deadline = time.monotonic() + 120
    while not list(output.glob("_predict/work/**/part-*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(workers_of(driver.pid)[0], signal.SIGKILL)
    while not list(output.glob("*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    assert predict(topic, source, output, engine="local", workers=2, **ONE).rows == 3600
    found = {name: content for name, content in tree(tmp_path / "alone").items() if "bad" not in name}
    assert tree(output) == found


def test_a_worker_has_only_the_languages_of_its_rows(small_tokenizer, tmp_path) -> None:
    """Of twenty languages, with rows in two, the weights of two are in memory, and the answers are the same."""
    import xmodular
    from tests.support import tiny_model

    languages = [*LANGUAGES, *(f"l{letter}_XX" for letter in "abcdefghijklmnop")]
    model = tiny_model(xmodular.XmodForSequenceClassification, vocab_size=len(small_tokenizer), languages=languages)
    model.save_pretrained(tmp_path / "model")
    small_tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"text": text, "language": code} for code in ("sw_KE", "lf_XX") for text in SENTENCES["sw_KE"]]
    write(tmp_path / "in" / "a.jsonl.gz", rows)
    predict(tmp_path / "model", tmp_path / "in" / "a.jsonl.gz", tmp_path / "alone.jsonl.gz")
    predict(tmp_path / "model", tmp_path / "in", tmp_path / "out", engine="local")
    assert (tmp_path / "out" / "a.jsonl.gz").read_bytes() == (tmp_path / "alone.jsonl.gz").read_bytes()
    note = json.loads((tmp_path / "out/_predict/done/a.jsonl.gz.json").read_text())
    assert set(note["languages"]) == {"sw_KE", "lf_XX"}


def test_a_worker_can_be_pickled(topic, tmp_path) -> None:
    import pickle

    from xmodular.options import PredictOptions

    write(tmp_path / "in" / "a.jsonl", rows_of(0))
    options = PredictOptions(
        model=str(topic), input=str(tmp_path / "in"), output=str(tmp_path / "out"), engine="local", skip_bad_rows=True
    )
    worker = ShardWorker(options, _predict_shard)
    (shard,) = shards_of(options.input, None)
    assert worker(shard)["rows"] == 40
    again = pickle.loads(pickle.dumps(worker))
    assert again._predictor is None
    assert again(shard) == worker(shard)  # finished: the note is read
