"""The wheel holds all that `zoo train` needs."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(600)
def test_the_wheel_trains_from_another_folder(tmp_path):
    call(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(ROOT)
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    python = tmp_path / "venv" / "bin" / "python"
    call(
        sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet",
        str(wheel),
    )  # fmt: skip
    site = call(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # The dependencies come from here; a folder named by a .pth has its own .pth files left out,
    # so an editable install of the repository is not seen.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    variables = {
        k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON"))
    }
    options = {
        "cwd": elsewhere,
        "env": variables | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path / "cache")},
    }
    assert call(str(python), "-c", "import zoo; print(zoo.__file__)", **options).startswith(site)
    zoo = str(tmp_path / "venv" / "bin" / "zoo")
    shown = call(
        zoo, "train", "--config", "digits_cnn", "--steps", "20", "--workdir", "a run", **options
    )  # fmt: skip
    assert "params_digest" in shown
    assert (elsewhere / "a run" / "result.json").is_file()
    assert "accuracy" in call(zoo, "evaluate", "a run", **options)
    assert "lstm-wikitext2-200" in call(zoo, "models", "lstm*", **options)
