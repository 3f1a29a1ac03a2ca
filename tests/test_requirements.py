"""The hash-locked requirements: complete, in step with pyproject.toml, without any address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "requirements").glob("python3.*.txt"))


def locked(path):
    """Version and hashes by package."""
    text = path.read_text().replace("\\\n", " ")
    found = {}
    for line in filter(None, text.splitlines()):
        name, version, hashes = re.fullmatch(r"([\w.-]+)==(\S+)( .*)", line).groups()
        found[canonicalize_name(name)] = version, hashes.split()
    return found


def test_there_is_one_for_each_python_that_is_tested():
    assert [path.stem for path in LOCKS] == ["python3.11", "python3.12"]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_dependency_is_locked_at_a_version_that_it_allows(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = locked(path)
    for line in project["dependencies"] + extras["test"] + extras["text"]:
        requirement = Requirement(line)
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), line


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_has_hashes_and_there_is_no_address(path):
    for name, (_, hashes) in locked(path).items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", item) for item in hashes), name
    assert not re.search(r"://|index|find-links|/opt|@", path.read_text())
