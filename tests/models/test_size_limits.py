import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diffusers_dawn import A2VFlowDiffusionModel, LatentFlowGenerator, PoseBlinkNet
from diffusers_dawn.models.region_motion import PositionLinear
from diffusers_dawn.models.size_limits import MOST_CHANNELS, MOST_LAYERS, check_sizes

ABSURD = [0, -1, 10**7, 1.5, "8", True, float("nan")]
SIZES = [
    (A2VFlowDiffusionModel, "block_out_channels", [64, 10**7]),
    (A2VFlowDiffusionModel, "block_out_channels", []),
    (A2VFlowDiffusionModel, "block_out_channels", [8] * 10**5),
    (A2VFlowDiffusionModel, "audio_dim", -1),
    (A2VFlowDiffusionModel, "temporal_window", -5),
    (A2VFlowDiffusionModel, "temporal_window", 10**9),
    (LatentFlowGenerator, "num_bottleneck_blocks", 10**7),
    (LatentFlowGenerator, "num_regions", 0),
    (PoseBlinkNet, "latent_dim", -1),
    (PoseBlinkNet, "num_layers", 10**7),
    (PoseBlinkNet, "pose_window", -1),
    (PoseBlinkNet, "blink_sizes", {"latent_dim": 0}),
    (PoseBlinkNet, "clip_frames", 1.5),
    (PoseBlinkNet, "dropout", float("nan")),
    (PoseBlinkNet, "pose_max", [1e30] * 6),
    (PoseBlinkNet, "pose_min", [0, 0, 0, float("nan"), 0, 0]),
    (PoseBlinkNet, "pose_max", [-90.0] * 6),
    (PoseBlinkNet, "pose_max", [100.0]),
    (LatentFlowGenerator, "region_temperature", 0.0),
    # a black or a still video, with no other sign of it
    *((A2VFlowDiffusionModel, "flow_scale", scale) for scale in (1e300, 1e-300, -8, float("inf"), float("nan"), "8")),
    *((A2VFlowDiffusionModel, "pose_scale", [scale] * 6) for scale in (1e30, float("nan"), None, True)),
    (A2VFlowDiffusionModel, "blink_scale", "ab"),
    # distances beyond a quarter of the rows share rows by their logarithm, which must not be that of 1, or of 0
    *((A2VFlowDiffusionModel, "position_max_distance", distance) for distance in (1, 8)),
    (A2VFlowDiffusionModel, "position_buckets", 3),
    (PoseBlinkNet, "max_distance", 32),
    (PoseBlinkNet, "blink_sizes", {"max_distance": 32}),
]


@pytest.mark.parametrize(("model_class", "name", "value"), SIZES)
def test_absurd_sizes_of_a_config_are_refused_before_anything_is_built(model_class, name, value):
    with pytest.raises(ValueError, match=f"^`{next(iter(value)) if name == 'blink_sizes' else name}` "):
        model_class(**{name: value})


@given(st.integers(1, MOST_LAYERS), st.integers(1, MOST_CHANNELS), st.sampled_from(ABSURD))
def test_sizes_within_the_limits_pass_and_others_do_not(layers, channels, absurd):
    check_sizes({"num_layers": layers, "channels": channels, "levels": [channels, 1]})
    for sizes in ({"channels": absurd}, {"levels": [channels, absurd]}):
        with pytest.raises(ValueError, match="must be a whole number"):
            check_sizes(sizes)


def test_a_layer_of_positions_works_with_weights_that_know_linear_products_only():
    class Quantised(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function is nn.functional.linear:
                plain = [part.as_subclass(torch.Tensor) if isinstance(part, Quantised) else part for part in args]
                return nn.functional.linear(*plain)
            if function.__name__ in ("__get__", "requires_grad_", "detach", "__set__"):
                return super().__torch_function__(function, types, args, kwargs or {})
            raise NotImplementedError(function)

    layer, features = PositionLinear(4, 6), torch.randn(2, 4)
    expected = layer(features)
    del layer._parameters["weight"]
    layer.weight = nn.Linear(4, 6).weight.detach().as_subclass(Quantised)
    reference = nn.functional.linear(features, layer.weight.as_subclass(torch.Tensor), layer.bias)
    assert expected.dtype == torch.float32 and torch.equal(layer(features), reference)
