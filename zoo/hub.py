"""Names on the Hugging Face hub, beside folders."""

from pathlib import Path

from zoo.errors import InputError

TOKENIZER = ["*.json", "*.txt", "*.jinja"]
"""What is fetched for a tokenizer."""
MODEL = [*TOKENIZER, "*.safetensors"]
"""What is fetched for a model: no pickles, no code."""


def find_folder(path_or_hub_name: str | Path, patterns: list[str] = MODEL) -> Path:
    """A folder as it is, or the cached copy of a name on the hub, fetched where it is not.

    Args:
        path_or_hub_name: a folder, or a name such as `google-bert/bert-base-uncased`.
        patterns: which files are fetched.

    Raises:
        InputError: there is no such folder or name, or no network to ask.
    """
    name = str(path_or_hub_name)
    path = Path(name)
    try:
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, ValueError):  # longer than a path may be, or with a zero byte
        raise InputError(f"{name[:100]!r}: no such folder") from None
    if exists:
        raise InputError(f"{path} is a file; give the folder that holds it")
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise InputError(f"{path}: no such folder")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
    except LocalEntryNotFoundError:
        raise InputError(
            f"{name}: no such folder, not in the hub's cache, and the hub cannot be reached; check "
            "the name, the network, HF_HUB_OFFLINE"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise InputError(f"{name}: no such folder, and the hub says: {str(error)[:300]}") from None
