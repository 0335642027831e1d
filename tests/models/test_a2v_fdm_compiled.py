import pytest
import torch
from tiny_a2v import TINY, inputs_for
from torch._dynamo.testing import CompileCounter

from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel

FRAME_AXES = {"sample": 2, "audio_features": 1, "pose": 1, "blink": 1}


@pytest.mark.slow
@torch.no_grad()
def test_whole_model_compiles_as_one_graph_for_clips_of_any_length():
    torch.manual_seed(0)
    # of one resolution: the compiler takes long for each, and the other test goes through two
    model = A2VFlowDiffusionModel(**TINY | {"block_out_channels": (8,)}).eval()
    counts = compiled_graphs(
        model,
        lambda net, backend: torch.compile(net, backend=backend, fullgraph=True),
        # else it compiles the first length as it is, and the second one as any
        prepare=any_length,
    )
    assert counts == [1, 1, 1]


@pytest.mark.slow
@torch.no_grad()
def test_levels_compile_as_one_graph_each_for_clips_of_any_length():
    torch.manual_seed(0)
    model = A2VFlowDiffusionModel(**TINY).eval()

    def compile_levels(net, backend):
        net.compile_repeated_blocks(backend=backend, fullgraph=True)
        return net

    # two levels down, two up, one in the middle
    assert compiled_graphs(model, compile_levels) == [5, 5, 5]


def any_length(inputs: dict) -> None:
    """Let the compiler take the number of frames for unknown; code that is for one number only is an error then."""
    for name, axis in FRAME_AXES.items():
        torch._dynamo.mark_dynamic(inputs[name], axis)


def compiled_graphs(model, compile_with, prepare=lambda inputs: None) -> list[int]:
    """Count the graphs that are there after one clip, two and three of different lengths; all must come out right."""
    torch._dynamo.reset()
    counter, counts = CompileCounter(), []
    # in float64, in which norms of small variances leave enough digits to compare orders of sums
    model.double()
    clips = [inputs_for(frames=frames, dtype=torch.float64) for frames in (44, 51, 97)]
    wanted = [model(**inputs).sample for inputs in clips]
    compiled = compile_with(model, counter)
    for inputs, sample in zip(clips, wanted, strict=True):
        prepare(inputs)
        torch.testing.assert_close(compiled(**inputs).sample, sample, atol=1e-6, rtol=1e-6)
        counts.append(counter.frame_count)
    return counts
