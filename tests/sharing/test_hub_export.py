"""The file for diffusers' examples/community; more on how it loads is claimed in test_saved_form.py."""

import ast
import importlib
import re
import resource
import symtable
from pathlib import Path

import pytest
import yaml

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.cli.command import main
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import FPS
from diffusers_dawn.sharing.hub_export import BUNDLED, LEFT_OUT, export_community, repository_source
from example_runs import NUM_FRAMES, copy_inputs, python_blocks, run_without


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The file and its README, beside a pipeline as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("community")
    random_pipeline("tiny").save_pretrained(folder / "your-name" / "dawn")
    copy_inputs(folder)
    return export_community(folder / "dawn.py")


def test_file_begins_with_the_licence(exported):
    assert exported[0].read_text().startswith("# Licensed under the Apache License, Version 2.0")


def test_file_has_one_pipeline_class_with_an_example(exported):
    source = exported[0].read_text()
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes if "DiffusionPipeline" in map(ast.unparse, node.bases)] == ["DAWNPipeline"]
    assert source.count("EXAMPLE_DOC_STRING = ") == 1
    assert '>>> pipe = DAWNPipeline.from_pretrained("your-name/dawn")' in source


def test_file_does_without_streams_which_saved_pipelines_have(exported):
    community, saved = exported[0].read_text(), repository_source("diffusers_dawn.pipeline.pipeline_dawn")
    for name in LEFT_OUT:
        assert hasattr(DAWNPipeline, name.rpartition(".")[2])
    for text in ("    def stream(", "class SpeechStream", "class StreamWindows", "class ArrivingSpeech"):
        assert text in saved and text not in community


def test_file_holds_nothing_that_its_users_cannot_reach(exported):
    """By names in their scopes: a variable may be called like a function that the file does not need."""
    used, begin = {"__main__": set()}, {"__main__"}
    for statement in ast.parse(exported[0].read_text()).body:
        if not isinstance(statement, ast.Import | ast.ImportFrom | ast.If):
            table = symtable.symtable(ast.unparse(statement), "", "exec")
            defined = [symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()]
            names = global_names(table) | names_in_types(statement)
            used |= {name: used.get(name, set()) | names for name in defined or ["__main__"]}
    for module in map(importlib.import_module, BUNDLED):
        begin |= {name for name in used if getattr(getattr(module, name, None), "__module__", None) == module.__name__}
    reached, found = set(), begin
    while found:
        reached |= found
        found = set().union(*(used[name] for name in found)) & used.keys() - reached
    assert used.keys() - reached == set()


def global_names(table):
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return own.union(*map(global_names, table.get_children()))


def names_in_types(statement):
    """Words of texts that may be types; docstrings end with a full stop."""
    texts = (part.value for part in ast.walk(statement) if isinstance(part, ast.Constant))
    types = [text for text in texts if isinstance(text, str) and text.rstrip()[-1:] != "."]
    return set(re.findall(r"\w+", " ".join(types)))


def test_example_of_a_repository_does_not_need_the_package():
    source = repository_source("diffusers_dawn.pipeline.pipeline_dawn")
    example = re.search(r'EXAMPLE_DOC_STRING = """(.*?)"""', source, flags=re.DOTALL)[1]
    assert "diffusers_dawn" not in example and "trust_remote_code=True" in example


def test_readme_has_a_row_of_five_columns_whose_anchor_is_the_section(exported):
    text = exported[1].read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("|")]
    assert len(row.strip("|").split("|")) == 5
    title = re.search(r"^### (.+)$", text, flags=re.MULTILINE)[1]
    assert f"(#{title.lower().replace(' ', '-')})" in row


def test_row_names_the_authors_of_the_package(exported):
    (row,) = [line for line in exported[1].read_text().splitlines() if line.startswith("|")]
    citation = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    assert [row.strip("|").split("|")[-1].strip()] == [author["name"] for author in citation["authors"]]


@pytest.mark.slow
def test_readme_example_makes_a_video_by_the_file_and_none_of_the_folders_code(exported, detector):
    (example,) = python_blocks(exported[1].read_text())
    folder = exported[0].parent
    for path in (folder / "your-name").rglob("*.py"):
        path.write_text("raise RuntimeError('the code of the folder was run')")
    classes = "print({type(part).__module__ for part in (pipe, pipe.unet, pipe.lfg, pipe.pbnet, pipe.scheduler)})"
    assert run_without(("diffusers_dawn",), example + classes, folder).strip() == "{'dawn'}"
    assert count_video_frames(folder / "talking.mp4", FPS) == NUM_FRAMES


def test_command_writes_both_files(tmp_path, capsys):
    assert main(["export-community", str(tmp_path / "dawn.py")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dawn.md", "dawn.py"]
    assert str(tmp_path / "dawn.py") in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [*("dawn.txt", "a-b.py", "missing/dawn.py", "class.py", "torch.py", "wave.py", "tqdm.py"), "__init__.py", ""],
)
def test_unfit_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="`output`"):
        export_community(tmp_path / name)


def test_full_disk_leaves_nothing_and_the_same_command_works_afterwards(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="dawn.py cannot be written: File too large"):
            export_community(tmp_path / "dawn.py")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    export_community(tmp_path / "dawn.py")


@pytest.mark.parametrize("name", ["dawn.py", "dawn.md"])
def test_files_that_exist_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"would overwrite .*{name}"):
        export_community(tmp_path / "dawn.py")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
