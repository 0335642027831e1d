import copy
from pathlib import Path

import pytest
import torch

from diffusers_dawn.conversion.pbnet import convert_pbnet, read_options
from diffusers_dawn.conversion.renaming import load_strictly
from diffusers_dawn.models.pbnet import PoseBlinkNet

LATENT, AUDIO, AUDIO_WIDTH, STATE_WIDTH, WIDTH, FEED_FORWARD, HEADS, HEAD_DIM, BUCKETS = 8, 5, 12, 4, 16, 10, 4, 8, 32
OPTIONS = {
    "archiname": "transformerreemb5",
    "num_layers": 2,
    "ff_size": FEED_FORWARD,
    "latent_dim": LATENT,
    "audio_dim": AUDIO,
    "audio_latent_dim": AUDIO_WIDTH,
    "num_buckets": BUCKETS,
    "max_distance": 64,
}


def published_shapes(state_dim: int) -> dict[str, tuple[int, ...]]:
    inner, encoder_width = HEADS * HEAD_DIM, 2 * STATE_WIDTH + AUDIO_WIDTH

    def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    shapes = linear("encoder.mu_layer", LATENT, encoder_width) | linear("encoder.sigma_layer", LATENT, encoder_width)
    shapes |= linear("encoder.poseEmbedding", STATE_WIDTH, state_dim)
    for half in ("encoder", "decoder"):
        shapes |= linear(f"{half}.firstposeEmbedding", STATE_WIDTH, state_dim)
        shapes |= linear(f"{half}.audioEmbedding", AUDIO_WIDTH, AUDIO)
    shapes |= {
        "encoder.sequence_pos_encoder.pe": (20, 1, encoder_width),
        "decoder.sequence_pos_encoder.pe": (20, 1, WIDTH),
        "decoder.time_rel_pos_bias_tgt.relative_attention_bias.weight": (BUCKETS, HEADS),
        "decoder.time_rel_pos_bias_mem.relative_attention_bias.weight": (BUCKETS, HEADS),
        "decoder.init_temporal_attn.fn.fn.rotary_emb.freqs": (2,),
        "decoder.init_temporal_attn.fn.fn.to_qkv.weight": (3 * inner, WIDTH),
        "decoder.init_temporal_attn.fn.fn.to_out.weight": (WIDTH, inner),
        "decoder.init_temporal_attn.fn.norm.gamma": (1, 1, WIDTH),
    }
    shapes |= linear("decoder.ztimelinear", WIDTH, STATE_WIDTH + LATENT + AUDIO_WIDTH)
    shapes |= linear("decoder.init_proj", WIDTH, WIDTH) | linear("decoder.finallayer", state_dim, WIDTH)
    for index in range(OPTIONS["num_layers"]):
        layer = f"encoder.seqTransEncoder.layers.{index}"
        shapes |= {
            f"{layer}.self_attn.in_proj_weight": (3 * encoder_width, encoder_width),
            f"{layer}.self_attn.in_proj_bias": (3 * encoder_width,),
        }
        shapes |= linear(f"{layer}.self_attn.out_proj", encoder_width, encoder_width)
        shapes |= linear(f"{layer}.linear1", FEED_FORWARD, encoder_width)
        shapes |= linear(f"{layer}.linear2", encoder_width, FEED_FORWARD)
        shapes |= norm(f"{layer}.norm1", encoder_width) | norm(f"{layer}.norm2", encoder_width)
        layer = f"decoder.seqTransDecoder.decoder_layers.{index}"
        shapes |= {
            f"{layer}.self_attn.rotary_emb.freqs": (2,),
            f"{layer}.self_attn.to_qkv.weight": (3 * inner, WIDTH),
            f"{layer}.self_attn.to_out.weight": (WIDTH, inner),
            f"{layer}.multihead_attn.rotary_emb.freqs": (2,),
            f"{layer}.multihead_attn.to_q.weight": (inner, WIDTH),
            f"{layer}.multihead_attn.to_k.weight": (inner, WIDTH),
            f"{layer}.multihead_attn.to_v.weight": (inner, WIDTH),
            f"{layer}.multihead_attn.to_out.weight": (WIDTH, inner),
        }
        shapes |= linear(f"{layer}.ffn.linear1", FEED_FORWARD, WIDTH)
        shapes |= linear(f"{layer}.ffn.linear2", WIDTH, FEED_FORWARD)
        for number in (1, 2, 3):
            shapes |= norm(f"{layer}.layer_norm{number}", WIDTH)
    return shapes


def make_published(state_dim: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(state_dim)
    tensors = {key: torch.randn(shape, generator=generator) for key, shape in published_shapes(state_dim).items()}
    shared = torch.tensor([1.0, 0.02])
    return {key: shared if "seqTrans" in key and "freqs" in key else tensor for key, tensor in tensors.items()}


def convert(network: str = "pose", full: bool = False, options: dict | None = None, **changes: torch.Tensor):
    state_dim = {"pose": 6, "blink": 2, "joint": 8}[network]
    published = make_published(state_dim) | changes
    return convert_pbnet(**{network: published, f"{network}_options": options or OPTIONS, "full": full})


@pytest.mark.parametrize("network", ["pose", "blink", "joint"])
@pytest.mark.parametrize("full", [False, True])
def test_converted_network_loads_strictly_with_sizes_from_its_tensors(network, full):
    config, state_dict, ignored = convert(network, full)
    model = PoseBlinkNet(**config)
    load_strictly(model, state_dict, network)
    assert config["networks"] == network
    assert config["with_encoder"] == full
    assert (config["latent_dim"], config["head_dim"], config["rotary_dim"]) == (LATENT, HEAD_DIM, 4)
    assert config["max_distance"] == 64
    assert f"{network}: decoder.sequence_pos_encoder.pe" in ignored
    assert (f"{network}: encoder.mu_layer.weight" in ignored) != full


def test_pose_and_blink_become_one_model():
    config, state_dict, _ = convert_pbnet(
        make_published(6), make_published(2), pose_options=OPTIONS, blink_options=OPTIONS | {"max_distance": 50}
    )
    model = PoseBlinkNet(**config)
    load_strictly(model, state_dict, "both")
    assert config["networks"] == "separate"
    assert config["blink_sizes"] == {"max_distance": 50}
    assert model.tracks["blink"].decoder.self_bias.max_distance == 50


def test_every_published_tensor_is_used_or_reported():
    published = make_published(6)
    _, state_dict, ignored = convert(full=True)
    used = sum(tensor.numel() for tensor in state_dict.values())
    left_out = sum(published[key.removeprefix("pose: ")].numel() for key in ignored)
    assert used + left_out == sum(tensor.numel() for tensor in published.values())


def test_stored_rotary_frequencies_are_kept():
    _, state_dict, _ = convert()
    assert torch.equal(state_dict["tracks.pose.decoder.rotary.frequencies"], torch.tensor([1.0, 0.02]))


def test_fused_projection_is_split_into_query_key_value():
    fused = make_published(6)["decoder.init_temporal_attn.fn.fn.to_qkv.weight"]
    _, state_dict, _ = convert()
    parts = [state_dict[f"tracks.pose.decoder.start_attention.to_{part}.weight"] for part in ("query", "key", "value")]
    assert torch.equal(torch.cat(parts), fused)


def test_converted_model_is_saved_and_loaded(tmp_path):
    config, state_dict, _ = convert(full=True)
    model = PoseBlinkNet(**config)
    load_strictly(model, state_dict, "pose")
    model.save_pretrained(tmp_path)
    for key, tensor in PoseBlinkNet.from_pretrained(tmp_path).state_dict().items():
        assert torch.equal(tensor, state_dict[key])


@pytest.mark.parametrize(("variant", "window"), [("transformerreemb5", 200), ("transformerreemb6", 100)])
def test_variant_decides_the_pose_window(variant, window):
    config, _, _ = convert(options=OPTIONS | {"archiname": variant})
    assert config["pose_window"] == window


@pytest.mark.parametrize("entry", ["state_dict", "model"])
def test_state_dict_beside_counters_and_optimizer_is_found(entry):
    published = make_published(6)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).state_dict()
    nested = {"epoch": 3, entry: published, "optimizer": optimizer}
    _, state_dict, _ = convert_pbnet(nested, pose_options=OPTIONS)
    assert torch.equal(state_dict["tracks.pose.decoder.to_difference.bias"], published["decoder.finallayer.bias"])


def test_checkpoint_without_or_with_several_state_dicts_is_an_error():
    for checkpoint in ({"epoch": 3}, {"a": make_published(6), "b": make_published(6)}):
        with pytest.raises(ValueError, match=r"`pose` has the entries .* exactly one entry"):
            convert_pbnet(checkpoint, pose_options=OPTIONS)


def test_no_network_and_a_wrong_combination_are_errors():
    with pytest.raises(ValueError, match="given are no networks"):
        convert_pbnet()
    with pytest.raises(ValueError, match=r"given are \['pose', 'joint'\]"):
        convert_pbnet(make_published(6), joint=make_published(8), pose_options=OPTIONS, joint_options=OPTIONS)


def test_missing_options_are_an_error():
    with pytest.raises(ValueError, match="`pose_options` is None"):
        convert_pbnet(make_published(6))


@pytest.mark.parametrize("key", ["archiname", "max_distance"])
def test_option_that_no_tensor_shows_is_required(key):
    options = copy.copy(OPTIONS)
    del options[key]
    with pytest.raises(ValueError, match=f"`pose_options` lacks `{key}`"):
        convert(options=options)


def test_options_that_contradict_the_tensors_are_an_error():
    with pytest.raises(ValueError, match=r"ff_size = 11, the checkpoint's tensors 10"):
        convert(options=OPTIONS | {"ff_size": 11})


@pytest.mark.parametrize("network", ["blink", "joint"])
def test_variant_without_eye_outputs_is_an_error_for_eyes(network):
    with pytest.raises(ValueError, match=r"archiname = 'transformerreemb6', must be 'transformerreemb5' here"):
        convert(network, options=OPTIONS | {"archiname": "transformerreemb6"})


def test_unknown_variant_is_an_error():
    with pytest.raises(ValueError, match=r"must be 'transformerreemb5' or 'transformerreemb6' here"):
        convert(options=OPTIONS | {"archiname": "transformer"})


def test_network_of_the_other_kind_is_an_error():
    with pytest.raises(ValueError, match="`pose` has 2 outputs, must have 6"):
        convert_pbnet(make_published(2), pose_options=OPTIONS)


def test_unknown_key_is_an_error():
    with pytest.raises(ValueError, match=r"`discriminator.weight` of the checkpoint not known"):
        convert(**{"discriminator.weight": torch.ones(1)})


def test_checkpoint_of_something_else_is_an_error():
    with pytest.raises(ValueError):
        convert_pbnet({"weight": torch.ones(1)}, pose_options=OPTIONS)


def test_layers_with_different_rotary_embeddings_are_an_error():
    with pytest.raises(ValueError, match="all layers must share one rotary embedding"):
        convert(**{"decoder.seqTransDecoder.decoder_layers.1.self_attn.rotary_emb.freqs": torch.zeros(2)})


def test_networks_that_read_different_features_are_an_error():
    blink = make_published(2)
    for half in ("encoder", "decoder"):
        blink[f"{half}.audioEmbedding.weight"] = torch.zeros(AUDIO_WIDTH, 7)
    with pytest.raises(ValueError, match="`blink` reads 7 audio features per frame, `pose` 5"):
        convert_pbnet(make_published(6), blink, pose_options=OPTIONS, blink_options=OPTIONS | {"audio_dim": 7})


TAGGED = """\
!!python/object:argparse.Namespace
archiname: transformerreemb5
num_layers: 2
lr: 4.0e-4
note: null
lambdas: !!python/object/new:collections.OrderedDict
  rc: 1.0
size: !!python/tuple [128, 64]
device: !!python/object/apply:torch.device [cuda, 0]
activation: !!python/name:torch.nn.functional.gelu ''
count: !!python/long '7'
name: !!python/unicode '12'
"""


def test_python_tags_are_read_as_plain_data(tmp_path):
    path = tmp_path / "opt.yaml"
    path.write_text(TAGGED)
    expected = {
        "archiname": "transformerreemb5",
        "num_layers": 2,
        "lr": 4e-4,
        "note": None,
        "lambdas": {"rc": 1.0},
        "size": (128, 64),
        "device": ["cuda", 0],
        "activation": None,
        "count": 7,
        "name": "12",
    }
    for source in (TAGGED, path, str(path)):
        assert read_options(source) == expected


def test_options_of_an_unsafe_dumper_are_read_back():
    import argparse
    import collections

    import yaml

    options = {
        "lambdas": collections.OrderedDict(kl=0.004),
        "args": argparse.Namespace(size=(1, 2)),
        "path": Path("a"),
    }
    options["again"] = options["lambdas"]
    plain = read_options(yaml.dump(options | OPTIONS))
    assert {key: plain[key] for key in OPTIONS} == OPTIONS
    assert plain["args"] == {"size": (1, 2)}


@pytest.mark.parametrize(
    "attack",
    [
        "!!python/object/apply:os.system ['touch {target}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{target}']]",
        "!!python/object/new:os.system ['touch {target}']",
        "!!python/object/apply:builtins.open ['{target}', 'w']",
        "!!python/object/apply:os.mkdir {{args: ['{target}'], kwds: {{}}}}",
        "!!python/module:this ''",
    ],
)
def test_nothing_in_the_options_is_executed(tmp_path, capsys, attack):
    target = tmp_path / "executed"
    options = read_options("archiname: x\nevil: " + attack.format(target=target) + "\n")
    assert options["archiname"] == "x"
    assert not target.exists()
    assert capsys.readouterr().out == ""


def test_missing_file_is_an_error(tmp_path):
    for source in (tmp_path / "opt.yaml", str(tmp_path / "opt.yaml")):
        with pytest.raises(ValueError, match="must be an existing file"):
            read_options(source)


def test_text_that_is_no_mapping_or_no_yaml_is_an_error():
    with pytest.raises(ValueError, match="holds a list, must hold a mapping"):
        read_options("- a: 1")
    with pytest.raises(ValueError, match="not readable as YAML"):
        read_options("a: [1, 2")


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "a: 2020-13-45", "a: !!timestamp x"])
def test_options_that_fail_in_other_ways_are_an_error(text):
    with pytest.raises(ValueError, match="`source` is not readable as YAML"):
        read_options(text)
