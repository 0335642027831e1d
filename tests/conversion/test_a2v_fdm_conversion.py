import ast
import os
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from diffusers_dawn.conversion.a2v_fdm import convert_a2v_fdm, training_seed_confirmed
from diffusers_dawn.conversion.renaming import load_strictly
from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel

GOLDENS = Path(os.environ.get("DAWN_GOLDENS", Path(__file__).parents[2] / "../shared/goldens"))
KEY_LISTS = [GOLDENS / "keys" / f"original_keys_{name}.txt" for name in ("unet", "diffusion")]
FINGERPRINT = GOLDENS / "seed1234_fingerprint.safetensors"
FACE_LOCATION = GOLDENS / "face_location_seed1234.safetensors"
ROTARY = "denoise_fn.{}.fn.fn.fn.rotary_emb.freqs"

pytestmark = [
    pytest.mark.skipif(
        not all(path.exists() for path in (*KEY_LISTS, FINGERPRINT, FACE_LOCATION)),
        reason=f"no list of the published keys in {GOLDENS}: set DAWN_GOLDENS",
    ),
    # the default model has no storage here, only names and shapes are of interest
    pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter"),
]


def published_denoiser(key_list: Path = KEY_LISTS[1]) -> dict[str, torch.Tensor]:
    """The published file's keys and shapes; only the rotary tables, which are compared, have values."""
    published = {}
    for line in key_list.read_text().splitlines():
        if match := re.fullmatch(r"(\S+) (\(.*\))", line):
            key = match[1] if "diffusion" in key_list.name else f"denoise_fn.{match[1]}"
            device = "cpu" if key.endswith("rotary_emb.freqs") else "meta"
            published[key] = torch.zeros(ast.literal_eval(match[2]), device=device)
    return published


@pytest.fixture(scope="module")
def default_model() -> A2VFlowDiffusionModel:
    with torch.device("meta"):
        return A2VFlowDiffusionModel()


@pytest.mark.parametrize("key_list", KEY_LISTS, ids=lambda path: path.stem)
def test_published_keys_fill_the_default_model(key_list, default_model):
    config, tensors, left_out = convert_a2v_fdm(published_denoiser(key_list))
    load_strictly(default_model, tensors, "published")
    assert config.items() <= dict(default_model.config).items()
    # every key is used once or named; the encoder's four tensors are added, and some projections become three
    num_cut = sum(key.endswith("to_q.weight") for key in tensors)
    assert num_cut > 0
    assert len(tensors) - 4 - 2 * num_cut + len(left_out) == len(published_denoiser(key_list))


def test_left_out_are_the_schedule_the_rotary_copies_and_what_was_never_trained():
    _, _, left_out = convert_a2v_fdm(published_denoiser())
    never_trained = [key for key in left_out if re.match(r"denoise_fn\.(final_conv|occlusion_map)\.0\.cross_", key)]
    copies = [key for key in left_out if key.endswith("rotary_emb.freqs")]
    schedule = [key for key in left_out if not key.startswith("denoise_fn.")]
    assert (len(never_trained), len(copies), len(schedule)) == (48, 9, 12)
    assert len(left_out) == 48 + 9 + 12
    assert ROTARY.format("init_temporal_attn") not in left_out


def test_size_and_window_go_into_the_config():
    config, _, _ = convert_a2v_fdm(published_denoiser(), sample_size=64, temporal_window=None)
    assert config["sample_size"] == 64
    assert config["temporal_window"] is None
    assert convert_a2v_fdm(published_denoiser())[0]["temporal_window"] == 40


def test_face_location_encoder_gets_the_values_of_the_training_seed():
    _, tensors, _ = convert_a2v_fdm(published_denoiser())
    for key, tensor in safetensors.torch.load_file(FACE_LOCATION).items():
        assert torch.equal(tensors[f"face_location_encoder.{key}"], tensor)


def test_unknown_keys_are_refused_by_name():
    published = published_denoiser() | {"denoise_fn.surprise.weight": torch.zeros(1), "other": torch.zeros(1)}
    with pytest.raises(
        ValueError, match=r"2 key\(s\) `denoise_fn.surprise.weight`, `other` of the checkpoint not known"
    ):
        convert_a2v_fdm(published)


@pytest.mark.parametrize(
    ("key", "new_key"),
    [
        ("mid_block1.block1.proj.bias", "middle.block1.conv1.bias"),
        ("downs.0.0.cross_attn_aud.null_kv", "down_levels.0.block1.conditions.attentions.audio.null_key_value"),
        # sizes are read from these
        ("init_conv.weight", "conv_in.weight"),
        ("time_rel_pos_bias.relative_attention_bias.weight", "position_bias.table.weight"),
        ("downs.3.0.block1.proj.weight", "down_levels.3.block1.conv1.weight"),
        ("downs.0.0.audio_mlp.1.weight", "down_levels.0.block1.conditions.attentions.audio.embed.weight"),
        ("init_temporal_attn.fn.fn.fn.to_qkv.weight", "temporal_attention_in.to_q.weight"),
    ],
)
def test_missing_keys_are_refused_by_name(key, new_key, default_model):
    published = published_denoiser()
    del published[f"denoise_fn.{key}"]
    with pytest.raises(ValueError, match=rf"`{re.escape(new_key)}`"):
        _, tensors, _ = convert_a2v_fdm(published)
        load_strictly(default_model, tensors, "published")


def test_empty_checkpoint_is_refused():
    with pytest.raises(ValueError, match="the denoiser checkpoint lacks"):
        convert_a2v_fdm({})


def test_tensors_of_a_wrong_shape_are_refused_by_name(default_model):
    published = published_denoiser() | {"denoise_fn.mid_block1.block1.proj.bias": torch.zeros(7)}
    _, tensors, _ = convert_a2v_fdm(published)
    with pytest.raises(ValueError, match=r"`middle.block1.conv1.bias` is \(7,\), must be \(512,\)"):
        load_strictly(default_model, tensors, "published")


def test_layers_with_other_rotary_frequencies_are_refused_by_name():
    key = ROTARY.format("mid_temporal_attn")
    assert key in published_denoiser()
    with pytest.raises(ValueError, match=f"`{re.escape(key)}` of the checkpoint differs"):
        convert_a2v_fdm(published_denoiser() | {key: torch.ones(16)})


def test_missing_first_rotary_frequencies_are_refused():
    published = published_denoiser()
    del published[ROTARY.format("init_temporal_attn")]
    with pytest.raises(ValueError, match="rotary_emb.freqs` of the checkpoint differs"):
        convert_a2v_fdm(published)


class TestTrainingSeed:
    @pytest.fixture
    @staticmethod
    def drawn() -> dict[str, torch.Tensor]:
        return safetensors.torch.load_file(FINGERPRINT)

    def test_drawn_tensors_confirm_it(self, drawn):
        assert training_seed_confirmed(published_denoiser() | drawn) is True

    def test_one_other_tensor_denies_it(self, drawn):
        key = next(iter(drawn))
        assert training_seed_confirmed(published_denoiser() | drawn | {key: drawn[key] + 1e-6}) is False

    def test_other_sizes_leave_it_open(self, drawn):
        key = next(iter(drawn))
        assert training_seed_confirmed(drawn | {key: torch.zeros(3)}) is None

    def test_absent_tensors_leave_it_open(self, drawn):
        drawn.popitem()
        assert training_seed_confirmed(drawn) is None
        assert training_seed_confirmed({}) is None
