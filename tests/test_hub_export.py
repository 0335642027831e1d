"""The file for diffusers' examples/community; that it loads is claimed in test_saved_form.py."""

import ast
import re

import pytest

from diffusers_dawn.cli import main
from diffusers_dawn.hub_export import export_community, repository_source


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_community(tmp_path_factory.mktemp("community") / "dawn.py")


def test_file_begins_with_the_licence(exported):
    assert exported[0].read_text().startswith("# Licensed under the Apache License, Version 2.0")


def test_file_has_one_pipeline_class_with_an_example(exported):
    source = exported[0].read_text()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes if "DiffusionPipeline" in map(ast.unparse, node.bases)] == ["DAWNPipeline"]
    assert source.count("EXAMPLE_DOC_STRING = ") == 1
    assert '>>> pipe = DiffusionPipeline.from_pretrained("your-name/dawn", custom_pipeline="dawn"' in source


def test_example_of_a_repository_does_not_need_the_package():
    source = repository_source("diffusers_dawn.pipeline_dawn")
    example = re.search(r'EXAMPLE_DOC_STRING = """(.*?)"""', source, flags=re.DOTALL)[1]
    assert "diffusers_dawn" not in example and "trust_remote_code=True" in example


def test_readme_has_a_row_of_five_columns_whose_anchor_is_the_section(exported):
    text = exported[1].read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("|")]
    assert len(row.strip("|").split("|")) == 5
    title = re.search(r"^### (.+)$", text, flags=re.MULTILINE)[1]
    assert f"(#{title.lower().replace(' ', '-')})" in row


def test_readme_code_compiles(exported):
    compile(re.search(r"```python\n(.*?)```", exported[1].read_text(), flags=re.DOTALL)[1], "README", "exec")


def test_command_writes_both_files(tmp_path, capsys):
    assert main(["export-community", str(tmp_path / "dawn.py")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dawn.md", "dawn.py"]
    assert str(tmp_path / "dawn.py") in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dawn.txt", "a-b.py", "missing/dawn.py"])
def test_unfit_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="`output`"):
        export_community(tmp_path / name)


@pytest.mark.parametrize("name", ["dawn.py", "dawn.md"])
def test_files_that_exist_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"would overwrite .*{name}"):
        export_community(tmp_path / "dawn.py")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
