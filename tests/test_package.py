"""What a user meets first: the import."""

import configparser
import json
import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import diffusers_dawn

ROOT = Path(__file__).parents[1]


# in this order, in one process: each must do without what a later one may import
IMPORTS = {
    "the package": "import diffusers_dawn",
    "the command": "import diffusers_dawn.cli.command, diffusers_dawn.cli.options",
    "speech features": "import diffusers_dawn.speech.features",
    "the pipeline": "diffusers_dawn.DAWNPipeline",
}


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Return the packages that a process has imported after each of these."""
    code = (
        f"import json, sys\nfor line in {[*IMPORTS.values()]}:\n    exec(line)\n"
        "    print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(IMPORTS, map(set, map(json.loads, done.stdout.splitlines())), strict=True))


def test_import_is_light(imported):
    heavy = {"torch", "diffusers", "transformers", "librosa", "mediapipe", "av", "numpy"}
    assert "diffusers_dawn" in imported["the package"] and imported["the package"].isdisjoint(heavy)


def test_the_command_knows_its_options_and_presets_without_torch(imported):
    assert "torch" not in imported["the command"]


def test_speech_features_are_imported_without_transformers(imported):
    assert "torch" in imported["speech features"] and "transformers" not in imported["speech features"]


def test_pipeline_import_is_free_of_optional_packages(imported):
    assert "diffusers" in imported["the pipeline"]
    assert imported["the pipeline"].isdisjoint({"librosa", "mediapipe", "av"})


@pytest.mark.parametrize("name", diffusers_dawn.__all__)
def test_public_name_exists(name):
    assert getattr(diffusers_dawn, name) is not None


def pages() -> list[Path]:
    root = Path(__file__).parents[1]
    folders = (root, root / "docs", root / "training", root / "benchmarks", root / "model_cards")
    return [*(page for folder in folders for page in folder.glob("*.md")), *root.glob("examples/*.ipynb")]


def test_pages_import_public_names_only():
    imported = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        imported += re.findall(r"\bdiffusers_dawn\.(\w+)", text)
        for names in re.findall(r"from diffusers_dawn import ([\w, ]+)", text):
            imported += names.split(", ")
    assert {"DAWNPipeline", "write_video", "FrameLabel"} <= set(imported)
    assert set(imported) <= set(diffusers_dawn.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchName"):
        diffusers_dawn.NoSuchName  # noqa: B018


def promised_minors() -> list[int]:
    promised = SpecifierSet(settings_of_package()["options"]["python_requires"])
    return [minor for minor in range(8, 20) if f"3.{minor}.9" in promised]


def settings_of_package() -> configparser.ConfigParser:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return settings


def test_workflow_runs_the_checks_on_every_promised_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in promised_minors()]
    assert job["steps"][-1] == {"run": ".ci/run"} and os.access(ROOT / ".ci" / "run", os.X_OK)


def test_promised_pythons_are_those_of_what_is_needed():
    settings, minors = settings_of_package(), promised_minors()
    assert minors == list(range(min(minors), max(minors) + 1))
    for requirement in settings["options"]["install_requires"].split():
        name = re.match(r"[\w-]+", requirement)[0]
        needed = metadata(name)["Requires-Python"]
        assert all(f"3.{minor}.9" in SpecifierSet(needed or "") for minor in minors), (name, needed)


def test_dockerfile_installs_what_ci_tests_from_files_that_exist():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (tested,) = set(re.findall(r"torch==[\d.]+", (ROOT / ".ci" / "run").read_text(encoding="utf-8")))
    assert set(re.findall(r"torch==[\d.]+", dockerfile)) == {tested}
    base = int(re.search(r"^FROM python:3\.(\d+)-slim-\w+$", dockerfile, flags=re.MULTILINE)[1])
    assert base in promised_minors()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", dockerfile, flags=re.MULTILINE) for name in line.split()]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied and all((ROOT / name).exists() and f"!{name}" in ignored for name in copied)


@pytest.mark.parametrize(
    ("variant", "installs"),
    [
        ("cpu", "install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch=="),
        ("cuda", "install --no-cache-dir torch=="),
        ("rocm", None),
    ],
)
def test_containers_take_the_torch_of_their_variant(variant, installs, tmp_path):
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(r"^RUN (case .*)$", dockerfile, flags=re.MULTILINE)
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    environment = os.environ | {"VARIANT": variant, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    if installs is None:
        assert done.returncode == 1 and "VARIANT is rocm, must be cpu or cuda" in done.stderr
    else:
        assert done.returncode == 0 and done.stdout.startswith(installs)


def test_versions_agree():
    version = settings_of_package()["metadata"]["version"]
    assert version == diffusers_dawn.__version__
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    assert latest in {version, "Unreleased"}
