"""What a user meets first: the import."""

import subprocess
import sys

import pytest

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
