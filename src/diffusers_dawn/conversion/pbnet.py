"""The published PBNet checkpoints (`checkpoint_*.pth.tar` with `opt.yaml`), translated."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

from .renaming import rename_keys

# farthest key seen in evaluation mode, by the variant that the options name [frames]
WINDOWS = {"transformerreemb5": 200, "transformerreemb6": 100}
BLINK_VARIANT = "transformerreemb5"
NETWORK_STATE_DIMS = {"pose": 6, "blink": 2, "joint": 8}

_ENCODER_RULES = [
    (r"encoder\.mu_layer\.(.+)", r"encoder.to_mu.\1"),
    (r"encoder\.sigma_layer\.(.+)", r"encoder.to_logvar.\1"),
    (r"encoder\.firstposeEmbedding\.(.+)", r"encoder.embed_first.\1"),
    (r"encoder\.poseEmbedding\.(.+)", r"encoder.embed_difference.\1"),
    (r"encoder\.audioEmbedding\.(.+)", r"encoder.embed_audio.\1"),
    (r"encoder\.seqTransEncoder\.(.+)", r"encoder.transformer.\1"),
]
_LAYER = r"decoder\.seqTransDecoder\.decoder_layers\.(\d+)\."
_PROJECTION = r"(query|key|value|out)\.weight"
_DECODER_RULES = [
    (r"decoder\.firstposeEmbedding\.(.+)", r"decoder.embed_first.\1"),
    (r"decoder\.audioEmbedding\.(.+)", r"decoder.embed_audio.\1"),
    (r"decoder\.ztimelinear\.(.+)", r"decoder.to_memory.\1"),
    (r"decoder\.init_proj\.(.+)", r"decoder.start_projection.\1"),
    (r"decoder\.time_rel_pos_bias_tgt\.relative_attention_bias\.weight", r"decoder.self_bias.table.weight"),
    (r"decoder\.time_rel_pos_bias_mem\.relative_attention_bias\.weight", r"decoder.cross_bias.table.weight"),
    (r"decoder\.init_temporal_attn\.fn\.fn\.rotary_emb\.freqs", r"decoder.start_rotary.frequencies"),
    (r"decoder\.seqTransDecoder\.decoder_layers\.0\.self_attn\.rotary_emb\.freqs", r"decoder.rotary.frequencies"),
    (r"decoder\.init_temporal_attn\.fn\.norm\.gamma", r"decoder.start_norm.weight"),
    (r"decoder\.init_temporal_attn\.fn\.fn\.to_" + _PROJECTION, r"decoder.start_attention.to_\1.weight"),
    (_LAYER + r"self_attn\.to_" + _PROJECTION, r"decoder.layers.\1.self_attention.to_\2.weight"),
    (_LAYER + r"multihead_attn\.to_" + _PROJECTION, r"decoder.layers.\1.cross_attention.to_\2.weight"),
    (_LAYER + r"ffn\.linear1\.(.+)", r"decoder.layers.\1.feed_forward.0.\2"),
    (_LAYER + r"ffn\.linear2\.(.+)", r"decoder.layers.\1.feed_forward.2.\2"),
    (_LAYER + r"layer_norm1\.(.+)", r"decoder.layers.\1.norm_self.\2"),
    (_LAYER + r"layer_norm2\.(.+)", r"decoder.layers.\1.norm_cross.\2"),
    (_LAYER + r"layer_norm3\.(.+)", r"decoder.layers.\1.norm_feed_forward.\2"),
    (r"decoder\.finallayer\.(.+)", r"decoder.to_difference.\1"),
]
# positions are computed for any length, the decoder never reads its own
_COMPUTED = [r"(encoder|decoder)\.sequence_pos_encoder\.pe"]
# one tensor, which the published file repeats for every attention that shares it
_SHARED_ROTARY = r"decoder\.seqTransDecoder\.decoder_layers\.\d+\.(self_attn|multihead_attn)\.rotary_emb\.freqs"
_FIRST_ROTARY = "decoder.seqTransDecoder.decoder_layers.0.self_attn.rotary_emb.freqs"


def convert_pbnet(
    pose: Mapping | None = None,
    blink: Mapping | None = None,
    joint: Mapping | None = None,
    pose_options: Mapping | None = None,
    blink_options: Mapping | None = None,
    joint_options: Mapping | None = None,
    full: bool = False,
) -> tuple[dict, dict[str, torch.Tensor], list[str]]:
    """Translate published PBNet checkpoints; sizes are read from the tensors' shapes.

    Each checkpoint is a state dict, or a mapping with exactly one entry that is one (as training loops save it,
    beside counters and optimizer states).

    Args:
        pose: The pose network, 6 outputs.
        blink: The blink network, 2 outputs.
        joint: The network of both, 8 outputs; not together with the others.
        pose_options: Content of the `opt.yaml` beside the pose network, see `read_options`.
        blink_options: The same of the blink network.
        joint_options: The same of the joint network.
        full: Whether to keep the encoders, which only training needs.

    Returns:
        The arguments of `PoseBlinkNet`, its state dict, and the published keys that were left out.

    Raises:
        ValueError: No network or a wrong combination is given; a checkpoint holds no state dict, an unknown key or
            another number of outputs; its layers do not share their rotary embedding; options lack a value,
            contradict the tensors, or name a variant that does not exist for the network.
    """
    given = {
        name: (checkpoint, options)
        for name, checkpoint, options in (
            ("pose", pose, pose_options),
            ("blink", blink, blink_options),
            ("joint", joint, joint_options),
        )
        if checkpoint is not None
    }
    networks = {("pose", "blink"): "separate", ("pose",): "pose", ("blink",): "blink", ("joint",): "joint"}
    if tuple(given) not in networks:
        raise ValueError(f"given are {list(given) or 'no networks'}, must be `pose`, `blink`, both, or `joint` alone")
    tensors: dict[str, torch.Tensor] = {}
    ignored: list[str] = []
    sizes, windows = {}, {}
    for name, (checkpoint, options) in given.items():
        if options is None:
            raise ValueError(f"`{name}_options` is None, must be the content of the `opt.yaml` beside the checkpoint")
        published = _find_state_dict(checkpoint, name)
        renamed, left_out = _rename(published, full)
        sizes[name] = _infer_sizes(published, options, name)
        windows[name] = _window(options, name)
        tensors |= {f"tracks.{name}.{key}": tensor for key, tensor in renamed.items()}
        ignored += [f"{name}: {key}" for key in left_out]
    config = _merge_config(sizes, windows) | {"networks": networks[tuple(given)], "with_encoder": full}
    return config, tensors, ignored


def read_options(source: str | os.PathLike) -> dict:
    """Read an `opt.yaml`; Python objects in it are read as plain data, nothing is constructed or run.

    Args:
        source: Path of the file, or its text (a string with a colon that names no file).

    Returns:
        The options by name.

    Raises:
        ValueError: There is no such file, or it is not a YAML mapping.
    """
    path = Path(source) if isinstance(source, os.PathLike) or ":" not in source or _is_file(source) else None
    if path is not None and not path.is_file():
        raise ValueError(f"`source` is {str(source)!r}, must be an existing file or the text of one")
    text = source if path is None else path.read_text(encoding="utf-8")
    try:
        options = yaml.load(text, Loader=_PlainLoader)
    except Exception as error:  # deep nesting, impossible dates and numbers fail in any way
        raise ValueError(f"`source` is not readable as YAML: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"`source` holds a {type(options).__name__}, must hold a mapping of options")
    return options


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that reads a value of any unknown tag as if the tag were not there."""


def _construct_plain(loader: _PlainLoader, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        items = loader.construct_sequence(node, deep=True)
        return tuple(items) if node.tag.endswith("python/tuple") else items
    if node.tag.endswith(("python/str", "python/unicode")):
        return node.value
    # the type that the value would have without its tag
    tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, node.value, node.start_mark, node.end_mark), deep=True)


# None is PyYAML's name for every tag without a constructor of its own
_PlainLoader.add_constructor(None, _construct_plain)


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except (OSError, ValueError):
        # a long text is no path
        return False


def _find_state_dict(checkpoint: Mapping, name: str) -> Mapping[str, torch.Tensor]:
    def is_state_dict(value: object) -> bool:
        return (
            isinstance(value, Mapping)
            and len(value) > 0
            and all(isinstance(key, str) and torch.is_tensor(tensor) for key, tensor in value.items())
        )

    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"`{name}` holds a {type(checkpoint).__name__}, must be or hold a state dict")
    if is_state_dict(checkpoint):
        return checkpoint
    entries = [key for key, value in checkpoint.items() if is_state_dict(value)]
    if len(entries) != 1:
        raise ValueError(
            f"`{name}` has the entries {list(checkpoint)}, must be a state dict or have exactly one entry that is one"
        )
    return checkpoint[entries[0]]


def _rename(published: Mapping[str, torch.Tensor], full: bool) -> tuple[dict[str, torch.Tensor], list[str]]:
    split: dict[str, torch.Tensor] = {}
    for key, tensor in published.items():
        if key.endswith(".to_qkv.weight"):
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            # copies: three views of one tensor cannot be saved as safetensors
            split |= {key.replace("to_qkv", f"to_{part}"): rows.clone() for part, rows in parts}
        elif re.fullmatch(r"decoder\..*\.to_[qkv]\.weight", key):
            long_name = {"q": "query", "k": "key", "v": "value"}[key[-len("q.weight")]]
            split[key[: -len("q.weight")] + f"{long_name}.weight"] = tensor
        elif key.endswith(".norm.gamma"):
            split[key] = tensor.flatten()  # (1, 1, C) -> (C,)
        else:
            split[key] = tensor
    copies = [key for key in published if re.fullmatch(_SHARED_ROTARY, key) and key != _FIRST_ROTARY]
    for key in copies:
        if _FIRST_ROTARY in published and not torch.equal(published[key], published[_FIRST_ROTARY]):
            raise ValueError(f"`{key}` differs from `{_FIRST_ROTARY}`, but all layers must share one rotary embedding")
        del split[key]
    renamed, left_out = rename_keys(split, _ENCODER_RULES + _DECODER_RULES, _COMPUTED)
    left_out += copies
    if full:
        return renamed, left_out
    return (
        {key: tensor for key, tensor in renamed.items() if key.startswith("decoder.")},
        [key for key in published if key.startswith("encoder.") or key in left_out],
    )


def _infer_sizes(published: Mapping[str, torch.Tensor], options: Mapping, name: str) -> dict[str, int]:
    def shape(key: str) -> tuple[int, ...]:
        if key not in published:
            raise ValueError(f"`{name}` lacks `{key}`: is this a PBNet checkpoint?")
        return tuple(published[key].shape)

    state_dim = shape("decoder.finallayer.weight")[0]
    if state_dim != NETWORK_STATE_DIMS[name]:
        raise ValueError(f"`{name}` has {state_dim} outputs, must have {NETWORK_STATE_DIMS[name]}")
    layer = "decoder.seqTransDecoder.decoder_layers."
    audio_width, audio_dim = shape("decoder.audioEmbedding.weight")
    state_width = shape("decoder.firstposeEmbedding.weight")[0]
    decoder_width, memory_width = shape("decoder.ztimelinear.weight")
    num_buckets, num_heads = shape("decoder.time_rel_pos_bias_tgt.relative_attention_bias.weight")
    sizes = {
        "audio_dim": audio_dim,
        "latent_dim": memory_width - state_width - audio_width,
        "state_width": state_width,
        "audio_width": audio_width,
        "decoder_width": decoder_width,
        "feed_forward_dim": shape(f"{layer}0.ffn.linear1.weight")[0],
        "num_layers": len({key[len(layer) :].split(".")[0] for key in published if key.startswith(layer)}),
        "num_heads": num_heads,
        "head_dim": shape(f"{layer}0.multihead_attn.to_q.weight")[0] // num_heads,
        "rotary_dim": 2 * shape(_FIRST_ROTARY)[0],
        "num_buckets": num_buckets,
        "max_distance": int(_option(options, "max_distance", name)),
    }
    for option, size in (
        ("audio_dim", "audio_dim"),
        ("latent_dim", "latent_dim"),
        ("audio_latent_dim", "audio_width"),
        ("ff_size", "feed_forward_dim"),
        ("num_layers", "num_layers"),
        ("num_buckets", "num_buckets"),
    ):
        if option in options and options[option] != sizes[size]:
            raise ValueError(
                f"`{name}_options` says {option} = {options[option]}, the checkpoint's tensors {sizes[size]}:"
                " do the two belong together?"
            )
    return sizes


def _window(options: Mapping, name: str) -> int:
    variant = _option(options, "archiname", name)
    allowed = list(WINDOWS) if name == "pose" else [BLINK_VARIANT]
    if variant not in allowed:
        raise ValueError(
            f"`{name}_options` says archiname = {variant!r}, must be {' or '.join(map(repr, allowed))} here"
        )
    return WINDOWS[variant]


def _option(options: Mapping, key: str, name: str) -> object:
    if options.get(key) is None:
        raise ValueError(f"`{name}_options` lacks `{key}`; it has {sorted(map(str, options))}")
    return options[key]


def _merge_config(sizes: Mapping[str, dict[str, int]], windows: Mapping[str, int]) -> dict:
    main = next(iter(sizes))
    config: dict = dict(sizes[main]) | {"clip_frames": None}
    for name, window in windows.items():
        config["blink_window" if name == "blink" else "pose_window"] = window
    if len(sizes) == 2:
        differing = {key: size for key, size in sizes["blink"].items() if size != config[key]}
        if "audio_dim" in differing:
            raise ValueError(
                f"`blink` reads {differing['audio_dim']} audio features per frame, `pose` {config['audio_dim']};"
                " both must read the same"
            )
        config["blink_sizes"] = differing or None
    return config
