"""Files of a pretrained folder: read with one clear message each, and written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import InputError


def read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no such file."""
    if not path.is_file():
        return None
    text = read_text(path)
    try:
        found = json.loads(text, parse_constant=_refuse)
        if "\\ud" in text.lower():  # half of a surrogate pair is no text that could be written
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        pointer = text.startswith("version https://git-lfs")
        why = "a Git LFS pointer: fetch the file itself" if pointer else f"damaged JSON: {error}"
        raise InputError(f"{path}: {why}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, found a {type(found).__name__}")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def write_texts(directory: str | Path, files: Mapping[str, str]) -> None:
    """Writes texts by file name, which may name folders below the directory.

    Raises:
        InputError: the directory cannot be written.
    """
    try:
        for name, text in files.items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    except OSError as error:
        raise InputError(f"{directory}: cannot be written: {error}") from None
