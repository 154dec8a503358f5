"""Text on disk → clean lines → tokenised blocks → mixed batches with masks."""

from xmodular.data.blocks import BlockCache, LanguageBlocks, MixedBlocks, pack
from xmodular.data.masking import MaskedLMCollator
from xmodular.data.sampling import Draw, LanguageSampler, Share, language_shares
from xmodular.data.text import LineCounts, TextFiles, find_text

__all__ = [
    "BlockCache",
    "Draw",
    "LanguageBlocks",
    "LanguageSampler",
    "LineCounts",
    "MaskedLMCollator",
    "MixedBlocks",
    "Share",
    "TextFiles",
    "find_text",
    "language_shares",
    "pack",
]
