"""Checks a result.json against what its config's docstring says the run reaches.

    python .ci/result.py CONFIG RESULT [CLAIM...]

A claim is `metric >= number` or `metric <= number`; without any, those of the docstring count: its
lines `Reaches: metric >= number` (several separated by commas).
"""

import ast
import json
import re
import sys
from pathlib import Path


def claims_of(config: str) -> list[str]:
    """What the docstring of a config promises."""
    text = ast.get_docstring(ast.parse(Path(config).read_text(encoding="utf-8"))) or ""
    return [claim for line in re.findall(r"(?m)^Reaches:(.*)$", text) for claim in line.split(",")]


def main(config: str, result: str, *claims: str) -> int:
    """Prints each claim beside the figure; 1 if one does not hold, or nothing is promised."""
    metrics = json.loads(Path(result).read_text(encoding="utf-8"))["metrics"]
    claims = claims or tuple(claims_of(config))
    if not claims:
        print(f"{config}: its docstring has no line 'Reaches: metric >= number'")
        return 1
    failed = 0
    for claim in claims:
        match = re.fullmatch(r"\s*(\w+)\s*(>=|<=)\s*([\d.eE+-]+?)\.?\s*", claim)
        if not match or not isinstance(metrics.get(match[1]), int | float):
            print(f"{config}: cannot check {claim.strip()!r}; the metrics are {sorted(metrics)}")
            return 1
        value, bound = metrics[match[1]], float(match[3])
        holds = value >= bound if match[2] == ">=" else value <= bound
        print(f"{config}: {match[1]} {value:.4f}, {claim.strip()}: {'ok' if holds else 'MISSED'}")
        failed |= not holds
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
