"""Every line of the page about the Hub runs against a stand-in of it: uploads with this package, loading without."""

import re
from pathlib import Path

import pytest

from diffusers_dawn import DAWNModularPipeline
from example_runs import OPTIONAL, run_without
from stand_in_hub import StandInHub

PAGE = Path(__file__).parents[2] / "docs" / "hub.md"


def blocks() -> list[str]:
    return re.findall(r"```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_every_line_of_the_hub_docs_runs(tmp_path, tiny_pipe):
    upload, load = blocks()
    tiny_pipe.save_pretrained(tmp_path / "my-dawn")
    (tmp_path / "hub").mkdir()
    with StandInHub(tmp_path / "hub") as hub:
        online = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_none", "NO_PROXY": "127.0.0.1"}
        online |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
        # what is uploaded is small, for it takes long otherwise
        setup = "import diffusers_dawn\ndiffusers_dawn.demo_checkpoint = lambda: 'my-dawn'\n"
        run_without(("peft",), setup + upload, tmp_path, **online)
        report = "print(*(type(part).__module__ for part in (pipe, lfg, blocks.blocks, blocks.unet)))"
        printed = run_without(("diffusers_dawn", *OPTIONAL), load + report, tmp_path, **online)
    modules = printed.splitlines()[-1].split()
    assert len(modules) == 4 and {module.split(".")[0] for module in modules} == {"diffusers_modules"}


@pytest.mark.slow
def test_blocks_are_packed_by_the_command_of_diffusers(tmp_path, tiny_pipe):
    DAWNModularPipeline.from_pipe(tiny_pipe).save_pretrained(tmp_path / "saved")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "blocks.py").write_bytes((tmp_path / "saved" / "blocks.py").read_bytes())
    words = ["custom_blocks", "--block_module_name", "blocks.py", "--block_class_name", "DAWNBlocks"]
    code = f"import sys; sys.argv[1:] = {words}; from diffusers.commands.diffusers_cli import main; main()"
    run_without(("diffusers_dawn", *OPTIONAL), code, tmp_path / "packed")
    names = {path.name for path in (tmp_path / "packed").glob("*.json")}
    assert names == {"modular_config.json", "modular_model_index.json"}
