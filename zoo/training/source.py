"""Which code a run executes: a hash of every file, and the revision of its repository."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
SHORT = 16  # hex digits of a file's hash in the receipt


def describe_source(own: Iterable[type] = ()) -> dict[str, Any]:
    """The files of this package and of the user's own classes, hashed one by one and together.

    Args:
        own: classes a run uses; those of this package are covered anyway.
    """
    files = {path.relative_to(PACKAGE.parent).as_posix(): path for path in PACKAGE.rglob("*.py")}
    for cls in own:
        path = getattr(sys.modules.get(cls.__module__), "__file__", None)
        if path and not Path(path).resolve().is_relative_to(PACKAGE.resolve()):
            files[Path(path).name] = Path(path)
    hashes = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()[:SHORT]
        for name, path in sorted(files.items())
        if path.is_file()
    }
    return {**_revision(), "sha256": _sum(hashes), "files": hashes}


def _sum(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _revision() -> dict[str, Any]:
    """The repository that holds this package, when it is run from one."""

    def git(*arguments: str) -> bytes:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments], capture_output=True, check=True
        )
        return done.stdout

    try:
        git("ls-files", "--error-unmatch", "errors.py")  # installed into another's repository?
        revision = git("rev-parse", "HEAD").decode().strip()
        changed = git("status", "--porcelain")
        difference = git("diff", "HEAD") if changed else b""
    except (OSError, subprocess.CalledProcessError):
        return {}
    found = {"revision": revision, "changed": bool(changed)}
    locked = PACKAGE.parent / "requirements" / f"python3.{sys.version_info.minor}.txt"
    if locked.is_file():
        found["requirements"] = hashlib.sha256(locked.read_bytes()).hexdigest()
    if changed:
        found["diff"] = hashlib.sha256(changed + difference).hexdigest()
    return found
