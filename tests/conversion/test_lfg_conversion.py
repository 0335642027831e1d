import ast
import os
import re
from pathlib import Path

import pytest
import torch

from diffusers_dawn.conversion.lfg import ENTRIES, convert_lfg
from diffusers_dawn.conversion.renaming import load_strictly
from diffusers_dawn.models.lfg import LatentFlowGenerator

GOLDENS = Path(os.environ.get("DAWN_GOLDENS", Path(__file__).parents[2] / "../shared/goldens"))
KEY_LIST = GOLDENS / "keys" / "original_keys_lfg.txt"

pytestmark = pytest.mark.skipif(not KEY_LIST.exists(), reason=f"no list of the published keys at {KEY_LIST}")


def published_checkpoint() -> dict:
    """The published file's keys and shapes, without storage behind them."""
    checkpoint = {entry: {} for entry in ENTRIES}
    for line in KEY_LIST.read_text().splitlines():
        if match := re.fullmatch(r"(\w+)\.(\S+) (\(.*\))", line):
            dtype = torch.long if match[2].endswith("num_batches_tracked") else torch.float32
            checkpoint[match[1]][match[2]] = torch.empty(ast.literal_eval(match[3]), dtype=dtype, device="meta")
    return checkpoint


@pytest.mark.parametrize("full", [True, False])
def test_published_keys_fill_the_default_model(full):
    config, state_dict, _ = convert_lfg(published_checkpoint(), full=full)
    with torch.device("meta"):
        model = LatentFlowGenerator(with_motion_estimator=full)
    load_strictly(model, state_dict, "published")
    assert config.items() <= dict(model.config).items()


def test_left_out_keys_are_listed():
    checkpoint = {**published_checkpoint(), "optimizer": {}, "epoch": 3}
    _, state_dict, ignored = convert_lfg(checkpoint, full=True)
    blurs = ["generator.pixelwise_flow_predictor.down.weight", "region_predictor.down.weight"]
    assert sorted(ignored) == sorted([*blurs, "optimizer", "epoch"])
    _, state_dict_small, ignored_small = convert_lfg(checkpoint)
    assert len(state_dict) + len(ignored) == len(state_dict_small) + len(ignored_small)
    assert state_dict_small.keys() < state_dict.keys()


def test_image_size_goes_into_the_config():
    assert convert_lfg(published_checkpoint(), image_size=256)[0]["image_size"] == 256


@pytest.mark.parametrize("full", [True, False])
def test_unknown_keys_are_refused(full):
    checkpoint = published_checkpoint()
    checkpoint["region_predictor"]["surprise.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="region_predictor.surprise.weight"):
        convert_lfg(checkpoint, full=full)


def test_missing_entries_are_refused():
    checkpoint = published_checkpoint()
    del checkpoint["bg_predictor"]
    with pytest.raises(ValueError, match="bg_predictor"):
        convert_lfg(checkpoint)
