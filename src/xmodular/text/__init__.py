"""Text on disk → clean lines → tokenised blocks → mixed batches with masks."""

from xmodular.text.blocks import BlockCache, LanguageBlocks, MixedBlocks
from xmodular.text.counts import LineCounts, lines_table
from xmodular.text.hub_text import HubText, find_dataset
from xmodular.text.masking import CausalLMCollator, MaskedLMCollator, collator_of, word_starts
from xmodular.text.measuring import MeasuredText, measured_text, say_unknown
from xmodular.text.packing import pack
from xmodular.text.raw_lines import is_text
from xmodular.text.sampling import Batches, Draw, LanguageSampler, Share, block_lengths, language_shares
from xmodular.text.text_files import TextFiles, files_of, find_text
