import copy

import pytest
import torch
from torch import nn

from diffusers_dawn.geometry.flow import cell_centres, coordinate_grid, warp
from diffusers_dawn.models.blocks_2d import UpBlock, batch_norm, convolution_by_rows
from diffusers_dawn.models.image_coding import DecoderBlocks
from diffusers_dawn.models.lfg import LatentFlowGenerator
from training.evaluation.metrics.image_quality import gradient_energy

TINY = {
    "image_size": 32,
    "num_regions": 3,
    "block_out_channels": (4, 8, 16),
    "num_bottleneck_blocks": 2,
    "flow_channels": (4, 8, 16),
    "region_channels": (4, 8, 16),
    "background_channels": (8, 16),
}


@pytest.fixture
def model() -> LatentFlowGenerator:
    torch.manual_seed(0)
    model = LatentFlowGenerator(**TINY)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics as if trained, so that folding has something to fold
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.1, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


def motion_for(batch: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    flow = coordinate_grid(8, 8) + 0.05 * torch.randn(batch, frames, 8, 8, 2)
    return flow, torch.rand(batch, frames, 1, 8, 8)


def statistics(model: nn.Module) -> list[torch.Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


@pytest.mark.parametrize(("with_motion_estimator", "count"), [(True, 66_004_557), (False, 7_845_123)])
def test_default_model_has_the_published_number_of_parameters(with_motion_estimator, count):
    with torch.device("meta"):
        model = LatentFlowGenerator(with_motion_estimator=with_motion_estimator)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("chunk_size", [1, 2, 8])
def test_folded_decoding_of_many_frames_equals_plain_decoding_of_each(model, batch, chunk_size):
    image, (flow, occlusion) = torch.rand(batch, 3, 32, 32), motion_for(batch, 5)
    plain = DecoderBlocks(model.decoder.bottleneck, model.decoder.up_blocks, model.decoder.final)
    with torch.no_grad():
        encoded = model.encode_image(image)
        frames = model.decode_motion(encoded, flow, occlusion, chunk_size)
        each = [model.decoder(encoded, flow[:, [i]], occlusion[:, [i]], plain) for i in range(5)]
    assert frames.shape == (batch, 5, 3, 32, 32)
    torch.testing.assert_close(frames, torch.cat(each, dim=1), atol=1e-5, rtol=0)  # rounding of folded weights


def test_decoding_folds_only_where_nothing_can_be_learned(model):
    assert model.decoder.blocks().final == model.decoder.final.__call__
    with torch.no_grad():
        assert model.decoder.blocks().final != model.decoder.final.__call__
        model.train()
        assert model.decoder.blocks().final == model.decoder.final.__call__
        model.requires_grad_(False)
        assert model.decoder.blocks().final != model.decoder.final.__call__


def test_decoding_follows_changed_weights(model):
    encoded, (flow, occlusion) = model.encode_image(torch.rand(1, 3, 32, 32)), motion_for(1, 2)
    with torch.no_grad():
        before = model.decode_motion(encoded, flow, occlusion)
        model.decoder.up_blocks[0].norm.running_mean += 0.5
        model.decoder.bottleneck[0].conv1.weight *= 1.5
        assert (model.decode_motion(encoded, flow, occlusion) - before).abs().max() > 1e-3


def test_chunks_streamed_are_the_frames_decoded(model):
    with torch.no_grad():
        encoded, (flow, occlusion) = model.encode_image(torch.rand(1, 3, 32, 32)), motion_for(1, 5)
        chunks = list(model.decode_chunks(encoded, flow, occlusion, chunk_size=2))
        assert [chunk.shape[1] for chunk in chunks] == [2, 2, 1]
        torch.testing.assert_close(torch.cat(chunks, 1), model.decode_motion(encoded, flow, occlusion))


def test_up_block_folds_to_itself_at_the_borders_too():
    torch.manual_seed(0)
    block, image = UpBlock(3, 5).eval(), torch.randn(2, 3, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(block.folded()(image), block(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_takes_features_of_the_other_half_precision(frozen):
    # as autocast makes them, while weights are stored in fewer bits and computed with in bfloat16
    norm = nn.BatchNorm2d(4).bfloat16().requires_grad_(not frozen)
    features = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    expected = batch_norm(norm, features.bfloat16())
    torch.testing.assert_close(batch_norm(norm, features), expected)
    assert expected.dtype == torch.bfloat16


def test_convolution_by_rows_equals_convolution():
    torch.manual_seed(0)
    conv, image = nn.Conv2d(4, 3, 7, padding=3), torch.randn(2, 4, 6, 9)
    with torch.no_grad():
        torch.testing.assert_close(convolution_by_rows(conv)(image), conv(image), atol=1e-5, rtol=0)


def test_fully_visible_frames_are_the_warped_image(model):
    image, flow = torch.rand(1, 3, 32, 32), motion_for(1, 1)[0]
    with torch.no_grad():
        frames = model.decode_motion(model.encode_image(image), flow, torch.ones(1, 1, 1, 8, 8))
        torch.testing.assert_close(frames[:, 0], warp(image, flow[:, 0]), atol=1e-6, rtol=0)


def test_bicubic_sampling_blurs_a_moved_image_less_and_stays_in_its_range(model):
    crisp = LatentFlowGenerator(**TINY, image_sampling="bicubic").eval()
    crisp.load_state_dict(model.state_dict())
    image = torch.rand(1, 3, 32, 32).round()
    half_a_pixel = (coordinate_grid(8, 8) + 1 / 32).expand(1, 3, -1, -1, -1)
    visible = torch.ones(1, 3, 1, 8, 8)
    with torch.no_grad():
        energies = []
        for network in (model, crisp):
            frames = network.decode_motion(network.encode_image(image), half_a_pixel, visible)
            assert frames.min() >= 0 and frames.max() <= 1
            energies.append(gradient_energy(frames[0]).mean())
    assert energies[1] > 1.2 * energies[0]


def test_a_repeated_border_drags_no_black_into_a_moved_picture(model):
    extended = LatentFlowGenerator(**TINY, image_border="repeated").eval()
    extended.load_state_dict(model.state_dict())
    white = torch.ones(1, 3, 32, 32)
    beyond = (cell_centres(8, 8) + 0.5).expand(1, 1, -1, -1, -1)
    visible = torch.ones(1, 1, 1, 8, 8)
    with torch.no_grad():
        black, repeated = (
            network.decode_motion(network.encode_image(white), beyond, visible) for network in (model, extended)
        )
    assert black.min() == 0
    torch.testing.assert_close(repeated[0], white, rtol=0, atol=1e-6)


def test_unknown_borders_are_refused():
    with pytest.raises(ValueError, match="`image_border` is 'white', must be one of 'black', 'repeated'"):
        LatentFlowGenerator(**TINY, image_border="white")


def test_unknown_sampling_is_refused():
    with pytest.raises(ValueError, match="`image_sampling` is 'nearest', must be one of 'bilinear', 'bicubic'"):
        LatentFlowGenerator(**TINY, image_sampling="nearest")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_half_precision_stays_close_to_single(model, dtype, memory_format):
    source, driving = torch.rand(2, 2, 3, 32, 32)
    half = copy.deepcopy(model).to(dtype=dtype, memory_format=memory_format)
    with torch.no_grad():
        expected, found = model(source, driving), half(source, driving)
    assert found.prediction.dtype == torch.float32 and found.motion.flow.dtype == torch.float32
    # bfloat16 keeps 8 bits, and the networks are a dozen layers deep
    assert (found.prediction - expected.prediction).abs().mean() < 0.02
    assert half(source.to(dtype), driving.to(dtype)).prediction.dtype == dtype


def test_forward_predicts_from_estimated_motion(model):
    source, driving = torch.rand(2, 2, 3, 32, 32)
    output = model(source, driving)
    motion = model.estimate_motion(source, driving)
    encoded = model.encode_image(source)
    frames = model.decode_motion(encoded, motion.flow[:, None], motion.occlusion[:, None])
    assert output.deformed.shape == (2, 3, 32, 32) and encoded.features.shape == (2, 16, 8, 8)
    torch.testing.assert_close(output.prediction, frames[:, 0])
    prediction, *_ = model(source, driving, return_dict=False)
    torch.testing.assert_close(prediction, output.prediction)


@torch.no_grad()
def test_record_of_tensors_joins_to_the_estimated_motion(model):
    source, driving = torch.rand(2, 2, 3, 32, 32)
    found, expected = model(source, driving).motion, model.estimate_motion(source, driving)
    for name in ("flow", "occlusion", "background"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for name in ("source_regions", "driving_regions"):
        pairs = zip(getattr(found, name), getattr(expected, name), strict=True)
        assert all(torch.equal(*pair) for pair in pairs), name
    assert not torch.equal(found.source_regions.shift, found.driving_regions.shift)


@pytest.mark.parametrize("autocast", [False, True])
def test_training_reaches_every_parameter_with_finite_gradients(model, autocast):
    model.train()
    source, driving = torch.rand(2, 2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(source, driving)
        (output.prediction - driving).abs().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_frozen_batch_norms_keep_their_statistics_when_a_parent_trains(model):
    source, driving = torch.rand(2, 2, 3, 32, 32)
    with torch.no_grad():
        expected = model(source, driving).prediction
    model.requires_grad_(False)
    parent = nn.Sequential(model).train()
    before = statistics(model)
    torch.testing.assert_close(parent[0](source, driving).prediction, expected, atol=1e-5, rtol=0)
    assert all(map(torch.equal, before, statistics(model)))


def test_trained_batch_norms_move_their_statistics(model):
    before = statistics(model)
    model.train()(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    assert not any(map(torch.equal, before, statistics(model)))


def test_forward_compiles_to_one_graph(model):
    source, driving = torch.rand(2, 2, 3, 32, 32)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(source, driving).prediction, model(source, driving).prediction)


def test_saved_model_loads_to_the_same_output(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = LatentFlowGenerator.from_pretrained(tmp_path)
    source, driving = torch.rand(2, 2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(source, driving).prediction, model(source, driving).prediction)


def test_model_without_motion_estimator_refuses_to_estimate():
    model = LatentFlowGenerator(**TINY, with_motion_estimator=False)
    for estimate in (model.estimate_regions, lambda image: model.estimate_motion(image, image)):
        with pytest.raises(ValueError, match="with_motion_estimator"):
            estimate(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 30, 32)])
def test_images_of_wrong_shape_are_refused_by_name(model, shape):
    image = torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="`image`"):
        model.encode_image(torch.rand(shape))
    with pytest.raises(ValueError, match="`image`"):
        model.estimate_regions(torch.rand(shape))
    with pytest.raises(ValueError, match="`source`"):
        model.estimate_motion(torch.rand(shape), image)
    with pytest.raises(ValueError, match="`driving`"):
        model(image, torch.rand(shape))


def test_images_of_different_size_are_refused(model):
    with pytest.raises(ValueError, match="`driving`"):
        model(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 64, 64))


def test_motions_of_wrong_shape_are_refused_by_name(model):
    encoded, (flow, occlusion) = model.encode_image(torch.rand(1, 3, 32, 32)), motion_for(1, 3)
    for decode in (model.decode_motion, model.decode_chunks):
        with pytest.raises(ValueError, match="`flow`"):
            decode(encoded, flow[0], occlusion)
        with pytest.raises(ValueError, match="`flow`"):
            decode(encoded, flow[:, :0], occlusion[:, :0])
        with pytest.raises(ValueError, match="`occlusion`"):
            decode(encoded, flow, occlusion[:, :2])
        with pytest.raises(ValueError, match="`chunk_size`"):
            decode(encoded, flow, occlusion, chunk_size=0)


def test_motion_stride_must_match_the_encoder():
    with pytest.raises(ValueError, match="motion_stride"):
        LatentFlowGenerator(**TINY, motion_stride=2)
