"""Greedy generation beside transformers: `python -m bench.generate` writes section G of RESULTS.md.

Both open one folder with a random GPT-2 of 124M parameters, continue the same prompts on the CPU,
and must give the same tokens. Each is a process of its own; rounds take turns.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import report
from bench.harness import ROOT

PROMPT = 32
"""Tokens of a prompt."""
LEAST, GOAL = 1.2, 1.6
"""Tokens per second beside transformers'."""
PEERS = ("zoo", "transformers")


def zoo_peer(folder: str, threads: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """`zoo.generate`, as a command of zoo runs it."""
    del threads  # XLA takes the cores that the process may use
    from zoo.launch import configure, prepare

    prepare([])
    configure(0, False)
    import zoo

    model, variables = zoo.from_pretrained(folder)
    return lambda ids, new: np.asarray(zoo.generate(model, variables, ids, max_new_tokens=new))


def transformers_peer(folder: str, threads: int) -> Callable[[np.ndarray, int], np.ndarray]:
    """`model.generate` with its cache; `GPT2LMHeadModel` with its fastest attention, sdpa."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def run(ids: np.ndarray, new: int) -> np.ndarray:
        prompts = torch.from_numpy(ids.astype(np.int64))
        with torch.inference_mode():
            found = model.generate(
                prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new,
                do_sample=False, use_cache=True, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        return found.numpy()

    return run


def serve(peer: str, folder: str, threads: int) -> None:
    """Answers `{"ids": ..., "new": n}` by seconds and tokens, until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    run = {"zoo": zoo_peer, "transformers": transformers_peer}[peer](folder, threads)
    for line in sys.stdin:
        request = json.loads(line)
        ids = np.asarray(request["ids"], np.int32)
        began = time.perf_counter()
        found = run(ids, request["new"])
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "tokens": found.tolist()}), file=answers, flush=True)


def save_model(folder: Path) -> None:
    """A GPT-2 of 124M parameters, as transformers initialises and saves it, with seed 0."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)


def ask(process: subprocess.Popen, ids: np.ndarray, new: int) -> dict[str, Any]:
    """One generation by a peer."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps({"ids": ids.tolist(), "new": new}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a peer ended; what it printed is above")
    return json.loads(line)


def compare(peers: dict[str, Any], batch: int, new: int, rounds: int, quiet: bool) -> str:
    """A row: milliseconds a step of both, and the ratio of the turns."""
    ids = np.random.default_rng(batch).integers(0, 50_257, (batch, PROMPT), dtype=np.int32)
    times: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds + 1):
        found = {name: ask(process, ids, new) for name, process in peers.items()}
        print(f"batch {batch}, round {number} of {rounds}", file=sys.stderr)
        tokens = [answer["tokens"] for answer in found.values()]
        assert tokens[0] == tokens[1], "the tokens differ"
        for name, answer in found.items() if number else ():  # the first round compiles
            times[name].append(answer["seconds"] / new)
    ours, theirs = (times[name] for name in PEERS)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    best = min(theirs) / min(ours)
    met = ("met" if ratio >= LEAST else "NOT met") if quiet else "not judged"
    return (
        f"| {batch} | {1e3 * statistics.median(ours):.1f} | {1e3 * min(ours):.1f} | "
        f"{1e3 * statistics.median(theirs):.1f} | {1e3 * min(theirs):.1f} | {ratio:.2f} | "
        f"{best:.2f} | {met} |"
    )


def main() -> None:
    """Measures and writes the section."""
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--new", type=int, default=64, help="tokens to generate (default 64)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (default 10)")
    parser.add_argument("--threads", type=int, default=2, help="of each peer (default 2)")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "RESULTS.md")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve(options.peer, options.folder, options.threads)
        return
    load = os.getloadavg()[0]
    quiet = load <= 0.5
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "NPROC": threads}
    environment |= {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as place:
        save_model(Path(place))
        command = [sys.executable, "-m", "bench.generate", "--threads", threads, "--folder", place]
        peers = {
            name: subprocess.Popen(
                [*command, "--peer", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True, cwd=ROOT, env=environment,
            )
            for name in PEERS
        }  # fmt: skip
        try:
            rows = [compare(peers, b, options.new, options.rounds, quiet) for b in options.batches]
        finally:
            for process in peers.values():
                process.kill()
                process.wait()
    title = "G: greedy tokens of a random GPT-2 of 124M parameters beside transformers, float32"
    where = (
        f"{datetime.date.today()}, {report.machine()}, {options.threads} threads a peer, load "
        f"{load:.1f} before; prompts of {PROMPT}, {options.new} new tokens, prompts included; "
        f"{options.rounds} rounds in turn. Tokens equal. The ratio is the median of the "
        f"turns' ratios, transformers' time by ours; least {LEAST}, goal {GOAL}."
    )
    if not quiet:
        where += " The machine was busy: an indication only."
    head = "| batch | zoo ms a step | fastest | transformers | fastest | ratio | of fastest | 1.2 |"
    table = "\n".join([head, "|---:" * 7 + "|---|", *rows])
    print(f"{title}\n{table}\n")
    report.write(options.output, "G", f"## {title}\n\n{where}\n\n{table}\n")


if __name__ == "__main__":
    main()
