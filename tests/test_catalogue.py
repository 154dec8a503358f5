"""The released checkpoints: sizes, sources, and the tables that show them."""

import pytest
from rich.console import Console

from xmodular.catalogue import RELEASES, models
from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError, LanguageError
from xmodular.modeling import XmodForMaskedLM


def shown(catalogue, width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(catalogue.table())
    return capture.get()


# Millions, for all languages and for one: counted from the released checkpoints' configurations.
@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("xmod-base", 852.7, 285.4),
        ("xmod-large-prenorm", 1581.9, 572.8),
        ("xmod-base-13-125k", 370.5, 285.4),
        ("xmod-base-30-195k", 491.0, 285.4),
        ("xmod-base-60-265k", 703.8, 285.4),
        ("xmod-base-75-269k", 810.2, 285.4),
        ("swissbert", 160.2, 131.8),
        ("swissbert-xlm-vocab", 306.7, 285.4),
    ],
)
def test_parameters(name: str, total: float, active: float) -> None:
    assert round(RELEASES[name].parameters / 1e6, 1) == total
    assert round(RELEASES[name].active_parameters / 1e6, 1) == active


@pytest.mark.parametrize("name", ["xmod-base-13-125k", "xmod-large-prenorm"])
def test_parameters_are_those_of_the_model(name: str) -> None:
    import torch

    release = RELEASES[name]
    with torch.device("meta"):
        model = XmodForMaskedLM(XmodConfig.preset(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == release.parameters


def test_every_release_has_a_source_and_a_licence() -> None:
    for release in RELEASES.values():
        if release.fairseq_name:
            assert release.source.startswith(
                f"https://dl.fbaipublicfiles.com/fairseq/models/xmod/{release.fairseq_name}"
            )
            assert release.source.endswith(".tar.gz")
            assert release.licence == "MIT"
        else:
            assert release.source == f"https://huggingface.co/{release.hub_id}"
            assert release.licence == "CC-BY-NC-4.0"
    assert RELEASES["xmod-base"].source.endswith("/xmod.base.81.1M.tar.gz")
    assert RELEASES["xmod-base-13-125k"].source.endswith("/xmod.base.13.125k.tar.gz")


def test_all_in_one_table() -> None:
    lines = shown(models()).splitlines()
    for release in RELEASES.values():
        (line,) = (line for line in lines if f" {release.name} " in line)
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[:3] == [release.name, str(len(release.languages)), f"{release.updates:,}"]
        assert cells[-1] == release.licence
    assert max(map(len, lines)) <= 120


def test_one_is_shown_whole() -> None:
    text = shown(models("xmod-base"))
    for part in (
        "facebook/xmod-base",
        "xmod.base.81.1M.tar.gz",
        "MIT",
        "852.7M",
        "adapter_reuse_layer_norm",
        "Chinese (Traditional)",
        "66 eo_EO",
        "Esperanto",
    ):
        assert part in text
    assert text.count("│\n") >= 81
    assert models("facebook/xmod-base") == models("xmod.base") == models("xmod-base")


def test_by_language() -> None:
    assert [release.name for release in models(language="Swiss German").releases] == ["swissbert"]
    assert "gsw" in shown(models(language="gsw"))
    assert {release.name for release in models(language="de").releases} == {
        "xmod-base",
        "xmod-large-prenorm",
        "swissbert",
        "swissbert-xlm-vocab",
    }
    assert {release.name for release in models(language="yi").releases} == {"xmod-base-75-125k", "xmod-base-75-269k"}
    assert models("swissbert", language="rm") == models("swissbert")


def test_errors() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'xmod-bas': did you mean 'xmod-base'\? The checkpoints are xmod-base, "
    ):
        models("xmod-bas")
    with pytest.raises(LanguageError, match=r"'Klingon'.*en_XX"):
        models(language="Klingon")
    with pytest.raises(LanguageError, match=r"'sw'.*de_CH, fr_CH, it_CH, rm_CH, gsw\.$"):
        models("swissbert", language="sw")


def test_there_are_93_languages_in_the_nine_releases_of_x_mod() -> None:
    releases = [release for release in RELEASES.values() if release.fairseq_name is not None]
    assert len(releases) == 9
    assert len({code for release in releases for code in release.languages}) == 93
