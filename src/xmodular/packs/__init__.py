"""A language on disk: a folder with its adapter, fingerprints of its base, and checksums. Does not need a model."""

from xmodular.packs.fingerprints import Base, Misfit
from xmodular.packs.pack import Pack
from xmodular.packs.pack_hub import check_repository, push_pack, read_pack
from xmodular.packs.pack_writing import check_target, write_pack

__all__ = ["Base", "Misfit", "Pack", "check_repository", "check_target", "push_pack", "read_pack", "write_pack"]
