"""The released X-MOD checkpoints and the named shapes, and the table that shows them.

Sources: fairseq `examples/xmod` (names, languages, updates, flags; its README for the archives), the configurations of
the released checkpoints (sizes), and the model cards on the Hub (licences of all eleven, SwissBERT's languages).
SwissBERT's vocabulary is derived: the 50,260 pieces of its tokenizer and XLM-R's two further rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xmodular.errors import ConfigurationError, LanguageError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

_81 = (
    "en_XX id_ID vi_VN ru_RU fa_IR sv_SE ja_XX fr_XX de_DE ro_RO ko_KR hu_HU es_XX fi_FI uk_UA da_DK pt_XX no_XX "
    "th_TH pl_PL bg_BG nl_XX zh_CN he_IL el_GR it_IT sk_SK hr_HR tr_TR ar_AR cs_CZ lt_LT hi_IN zh_TW ca_ES ms_MY "
    "sl_SI lv_LV ta_IN bn_IN et_EE az_AZ sq_AL sr_RS kk_KZ ka_GE tl_XX ur_PK is_IS hy_AM ml_IN mk_MK be_BY la_VA "
    "te_IN eu_ES gl_ES mn_MN kn_IN ne_NP sw_KE si_LK mr_IN af_ZA gu_IN cy_GB eo_EO km_KH ky_KG uz_UZ ps_AF pa_IN "
    "ga_IE ha_NG am_ET lo_LA ku_TR so_SO my_MM or_IN sa_IN"
)
_13 = "ar_AR en_XX fi_FI fr_XX hi_IN id_ID ka_GE ko_KR ru_RU sw_KE ta_IN th_TH vi_VN"
_30 = _13 + (" cs_CZ eu_ES hr_HR hu_HU hy_AM it_IT lt_LT ml_IN mn_MN ms_MY pl_PL ro_RO si_LK sk_SK sq_AL sv_SE tl_XX")
_60 = _30 + (
    " af_ZA am_ET be_BY bn_IN ca_ES cy_GB da_DK eo_EO et_EE fa_IR ga_IE gl_ES gu_IN ha_NG is_IS ku_TR la_VA lv_LV"
    " mk_MK ne_NP nl_XX no_XX ps_AF pt_XX sa_IN sd_PK sl_SI so_SO sr_RS te_IN"
)
_75 = _60 + (" as_IN br_FR bs_BA fy_NL gd_GB jv_ID kn_IN mg_MG mr_IN om_KE or_IN pa_IN su_ID xh_ZA yi_DE")

# What every released checkpoint shares: XLM-R's vocabulary, positions (512 + pad offset of 2), one token type.
_XLMR: dict[str, Any] = {
    "vocab_size": 250_002,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "pre_norm": False,
    "adapter_reduction_factor": 2,
    "adapter_layer_norm": False,
    "adapter_reuse_layer_norm": True,
    "ln_before_adapter": True,
}
_LARGE_PRENORM: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "pre_norm": True,
    "adapter_reduction_factor": 4,
    "adapter_layer_norm": True,
    "adapter_reuse_layer_norm": False,
    "ln_before_adapter": False,
}


@dataclass(frozen=True)
class Release:
    """A released checkpoint.

    Attributes:
        name: short name, as in `XmodConfig.preset(name)`.
        hub_id: repository on the Hugging Face Hub.
        fairseq_name: name of the original fairseq archive, if there is one.
        languages: its languages; the position is the language id.
        updates: optimiser updates of its pretraining.
        source: where it was first published: the fairseq archive, or the Hub.
        licence: SPDX identifier of the weights' licence; None if unknown.
        tokenizer: repository on the Hub that has its tokenizer.
        fields: the other fields of its configuration.
    """

    name: str
    hub_id: str
    fairseq_name: str | None
    languages: tuple[str, ...]
    updates: int
    source: str
    licence: str | None
    tokenizer: str
    fields: dict[str, Any] = field(repr=False)

    @property
    def parameters(self) -> int:
        """Parameters of the masked language model, whose word embeddings are tied to its head."""
        return self._count(len(self.languages))

    @property
    def active_parameters(self) -> int:
        """Parameters that one language needs."""
        return self._count(1)

    def _count(self, languages: int) -> int:
        f = self.fields
        width, inner, rows = f["hidden_size"], f["intermediate_size"], f["vocab_size"]
        norm = 2 * width
        embeddings = (rows + f["max_position_embeddings"] + f["type_vocab_size"]) * width + norm
        attention = 4 * (width * width + width) + norm
        feed_forward = 2 * width * inner + inner + width + norm
        bottleneck = width // f["adapter_reduction_factor"]
        adapter = 2 * width * bottleneck + bottleneck + width
        layer = attention + feed_forward + languages * adapter + (norm if f["adapter_layer_norm"] else 0)
        head = width * width + width + norm + rows
        return embeddings + f["num_hidden_layers"] * layer + (norm if f["pre_norm"] else 0) + head


_XLMR_TOKENIZER = "FacebookAI/xlm-roberta-base"
_ARCHIVES = "https://dl.fbaipublicfiles.com/fairseq/models/xmod"
_ARCHIVE_OF = {"xmod-base": "xmod.base.81.1M", "xmod-large-prenorm": "xmod.large.prenorm.81.500k"}


def _facebook(name: str, languages: str, updates: int, shape: dict[str, Any]) -> Release:
    ids = tuple(languages.split())
    if len(ids) != 81:  # the smaller models list their languages alphabetically
        ids = tuple(sorted(ids))
    fairseq_name = name.replace("-", ".")
    archive = f"{_ARCHIVES}/{_ARCHIVE_OF.get(name, fairseq_name)}.tar.gz"
    fields = {**_XLMR, **shape}
    return Release(name, f"facebook/{name}", fairseq_name, ids, updates, archive, "MIT", _XLMR_TOKENIZER, fields)


def _zurich(name: str, languages: tuple[str, ...], rows: int) -> Release:
    hub_id = f"ZurichNLP/{name}"
    fields = {**_XLMR, **_BASE, "vocab_size": rows}
    source = f"https://huggingface.co/{hub_id}"
    return Release(name, hub_id, None, languages, 365_680, source, "CC-BY-NC-4.0", hub_id, fields)


_SWISS = ("de_CH", "fr_CH", "it_CH", "rm_CH")

RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        _facebook("xmod-base", _81, 1_000_000, _BASE),
        _facebook("xmod-large-prenorm", _81, 500_000, _LARGE_PRENORM),
        _facebook("xmod-base-13-125k", _13, 125_000, _BASE),
        _facebook("xmod-base-30-125k", _30, 125_000, _BASE),
        _facebook("xmod-base-30-195k", _30, 195_000, _BASE),
        _facebook("xmod-base-60-125k", _60, 125_000, _BASE),
        _facebook("xmod-base-60-265k", _60, 265_000, _BASE),
        _facebook("xmod-base-75-125k", _75, 125_000, _BASE),
        _facebook("xmod-base-75-269k", _75, 269_000, _BASE),
        _zurich("swissbert", (*_SWISS, "gsw"), 50_262),
        _zurich("swissbert-xlm-vocab", _SWISS, _XLMR["vocab_size"]),
    )
}


def _small_shape(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        **_BASE,
        **_XLMR,
        "vocab_size": 8192,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }


# Shapes for training from scratch: xmod-base's flags at a smaller size. Vocabulary and languages are the run's.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": _small_shape(128, 2, 2),
    "mini": _small_shape(256, 4, 4),
    "small": _small_shape(512, 4, 8),
    "base": {**_XLMR, **_BASE},
    "large-prenorm": {**_XLMR, **_LARGE_PRENORM},
}


@dataclass(frozen=True)
class Catalogue:
    """Released checkpoints to show.

    Attributes:
        releases: one or more of `RELEASES`.
    """

    releases: tuple[Release, ...]

    def table(self) -> Table:
        """One line per checkpoint; a single checkpoint in full, with its languages."""
        return _one(self.releases[0]) if len(self.releases) == 1 else _many(self.releases)


def models(name: str | None = None, *, language: str | None = None) -> Catalogue:
    """The released checkpoints.

    Args:
        name: show only this checkpoint: its short name, or its name on the Hub or in fairseq.
        language: only checkpoints with this language, named as for `xmodular.languages.resolve`.

    Raises:
        ConfigurationError: there is no such checkpoint.
        LanguageError: none has the language.
    """
    releases = tuple(RELEASES.values())
    for what, given in (("name", name), ("language", language)):
        if given is not None and not isinstance(given, str):
            raise ConfigurationError(f"{what} must be a text; got a {type(given).__name__}.")
    if name is not None:
        names = {each: release for release in releases for each in _names(release)}
        if name not in names:
            hint = did_you_mean(name, RELEASES, likeness=0.5)
            raise ConfigurationError(
                f"no checkpoint is called {name!r}: {hint} The checkpoints are {', '.join(RELEASES)}."
            )
        releases = (names[name],)
    if language is not None:
        releases = _with_language(releases, language)
    return Catalogue(releases)


def released_as(config: Mapping[str, Any]) -> Release | None:
    """The released checkpoint whose vocabulary a model has, also with other languages; None if there is none.

    Args:
        config: the content of the model's ``config.json``.
    """
    for release in RELEASES.values():
        same = all(config.get(name) == release.fields[name] for name in ("vocab_size", "hidden_size"))
        if same and not set(release.languages).isdisjoint(config.get("languages") or ()):
            return release
    return None


def _names(release: Release) -> Iterable[str]:
    return filter(None, (release.name, release.hub_id, release.fairseq_name))


def _with_language(releases: tuple[Release, ...], language: str) -> tuple[Release, ...]:
    from xmodular.languages import resolve

    having = []
    for release in releases:
        try:
            resolve(language, release.languages)
        except LanguageError:
            continue
        having.append(release)
    if not having:
        resolve(language, dict.fromkeys(code for release in releases for code in release.languages))
    return tuple(having)


def _many(releases: tuple[Release, ...]) -> Table:
    from rich.table import Table

    table = Table(title="Released checkpoints", title_justify="left")
    for heading in ("name", "languages", "updates", "layers x width", "parameters", "for one language", "licence"):
        table.add_column(heading, justify="left" if heading in ("name", "licence") else "right", no_wrap=True)
    for release in releases:
        table.add_row(
            release.name,
            str(len(release.languages)),
            f"{release.updates:,}",
            f"{release.fields['num_hidden_layers']} x {release.fields['hidden_size']}",
            _millions(release.parameters),
            _millions(release.active_parameters),
            release.licence or "unknown",
        )
    owners = dict.fromkeys(release.hub_id.split("/")[0] for release in releases)
    table.caption = (
        f"On the Hub under {' and '.join(f'{owner}/' for owner in owners)}. `xmodular models {releases[0].name}` "
        "shows one in full, with its languages, flags and source."
    )
    table.caption_justify = "left"
    return table


def _one(release: Release) -> Table:
    from rich.table import Table

    from xmodular.languages import english_name

    table = Table(title=release.name, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Hub", release.hub_id)
    table.add_row("fairseq", release.fairseq_name or "none")
    table.add_row("source", release.source)
    table.add_row("licence", release.licence or "unknown")
    table.add_row("tokenizer", release.tokenizer)
    table.add_row("updates", f"{release.updates:,}")
    table.add_row("parameters", f"{_millions(release.parameters)}, {_millions(release.active_parameters)} per language")
    for flag, value in release.fields.items():
        table.add_row(flag, str(value))
    table.add_section()
    for number, code in enumerate(release.languages):
        table.add_row(f"{number:2} {code}", english_name(code))
    return table


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f}M"
