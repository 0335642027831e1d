"""What a user meets first: the import."""

import configparser
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import diffusers_dawn


def test_import_is_light():
    heavy = ["torch", "diffusers", "transformers", "librosa", "mediapipe", "av", "numpy"]
    code = f"import sys, diffusers_dawn; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pipeline_import_is_free_of_optional_packages():
    heavy = ["librosa", "mediapipe", "av"]
    code = f"import sys, diffusers_dawn as d; d.DAWNPipeline; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", diffusers_dawn.__all__)
def test_public_name_exists(name):
    assert getattr(diffusers_dawn, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchName"):
        diffusers_dawn.NoSuchName  # noqa: B018


def test_promised_pythons_are_those_of_what_is_needed():
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[1] / "setup.cfg")
    promised = SpecifierSet(settings["options"]["python_requires"])
    minors = [minor for minor in range(8, 20) if f"3.{minor}.9" in promised]
    assert minors == list(range(min(minors), max(minors) + 1))
    for requirement in settings["options"]["install_requires"].split():
        name = re.match(r"[\w-]+", requirement)[0]
        needed = metadata(name)["Requires-Python"]
        assert all(f"3.{minor}.9" in SpecifierSet(needed or "") for minor in minors), (name, needed)
