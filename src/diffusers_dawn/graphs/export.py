"""Write a pipeline's networks as ONNX graphs into one folder, with a description beside them."""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ..records import BLINK_DIM, POSE_DIM
from ..sharing.checkpoint_folder import check_new_folder, part_of_new_folder
from .description import describe
from .networks import DenoisingGraph, FramesGraph, HeadAndEyesGraph, PortraitGraph, SpeechGraph
from .tracing import write_graph

if TYPE_CHECKING:
    from ..pipeline.pipeline_dawn import DAWNPipeline

DESCRIPTION = "dawn_onnx.json"
# of the clip that is traced: two blocks of the attention over frames, the second of which is not full
TRACED_FRAMES = 45


class Graph(NamedTuple):
    """A graph to be written.

    Attributes:
        module: What it does.
        inputs: Tensors to trace it with, by name.
        outputs: Names of its results.
        lengths: Axis of an input or output that has any length, and what it counts, by name.
    """

    module: nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: list[str]
    lengths: dict[str, tuple[int, str]]


def check_exportable(pipe: "DAWNPipeline", name: str = "pipe") -> None:
    """Refuse a pipeline that cannot be written as graphs.

    Args:
        pipe: The pipeline.
        name: What it is called in the message.

    Raises:
        ValueError: It has no PBNet that makes head pose and blinks, or is not in float32 on the CPU.
        ImportError: The package `onnx` is missing.
    """
    if importlib.util.find_spec("onnx") is None:
        raise ImportError("ONNX graphs are written by the package onnx: pip install diffusers_dawn[onnx]")
    if pipe.pbnet is None or not (pipe.pbnet.makes_pose and pipe.pbnet.makes_blink):
        raise ValueError(f"`{name}` has no PBNet that makes head pose and blinks, must have one")
    networks = {"unet": pipe.unet, "lfg": pipe.lfg, "pbnet": pipe.pbnet, "audio_encoder": pipe.audio_encoder}
    for part, network in networks.items():
        if network.dtype != torch.float32 or network.device.type != "cpu":
            given = f"{network.dtype} on {network.device}"
            raise ValueError(f"`{name}` has its `{part}` in {given}, must be in torch.float32 on the CPU")


def export_onnx(pipe: "DAWNPipeline", folder: str | Path, name: str = "pipe") -> None:
    """Write the networks of a pipeline as ONNX graphs, for clips of any length, one at a time.

    Args:
        pipe: The pipeline, in float32 on the CPU.
        folder: Where; must not exist, or be empty. It appears when all of it is written, with `speech.onnx`,
            `head_and_eyes.onnx`, `portrait.onnx`, `denoiser.onnx`, `frames.onnx` and `dawn_onnx.json`.
        name: What the pipeline is called in messages.

    Raises:
        ValueError: The folder holds something or cannot be made, or as for `check_exportable`.
        ImportError: The package `onnx` is missing.
        OSError: It cannot be written; nothing of it stays.
    """
    check_exportable(pipe, name)
    check_new_folder(folder)
    description = describe(pipe) | {"graphs": {}}
    with part_of_new_folder(folder) as part:
        part.mkdir()
        for graph_name, graph in graphs_of(pipe).items():
            write_graph(graph.module.eval(), *graph[1:], part / f"{graph_name}.onnx")
            description["graphs"][graph_name] = _described(graph)
        text = json.dumps(description, indent=2) + "\n"
        (part / DESCRIPTION).write_text(text, encoding="utf-8")


def graphs_of(pipe: "DAWNPipeline") -> dict[str, Graph]:
    """Put a pipeline's networks into graphs.

    Args:
        pipe: The pipeline.

    Returns:
        The graphs by name, in the order they are run.
    """
    unet, lfg, frames = pipe.unet, pipe.lfg, TRACED_FRAMES
    size = pipe.default_size
    features = torch.zeros(1, frames, unet.config.audio_dim)
    pose, blink = torch.zeros(1, frames, POSE_DIM), torch.zeros(1, frames, BLINK_DIM)
    image = torch.zeros(1, 3, size, size)
    motion = torch.zeros(1, unet.config.in_channels, frames, *[size // lfg.config.motion_stride] * 2)
    with torch.no_grad():
        skips = {f"features_{index}": skip for index, skip in enumerate(lfg.encoder(image))}
    person = {"person": motion.new_ones(1, 1, *motion.shape[-2:])} if lfg.config.still_background else {}
    noise = torch.zeros(1, frames, sum(pipe.pbnet.latent_dims.values()))
    return {
        "speech": Graph(
            SpeechGraph(pipe.audio_encoder),
            {"samples": torch.zeros(1, 16_000)},
            ["hidden_states"],
            {"samples": (1, "num_samples"), "hidden_states": (1, "num_hidden")},
        ),
        "head_and_eyes": Graph(
            HeadAndEyesGraph(pipe.pbnet),
            {
                "audio_features": features,
                "initial_pose": torch.zeros(1, POSE_DIM),
                "initial_blink": torch.zeros(1, BLINK_DIM),
                "noise": noise,
            },
            ["pose", "blink"],
            dict.fromkeys(("audio_features", "noise", "pose", "blink"), (1, "num_frames")),
        ),
        "portrait": Graph(PortraitGraph(lfg), {"image": image}, list(skips), {}),
        "denoiser": Graph(
            DenoisingGraph(unet),
            {
                "noisy_motion": motion,
                "time": torch.ones(1),
                "reference_features": list(skips.values())[-1],
                "face_mask": torch.zeros(1, 1, size, size),
                "audio_features": features,
                "relative_pose": pose,
                "relative_blink": blink,
            },
            ["prediction"],
            dict.fromkeys(("noisy_motion", "prediction"), (2, "num_frames"))
            | dict.fromkeys(("audio_features", "relative_pose", "relative_blink"), (1, "num_frames")),
        ),
        "frames": Graph(
            FramesGraph(lfg, unet.config.flow_scale),
            {"motion": motion[:, :, :3], "image": image} | skips | person,
            ["frames"],
            {"motion": (2, "num_frames"), "frames": (1, "num_frames")},
        ),
    }


def _described(graph: Graph) -> dict[str, dict[str, list[int | str]]]:
    """List the shape of every input, and of every result the axis that has any length."""
    inputs = {}
    for name, tensor in graph.inputs.items():
        shape: list[int | str] = list(tensor.shape)
        if name in graph.lengths:
            axis, what = graph.lengths[name]
            shape[axis] = what
        inputs[name] = shape
    return {"inputs": inputs, "outputs": graph.outputs}
