"""README and docs keep their word: Python runs, commands parse, names are complete, links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import torch
import typer
from transformers import PreTrainedModel

import xmodular
from xmodular import XmodConfig, XmodForMaskedLM, finetune, pretrain
from xmodular import options as all_options
from xmodular.catalogue import RELEASES, Release
from xmodular.cli import app
from xmodular.demo.parallel_corpus import write_corpus
from xmodular.options import PretrainOptions, build

# Packages that pages use and the development tools lack, by how a page's Python says that it needs them.
_OPTIONAL = {"peft": "from peft import", "sentence_transformers": "sentence_transformer"}
ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
VERBS = {options.verb: options for options in all_options.VERBS}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line and text of the fenced blocks of a language."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in found]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make demo` leaves behind, small and all but untrained."""
    folder = tmp_path_factory.mktemp("demo")
    corpus = write_corpus(folder / "corpus", sentences_per_language=60, task_train=24, task_test=12)
    pretrain(
        corpus / "text",
        dev_text=corpus / "text_dev",
        output_dir=folder / "base",
        vocab_size=600,
        preset="tiny",
        overrides={"hidden_size": 32, "intermediate_size": 64},
        block_size=128,
        max_steps=1,
    )
    finetune(
        folder / "base",
        corpus / "topic" / "en_XX.train.jsonl",
        language="en",
        output_dir=folder / "topic",
        max_steps=1,
    )
    return folder


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page.stem != "log"], ids=lambda page: page.stem
)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own call
@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")  # of transformers' Trainer
def test_python_runs(page: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a page in one go, in a folder where `make demo` was done."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo, tmp_path / "demo")
    names: dict[str, object] = {}
    for line, text in blocks(page, "python"):
        missing = [name for name, mark in _OPTIONAL.items() if mark in text and importlib.util.find_spec(name) is None]
        if missing:
            continue  # not among the development tools
        # Blank lines first, so that a traceback shows the line of the page.
        exec(compile("\n" * line + text, str(page), "exec"), names)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run(path: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo, tmp_path / "demo")
    names: dict[str, object] = {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    assert len(names) > 4


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every call of `xmodular` in a shell block: where it stands, and its words."""
    for page in PAGES:
        for start, text in blocks(page, "sh"):
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "xmodular" in words:
                    yield f"{page.name}:{start}", words[words.index("xmodular") + 1 :]


@pytest.mark.parametrize(("place", "words"), list(command_lines()))
def test_commands_parse(place: str, words: list[str]) -> None:
    if words == ["--help"]:
        return
    verb, *arguments = words
    assert verb in COMMANDS, place
    command = COMMANDS[verb]
    if hasattr(command, "commands"):  # a group of verbs
        name, *arguments = arguments
        assert name in command.commands, place
        command, verb = command.commands[name], f"{verb} {name}"
    if arguments == ["--help"]:
        return
    given = command.make_context(verb, arguments).params
    config = given.pop("config")
    values = {name: value for name, value in given.items() if value is not None}
    options = VERBS[verb]
    if config is not None:  # what is required may stand in the file
        values = {field.name: "x" for field in fields(options) if field.default is MISSING} | values
    build(options, values)


def test_configuration_files_in_the_docs_hold_options() -> None:
    import yaml

    shown = [text for page in PAGES for _, text in blocks(page, "yaml")]
    assert shown
    for text in shown:
        build(PretrainOptions, yaml.safe_load(text))


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target for page in PAGES for _, text in blocks(page, "sh") for target in re.findall(r"^make (\w+)", text, re.M)
    }
    named |= {target for page in PAGES for target in re.findall(r"`make (\w+)`", page.read_text(encoding="utf-8"))}
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_the_options_page_is_what_the_options_say() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "reference" / "make_options.py"))
    made = script["page"]()
    assert script["STUB"].read_text(encoding="utf-8") == script["stub"](), "write the stub anew in the same way"
    page = (ROOT / "docs" / "reference" / "options.md").read_text(encoding="utf-8")
    assert page == made, "write it anew: python docs/reference/make_options.py"
    for verb, record in VERBS.items():
        section = page.split(f"\n## {verb}\n")[1].split("\n## ")[0]
        for field in fields(record):
            assert f"| `{field.name}`" in section, (verb, field.name)


def test_every_public_name_is_in_the_reference() -> None:
    folders = [ROOT / "docs" / "reference", ROOT / "docs" / "api"]
    pages = "".join(page.read_text(encoding="utf-8") for folder in folders for page in folder.glob("*.md"))
    for name in set(xmodular.__all__) - {"__version__"}:
        assert re.search(rf"(`|:: )(xmodular\.)?{name}\b", pages), name


def test_every_argument_of_every_model_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    sections = {part.split("`")[1].split("(")[0]: part for part in page.split("\n## ") if part.startswith("`")}
    shared = set(inspect.signature(xmodular.XmodModel.forward).parameters)
    for name in xmodular.__all__:
        value = getattr(xmodular, name)
        if not inspect.isclass(value) or not issubclass(value, (XmodConfig, PreTrainedModel)):
            continue
        assert name in sections
        if name == "XmodModel":
            arguments = shared
        elif name == "XmodConfig":
            arguments = set(XmodConfig.__annotations__) - {"model_type"}
        elif name == "XmodPreTrainedModel":
            arguments = {key for key in vars(value) if not key.startswith("_") and callable(vars(value)[key])}
            arguments -= {"check_backend", "config_class"}
        else:
            arguments = set(inspect.signature(value.forward).parameters) - shared
        for argument in arguments - {"self", "kwargs"}:
            assert re.search(rf"`{argument}\b", sections[name]), (name, argument)


def parameters(release: Release, languages: int) -> int:
    """Parameters of the masked language model with so many languages, without making them."""

    def made(count: int) -> int:
        with torch.device("meta"):
            model = XmodForMaskedLM(XmodConfig.preset(release.name, languages=release.languages[:count]))
        return sum(parameter.numel() for parameter in model.parameters())

    one = made(1)
    return one + (languages - 1) * (made(2) - one)


def test_the_table_of_checkpoints_is_the_catalogue() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for release in RELEASES.values():
        total, active = (parameters(release, count) / 1e6 for count in (len(release.languages), 1))
        numbers = f"{len(release.languages)} | {release.updates:,} | {total:.1f}M | {active:.1f}M"
        assert f"| `{release.hub_id}` | {numbers} |" in text, (release.name, numbers)


def test_every_dependency_has_its_reason() -> None:
    listed = re.search(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S
    )
    assert listed
    reasons = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("## What it is built on")[1]
    for name in re.findall(r'"([A-Za-z0-9_-]+)', listed.group(1)):
        assert re.search(rf"^\|[^|]*\b{name}\b[^|]*\|", reasons, re.MULTILINE), name
