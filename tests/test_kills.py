"""Every verb is killed before a change of the file system, and started again; and two of a kind start at once.

Changes are seen by an audit hook: files opened for writing, renamed, linked and removed, folders made and removed,
below the folder in which a verb works. What libraries write without Python is not seen, but all that is done before
and after.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.training.nursery import Nursery
from xmodular.outputs import PREFIX, held
from xmodular.pack_verbs import pack_save
from xmodular.training import Run

# Kills the process before change number `at` below `root`, all of which go into a file.
_HOOK = """
import os, signal, sys, threading

root, at, log = {root!r}, {at}, os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
count = 0
names = {{"os.rename": 2, "os.link": 2, "os.symlink": 2}}
names |= {{"os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1}}

def changes(event, given):
    if event == "open":
        path, _, flags = given
        return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) and [path]
    return event in names and given[: names[event]]

def hook(event, given):
    global count
    paths = changes(event, given)
    if not paths:
        return
    texts = [os.fsdecode(path) for path in paths if isinstance(path, (str, bytes, os.PathLike))]
    if not any(text.startswith(root) or not text.startswith("/") for text in texts):
        return
    count += 1
    os.write(log, f"{{event}} {{texts}}\\n".encode())
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""


# Two processes come to the lock of `place` together, and the one that gets it waits until the other is turned away.
_TOGETHER = """
import os, time
from pathlib import Path
from xmodular import outputs

lock, signs = outputs._lock, Path({signs!r})

def until(true):
    end = time.monotonic() + 120
    while not true() and time.monotonic() < end:
        time.sleep(0.01)

def locked(place, *more):
    if str(place) != {place!r} or (signs / str(os.getpid())).exists():
        return lock(place, *more)
    (signs / str(os.getpid())).touch()
    until(lambda: len(list(signs.iterdir())) > 1)
    try:
        release = lock(place, *more)
    except Exception:
        (signs / "refused").touch()
        raise
    until((signs / "refused").exists)
    return release

outputs._lock = locked
"""


@dataclass(frozen=True)
class Case:
    """A verb at work.

    Attributes:
        arguments: its command line, with {root} for the folder in which it works.
        output: the file or folder that it makes, in that folder.
        before: command lines that are run first.
        whole: whether the output changes in one moment.
    """

    arguments: str
    output: str
    before: tuple[str, ...] = ()
    whole: bool = True

    def words(self, root: Path) -> list[str]:
        return self.arguments.format(root=root).split()


_TRAIN = "--batch-size 8 --max-steps 2 --log-every 1 --save-every 1 --output-dir {root}/out"
_TOPIC = "--train {root}/data/topic/en_XX.train.jsonl --task classify --language en_XX --max-length 32"
_ROWS = "{root}/data/topic/en_XX.test.jsonl"
CASES = {
    "pretrain": Case(
        f"pretrain --text {{root}}/data/text --model {{root}}/base --block-size 32 {_TRAIN}", "out", whole=False
    ),
    "pretrain a tokenizer": Case(
        f"pretrain --text {{root}}/data/text --vocab-size 200 --preset tiny --block-size 32 {_TRAIN}",
        "out",
        whole=False,
    ),
    "extend": Case(
        f"extend --model {{root}}/base --language gsw --text {{root}}/data/text/de_DE.made.txt --new-vocabulary 120 "
        f"--block-size 32 {_TRAIN}",
        "out",
        whole=False,
    ),
    "finetune": Case(f"finetune --model {{root}}/base {_TOPIC} {_TRAIN}", "out", whole=False),
    "finetune again": Case(
        f"finetune --model {{root}}/base {_TOPIC} {_TRAIN} --overwrite",
        "out",
        (f"finetune --model {{root}}/base {_TOPIC} {_TRAIN} --seed 5",),
        whole=False,
    ),
    "seeds": Case(f"finetune --model {{root}}/base {_TOPIC} {_TRAIN} --seeds 1,2", "out", whole=False),
    "evaluate": Case(
        "evaluate --model {root}/topic --data {root}/data/topic --output-dir {root}/out --predictions --overwrite",
        "out",
        ("evaluate --model {root}/topic --data {root}/data/topic --output-dir {root}/out --adapter none",),
        whole=False,
    ),
    "predict": Case(f"predict --model {{root}}/topic --input {_ROWS} --output {{root}}/out.csv --window 16", "out.csv"),
    "predict again": Case(
        f"predict --model {{root}}/topic --input {_ROWS} --output {{root}}/out.csv --window 16 --overwrite",
        "out.csv",
        (f"predict --model {{root}}/topic --input {_ROWS} --output {{root}}/out.csv --language sw",),
    ),
    "predict shards": Case(
        f"predict --model {{root}}/topic --input {_ROWS} --output {{root}}/out --shard-rows 16", "out", whole=False
    ),
    "pack save": Case("pack save --model {root}/base --language de --output-dir {root}/out", "out"),
    "pack save again": Case("pack save --model {root}/base --language de --output-dir {root}/pack --overwrite", "pack"),
    "pack install": Case("pack install {root}/pack --model {root}/topic --language gsw", "topic", whole=False),
    "pack install elsewhere": Case(
        "pack install {root}/pack --model {root}/topic --language gsw --output-dir {root}/out --overwrite",
        "out",
        ("pack install {root}/pack --model {root}/topic --language als --output-dir {root}/out",),
    ),
    "pack remove": Case("pack remove --model {root}/topic --language sw", "topic", whole=False),
    "diff": Case("diff {root}/base {root}/topic --allow encoder --output {root}/out.json", "out.json"),
    "convert": Case("convert {root}/base --to fairseq --output-dir {root}/out", "out"),
    "convert back": Case(
        "convert {root}/fairseq --output-dir {root}/out --overwrite",
        "out",
        (
            "convert {root}/base --to fairseq --output-dir {root}/fairseq",
            "upcycle --model {root}/base --languages de --output-dir {root}/out",
        ),
    ),
    "upcycle": Case("upcycle --model {root}/base --languages de,gsw --output-dir {root}/out", "out"),
    "trim": Case("trim --model {root}/base --languages de --text {root}/data/text --output-dir {root}/out", "out"),
}
# Their contents have times in them.
_DATED = {"results.json", "results.md", "report.html", "pack.json", "model.pt", "results.svg", "predict.json"}


@pytest.fixture(scope="module")
def origin(
    corpus: Path, base_run: Run, topic_run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path], None]:
    """Fills a folder with models, a pack and data."""
    folder = tmp_path_factory.mktemp("origin") / "root"
    for name, run in (("base", base_run), ("topic", topic_run)):
        shutil.copytree(run.output_dir, folder / name, ignore=shutil.ignore_patterns("checkpoints", "blocks"))
    shutil.copytree(corpus, folder / "data")
    pack_save(folder / "base", "sw", output_dir=folder / "pack")
    (folder / "topic" / "notes.txt").write_text("mine")

    def fill(root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(folder, root)

    return fill


def tree(root: Path) -> dict[str, bytes]:
    """Files by name, without those that are on their way, and without times in them."""
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {
        name: b"" if path.name in _DATED else path.read_bytes()
        for name, path in found.items()
        if PREFIX not in name and ".parts/" not in name and path.name not in ("README.md", "run.json", "demo.json")
    }


def run(nursery: Nursery, words: list[str], first: str = "") -> tuple[int, str]:
    pid, log = nursery.start(*words, first=first)
    code = nursery.wait(pid)
    return code, log.read_text(encoding="utf-8")


def killed(
    name: str,
    moments: Callable[[int], list[int]],
    nursery: Nursery,
    origin: Callable[[Path], None],
    folder: Path,
) -> int:
    """Kill a verb before some of its changes; returns how many changes there are."""
    case, root, log = CASES[name], folder / "root", folder / "changes.log"

    def fill() -> None:
        origin(root)
        for words in case.before:
            code, said = run(nursery, words.format(root=root).split())
            assert code == 0, said

    def hook(at: int) -> str:
        log.write_text("")
        return _HOOK.format(root=str(root), at=at, log=str(log))

    fill()
    shutil.copytree(root, folder / "before")

    def again() -> None:
        shutil.rmtree(root)
        shutil.copytree(folder / "before", root)

    before = tree(root)
    code, said = run(nursery, case.words(root), hook(0))
    assert code == (1 if name == "diff" else 0), said
    after, changes = tree(root), log.read_text().splitlines()
    assert not list(root.rglob(f"*{PREFIX}*"))
    for at in moments(len(changes)):
        again()
        code, said = run(nursery, case.words(root), hook(at))
        assert code == -9, (at, said)
        if case.whole:
            left, place = tree(root), case.output
            one = {path: content for path, content in left.items() if path.split("/")[0] == place}
            assert one in [
                {path: content for path, content in all_.items() if path.split("/")[0] == place}
                for all_ in (before, after)
            ], changes[at - 1]
        code, said = run(nursery, case.words(root))
        assert code in (0, 1, 2) if name == "diff" else code in (0, 2), (at, changes[at - 1], said)
        left = tree(root)
        assert left.keys() == after.keys(), (at, changes[at - 1], said)
        different = [path for path in after if left[path] != after[path]]
        assert not different, (at, changes[at - 1], different, said)
        assert not list(root.rglob(f"*{PREFIX}*")), (at, changes[at - 1])
    return len(changes)


_QUICK = ("pack install", "pack install elsewhere")


@pytest.mark.parametrize("name", _QUICK)
def test_killed_at_some_moments(name: str, nursery: Nursery, origin: Callable[[Path], None], tmp_path: Path) -> None:
    def some(count: int) -> list[int]:
        return [count // 2, count - 3]

    assert killed(name, some, nursery, origin, tmp_path) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_moment(name: str, nursery: Nursery, origin: Callable[[Path], None], tmp_path: Path) -> None:
    count = killed(name, lambda count: list(range(1, count + 1)), nursery, origin, tmp_path)
    print(f"{name}: {count} changes")


@pytest.mark.parametrize("name", CASES)
def test_who_comes_second_is_refused_at_once(
    name: str, nursery: Nursery, origin: Callable[[Path], None], tmp_path: Path
) -> None:
    case, root = CASES[name], tmp_path / "root"
    origin(root)
    before = tree(root)
    with held(root / case.output):
        code, said = run(nursery, case.words(root))
    assert code == 2
    assert f"Another run is writing to {root / case.output}: wait" in said
    assert tree(root) == before
    assert not list(root.rglob(f"*{PREFIX}*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_of_two_at_once_one_works(name: str, nursery: Nursery, origin: Callable[[Path], None], tmp_path: Path) -> None:
    case, root = CASES[name], tmp_path / "root"
    origin(root)
    for words in case.before:
        assert run(nursery, words.format(root=root).split())[0] == 0
    place, signs = root / case.output, tmp_path / "signs"
    signs.mkdir()
    together = _TOGETHER.format(place=str(place), signs=str(signs))
    started = [nursery.start(*case.words(root), first=together) for _ in range(2)]
    codes = sorted(nursery.wait(pid) for pid, _ in started)
    said = [log.read_text(encoding="utf-8") for _, log in started]
    assert codes == [1 if name == "diff" else 0, 2], said
    assert any("Another run is writing to" in each for each in said), said
    assert not list(root.rglob(f"*{PREFIX}*"))
