"""The released X-MOD checkpoints and the named shapes: data only.

Sources: fairseq `examples/xmod` (names, languages, updates, flags), the configurations of the released
checkpoints (sizes), and the SwissBERT model card.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
        fields: what its configuration sets beside the languages.
    """

    name: str
    hub_id: str
    fairseq_name: str | None
    languages: tuple[str, ...]
    updates: int
    fields: dict[str, Any] = field(repr=False)


def _facebook(name: str, languages: str, updates: int, shape: dict[str, Any]) -> Release:
    ids = tuple(languages.split())
    if len(ids) != 81:  # the smaller models list their languages alphabetically
        ids = tuple(sorted(ids))
    return Release(name, f"facebook/{name}", name.replace("-", "."), ids, updates, {**_XLMR, **shape})


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
        Release(
            "swissbert",
            "ZurichNLP/swissbert",
            None,
            (*_SWISS, "gsw"),
            365_680,
            {**_XLMR, **_BASE, "vocab_size": 50_262},
        ),
        Release("swissbert-xlm-vocab", "ZurichNLP/swissbert-xlm-vocab", None, _SWISS, 365_680, {**_XLMR, **_BASE}),
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
