"""Compiled against eager, ours and transformers' X-MOD, on one thread.

    python benchmarks/compiled.py [--rounds 7] [--layers 4] [--sizes 1x16,8x64,32x128]

The layers have xmod-base's shape with random weights, in single precision: fewer of them than its twelve, so that
compiling takes minutes and not an hour. `torch.compile(dynamic=True)` with the default backend (inductor), ours with
fullgraph=True. Batches are ragged (log-normal lengths, padded to the longest, which is the size's) in `--languages` in
turn. Outputs at real tokens are compared before the timing. A peer that does not compile is said so. Times are seconds
of the processor's core, so that other programs do not count.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from transformers.models.xmod import XmodConfig as PeerConfig
from transformers.models.xmod import XmodModel as PeerModel

from harness import interleave, log_normal_lengths, machine, ragged_batch, ratio
from xmodular import XmodConfig, XmodModel

VOCAB = 1000


def models(layers: int) -> tuple[XmodModel, torch.nn.Module]:
    names = [f"l{index:03d}_XX" for index in range(20)]
    config = XmodConfig.preset("xmod-base", vocab_size=VOCAB, languages=names, num_hidden_layers=layers)
    ours = XmodModel(config, add_pooling_layer=False).eval()
    fields = config.to_dict() | {"adapter_reduction_factor": int(config.adapter_reduction_factor)}
    peer = PeerModel(PeerConfig(**fields, attn_implementation="sdpa"), add_pooling_layer=False)
    peer.load_state_dict(ours.state_dict(), strict=False)
    return ours, peer.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--sizes", default="1x16,8x64,32x128")
    parser.add_argument("--languages", default="1,8,20")
    parser.add_argument("--warmup", type=int, default=2, help="rounds that are not counted")
    parser.add_argument("--without-peer-compiled", action="store_true", help="which compiles for long")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    ours, peer = models(options.layers)
    counter, peer_counter = (CompileCounterWithBackend("inductor") for _ in range(2))
    compiled: Any = torch.compile(ours, backend=counter, dynamic=True, fullgraph=True)
    peer_compiled: Any = torch.compile(peer, backend=peer_counter, dynamic=True)
    print(
        "| batch | languages | peer | peer compiled | eager | compiled | eager / compiled | peer / eager | "
        "peer compiled / compiled |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    seconds = {"ours": 0.0, "peer": 0.0}
    broken: str | None = None
    apart = 0.0
    with torch.inference_mode(False), torch.no_grad():
        for size in options.sizes.split(","):
            rows, longest = (int(part) for part in size.split("x"))
            for languages in map(int, options.languages.split(",")):
                if languages > rows > 1 or (rows == 1 and languages > 1):
                    languages = rows if languages == 20 and rows > 8 else 0
                if not languages:
                    continue
                lengths = log_normal_lengths(rows, mean=longest / 3, longest=longest, seed=0)
                lengths[0] = longest
                batch = ragged_batch(lengths, languages, VOCAB, seed=1)
                real = batch["attention_mask"].bool()
                expected = ours(**batch).last_hidden_state[real]
                variants: dict[str, Any] = {
                    "peer": lambda batch=batch: peer(**batch).last_hidden_state,
                    "peer compiled": lambda batch=batch: peer_compiled(**batch).last_hidden_state,
                    "eager": lambda batch=batch: ours(**batch).last_hidden_state,
                    "compiled": lambda batch=batch: compiled(**batch).last_hidden_state,
                }
                if options.without_peer_compiled:
                    del variants["peer compiled"]
                for who, name in (("ours", "compiled"), ("peer", "peer compiled")):
                    if name not in variants:
                        continue
                    start = time.perf_counter()
                    try:
                        found = variants[name]()[real]
                    except Exception as error:  # the peer's, said below
                        if who == "ours":
                            raise
                        broken = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                        del variants[name]
                        continue
                    seconds[who] += time.perf_counter() - start
                    gap = float((found - expected).abs().max())
                    if who == "ours":
                        apart = max(apart, gap)
                    elif gap > 1e-4:
                        broken = f"outputs differ by {gap:.2g} at {size}, {languages} languages"
                times = interleave(
                    variants, options.rounds * (8 if rows == 1 else 1), options.warmup, time.process_time
                )
                cells = [
                    f"{1e3 * sorted(times[name])[len(times[name]) // 2]:.0f} ms" if name in times else "-"
                    for name in ("peer", "peer compiled", "eager", "compiled")
                ]
                cells.append(f"{ratio(times, 'eager', 'compiled'):.2f}")
                cells.append(f"{ratio(times, 'peer', 'eager'):.2f}")
                cells.append(f"{ratio(times, 'peer compiled', 'compiled'):.2f}" if "peer compiled" in times else "-")
                print(f"| {size} | {languages} | " + " | ".join(cells) + " |", flush=True)
    print(
        f"ours: {counter.frame_count} graphs, first calls {seconds['ours']:.0f} s in all, "
        f"at most {apart:.1e} from eager"
    )
    print(f"peer: {peer_counter.frame_count} graphs, first calls {seconds['peer']:.0f} s in all; {broken or 'equal'}")


if __name__ == "__main__":
    main()
