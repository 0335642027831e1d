import pytest
import torch
from tiny_pbnet import make_audio, make_initial, make_model, seeded
from torch import nn

from diffusers_dawn.models.attention import band_blocks
from diffusers_dawn.models.blocks_track import TrackEncoderLayer, TrackSizes
from diffusers_dawn.models.pbnet import PoseBlinkNet

STATE_DIMS = {"separate": 8, "joint": 8, "pose": 6, "blink": 2}
LATENT_DIMS = {"separate": 16, "joint": 8, "pose": 8, "blink": 8}


def count_stored(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def test_default_model_stores_as_many_numbers_as_the_published_one():
    # the published count has the rotary frequencies among the parameters
    pose = PoseBlinkNet().tracks["pose"]
    assert count_stored(pose) == 2_347_018
    assert count_stored(pose.decoder) == 503_178


def test_model_without_encoder_has_only_the_decoders():
    assert count_stored(PoseBlinkNet(networks="pose", with_encoder=False)) == 503_178


@pytest.mark.parametrize("networks", STATE_DIMS)
@pytest.mark.parametrize("num_frames", [1, 3, 30])
def test_every_kind_of_network_generates_its_tracks(networks, num_frames):
    model = make_model(networks=networks)
    pose, blink = model.generate(make_audio(2, num_frames), *make_initial(2), generator=seeded(0))
    if networks == "blink":
        assert pose is None
    else:
        assert pose.shape == (2, num_frames, 6)
    if networks == "pose":
        assert blink is None
    else:
        assert blink.shape == (2, num_frames, 2)


@pytest.mark.parametrize("networks", STATE_DIMS)
def test_training_pass_is_deterministic_given_noise_and_reaches_every_parameter(networks):
    model = make_model(networks=networks, dropout=0.0).train()
    audio, sequence = make_audio(2, 9), torch.rand(2, 9, STATE_DIMS[networks], generator=seeded(2))
    noise = torch.randn(2, 9, LATENT_DIMS[networks], generator=seeded(3))
    lengths = torch.tensor([9, 5])
    first, second = (model(audio, sequence, noise, lengths) for _ in range(2))
    assert first.prediction.shape == sequence.shape
    assert first.mu.shape == first.logvar.shape == noise.shape
    assert torch.equal(first.prediction, second.prediction)
    prediction, mu, logvar = model(audio, sequence, noise, lengths, return_dict=False)
    assert torch.equal(prediction, first.prediction)
    (prediction.square().sum() + mu.square().sum() + logvar.exp().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_training_pass_decodes_the_reparametrised_latent():
    model = make_model()
    audio, sequence = make_audio(1, 7), torch.rand(1, 7, 8, generator=seeded(2))
    noise = torch.randn(1, 7, 16, generator=seeded(3))
    output = model(audio, sequence, noise)
    mu, logvar = model.encode(audio, sequence)
    expected = model.decode(mu + (logvar / 2).exp() * noise, audio, sequence[:, 0])
    torch.testing.assert_close(output.prediction, expected)


@torch.no_grad()
def test_encoder_does_not_look_at_padding():
    model = make_model()
    audio, sequence = make_audio(2, 10), torch.rand(2, 10, 8, generator=seeded(2))
    mu, _ = model.encode(audio, sequence, torch.tensor([10, 6]))
    alone, _ = model.encode(audio[1:, :6], sequence[1:, :6])
    torch.testing.assert_close(mu[1:, :6], alone, atol=1e-5, rtol=1e-5)  # sums of float32 in another order


@torch.no_grad()
@torch.no_grad()
def test_layer_of_the_encoder_is_that_of_torch():
    torch.manual_seed(0)
    sizes = TrackSizes(6, 8, 4, 4, 8, 16, 24, 1, 2, 8, 4, 8, 8)
    theirs = nn.TransformerEncoderLayer(16, 2, 24, 0.1, "gelu", batch_first=True).eval()
    torch.manual_seed(0)
    ours = TrackEncoderLayer(16, sizes, 0.1).eval()
    own, other = ours.state_dict(), theirs.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    hidden, mask = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    torch.testing.assert_close(ours(hidden, None), theirs(hidden))
    found, expected = ours(hidden, mask), theirs(hidden, src_key_padding_mask=~mask)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1, :3], expected[1, :3])


def test_frames_that_share_a_latent_have_the_mean_over_those_of_the_clip():
    single, shared = make_model(), make_model(latent_stride=4)
    audio, sequence = make_audio(2, 10), torch.rand(2, 10, 8, generator=seeded(2))
    lengths = torch.tensor([10, 6])
    for per_frame, per_piece in zip(
        single.encode(audio, sequence, lengths), shared.encode(audio, sequence, lengths), strict=True
    ):
        for clip, parts in enumerate([(4, 8, 10), (4, 6)]):
            first = 0
            for last in parts:
                mean = per_frame[clip, first:last].mean(dim=0)
                torch.testing.assert_close(per_piece[clip, first:last], mean.expand(last - first, -1))
                first = last
        assert (per_piece[1, 8:] == 0).all()


@torch.no_grad()
def test_shared_latents_count_at_the_middle_of_their_frames_and_change_linearly_between():
    single, shared = make_model(), make_model(latent_stride=4)
    audio, initial = make_audio(1, 11), torch.rand(1, 8)
    latent = torch.randn(1, 11, 16, generator=seeded(3))
    first, second, third = latent[0, 2], latent[0, 6], latent[0, 10]
    between = torch.tensor([0.125, 0.375, 0.625, 0.875])[:, None]
    rows = [first[None].expand(2, -1), torch.lerp(first, second, between), torch.lerp(second, third, between)]
    expected = torch.cat([*rows, third[None]])
    torch.testing.assert_close(
        shared.decode(latent, audio, initial), single.decode(expected[None], audio, initial), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_start_of_a_clip_has_the_latents_of_a_shorter_one():
    model = make_model(latent_stride=4, pose_window=1, blink_window=1)
    audio, latent = make_audio(1, 40), torch.randn(1, 40, 16, generator=seeded(3))
    whole = model.decode(latent, audio, torch.zeros(1, 8))
    part = model.decode(latent[:, :20], audio[:, :20], torch.zeros(1, 8))
    torch.testing.assert_close(part[:, :15], whole[:, :15], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_frames_beyond_the_length_are_zero():
    model = make_model()
    audio, latent = make_audio(2, 10), torch.randn(2, 10, 16, generator=seeded(3))
    output = model.decode(latent, audio, torch.rand(2, 8), torch.tensor([10, 6]))
    assert (output[1, 6:] == 0).all()
    assert (output[0] != 0).any(dim=-1).all()
    pose, blink = model.generate(audio, *make_initial(2), lengths=torch.tensor([10, 6]), generator=seeded(0))
    torch.testing.assert_close(pose[1, 6:], make_initial(2)[0][1].expand(4, 6))
    torch.testing.assert_close(blink[1, 6:], torch.full((4, 2), 0.3))


@torch.no_grad()
def test_window_limits_what_a_frame_sees_in_evaluation_but_not_in_training():
    model = make_model(networks="pose", pose_window=3)
    audio, latent = make_audio(1, 40), torch.randn(1, 40, 8, generator=seeded(3))
    changed = latent.clone()
    changed[:, 30:] += 5.0
    state = torch.rand(1, 6, generator=seeded(4))
    before, after = model.decode(latent, audio, state), model.decode(changed, audio, state)
    # the only layer reads the memory once, after its self-attention
    assert torch.equal(before[:, :27], after[:, :27])
    assert not torch.equal(before[:, 27], after[:, 27])
    model.train()
    before, after = model.decode(latent, audio, state), model.decode(changed, audio, state)
    assert not torch.equal(before[:, 0], after[:, 0])


@torch.no_grad()
def test_start_of_a_long_clip_is_that_of_a_shorter_one():
    model = make_model()
    audio, latent = make_audio(1, 3000), torch.randn(1, 3000, 16, generator=seeded(3))
    state = torch.rand(1, 8, generator=seeded(4))
    long = model.decode(latent, audio, state)
    short = model.decode(latent[:, :300], audio[:, :300], state)
    # windows of 4 and 6 frames, one layer: the last frames of the short clip may differ
    torch.testing.assert_close(long[:, :280], short[:, :280], atol=1e-5, rtol=1e-5)


def test_same_seed_generates_the_same_and_another_seed_another():
    model, audio = make_model(), make_audio(1, 12)
    first, same, other = (model.generate(audio, *make_initial(1), generator=seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first[0], same[0])
    assert torch.equal(first[1], same[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("networks", ["separate", "joint"])
def test_batch_with_one_generator_per_clip_equals_single_calls(networks):
    model, audio, (pose, blink) = make_model(networks=networks), make_audio(3, 12), make_initial(3)
    together = model.generate(audio, pose, blink, generator=[seeded(seed) for seed in (1, 2, 3)])
    for clip, seed in enumerate((1, 2, 3)):
        part = slice(clip, clip + 1)
        alone = model.generate(audio[part], pose[part], blink[part], generator=seeded(seed))
        # the same numbers multiplied in matrices of another shape
        torch.testing.assert_close(together[0][part], alone[0], atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(together[1][part], alone[1], atol=1e-5, rtol=1e-5)


def test_pose_latent_is_drawn_before_the_blink_latent():
    model, audio = make_model(), make_audio(2, 12)
    generator = seeded(8)
    noise = torch.cat([torch.randn(2, 12, 8, generator=generator) for _ in range(2)], dim=-1)
    given = model.generate(audio, *make_initial(2), noise=noise)
    drawn = model.generate(audio, *make_initial(2), generator=seeded(8))
    assert torch.equal(given[0], drawn[0])
    assert torch.equal(given[1], drawn[1])


def test_tracks_are_the_decoded_differences_on_top_of_the_initial_state():
    model, audio, (pose, blink) = make_model(), make_audio(2, 12), make_initial(2)
    noise = torch.randn(2, 12, 16, generator=seeded(3))
    state = torch.cat((model.normalise_pose(pose), blink), dim=-1)
    with torch.no_grad():
        difference = model.decode(noise, audio, state)
    spans = torch.tensor([180.0, 180.0, 180.0, 1.0, 720.0, 1080.0])
    generated_pose, generated_blink = model.generate(audio, pose, blink, noise=noise)
    # poses up to 1000 in float32
    torch.testing.assert_close(generated_pose, pose[:, None] + difference[..., :6] * spans, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(generated_blink, blink[:, None] + difference[..., 6:])


def test_pose_survives_normalisation_and_back():
    model, (pose, _) = make_model(), make_initial(3)
    torch.testing.assert_close(model.denormalise_pose(model.normalise_pose(pose)), pose, atol=1e-4, rtol=1e-5)


def test_half_precision_model_returns_float_tracks_near_those_of_the_float_model():
    model, audio = make_model(), make_audio(1, 12)
    noise = torch.randn(1, 12, 16, generator=seeded(3))
    full = model.generate(audio, *make_initial(1), noise=noise)
    half = model.to(torch.bfloat16).generate(audio, *make_initial(1), noise=noise)
    assert half[0].dtype == half[1].dtype == torch.float32
    # bfloat16 has 8 bits: about a hundredth of outputs of order 1
    torch.testing.assert_close(model.normalise_pose(half[0]), model.normalise_pose(full[0]), atol=5e-2, rtol=0)


def test_saved_model_loads_the_same_and_may_leave_the_encoders(tmp_path, recwarn):
    model, audio = make_model(), make_audio(1, 12)
    model.save_pretrained(tmp_path)
    expected = model.generate(audio, *make_initial(1), generator=seeded(0))
    for options in ({}, {"with_encoder": False}):
        loaded = PoseBlinkNet.from_pretrained(tmp_path, **options)
        pose, blink = loaded.generate(audio, *make_initial(1), generator=seeded(0))
        assert torch.equal(pose, expected[0])
        assert torch.equal(blink, expected[1])
    assert all(track.encoder is None for track in loaded.tracks.values())
    assert not [warning for warning in recwarn if "not used" in str(warning.message)]


def test_rotary_frequencies_stay_in_float32_when_loaded_in_half_precision(tmp_path):
    make_model().save_pretrained(tmp_path)
    loaded = PoseBlinkNet.from_pretrained(tmp_path, torch_dtype=torch.float16)
    assert loaded.dtype == torch.float16
    assert loaded.tracks["pose"].decoder.rotary.frequencies.dtype == torch.float32
    assert loaded.tracks["pose"].decoder.to_memory.weight.dtype == torch.float16


def test_blink_network_may_have_its_own_sizes():
    model = make_model(blink_sizes={"latent_dim": 4, "max_distance": 9, "num_layers": 2})
    pose, blink = model.generate(make_audio(1, 12), *make_initial(1), generator=seeded(0))
    assert pose.shape == (1, 12, 6)
    assert blink.shape == (1, 12, 2)
    assert model.latent_dims == {"pose": 8, "blink": 4}


@torch.no_grad()
def test_forward_compiles_into_one_graph():
    model = make_model()
    inputs = make_audio(1, 30), torch.rand(1, 30, 8), torch.randn(1, 30, 16), torch.tensor([30])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*inputs).prediction, model(*inputs).prediction)


@pytest.mark.parametrize("window", [None, 30])
def test_in_a_clip_longer_than_those_of_training_a_frame_sees_half_of_one_to_either_side(window):
    windows = {"pose_window": window, "blink_window": window}
    audio, noise = make_audio(1, 41), torch.randn(1, 41, 16, generator=seeded(3))
    long, half, whole = (
        make_model(**options).generate(audio, *make_initial(1), noise=noise)
        for options in (windows | {"clip_frames": 40}, {"pose_window": 20, "blink_window": 20}, windows)
    )
    for one, other, unlike in zip(long, half, whole, strict=True):
        assert torch.equal(one, other)
        assert not torch.allclose(one, unlike, rtol=0)
    # up to the length of training nothing changes
    short = make_model(**windows, clip_frames=41).generate(audio, *make_initial(1), noise=noise)
    assert torch.equal(short[0], whole[0])


def test_smaller_window_holds_in_long_clips_too():
    audio, noise = make_audio(1, 41), torch.randn(1, 41, 16, generator=seeded(3))
    first, second = (
        make_model(clip_frames=frames).generate(audio, *make_initial(1), noise=noise) for frames in (40, 200)
    )
    assert torch.equal(first[0], second[0])


@pytest.mark.parametrize("window", [None, 200])
def test_no_table_grows_with_the_square_of_a_long_clip(window):
    decoder = make_model(pose_window=window).tracks["pose"].decoder
    blocks = band_blocks(decoder.self_bias, 15_000, decoder._window(15_000), torch.float32)
    assert sum({id(block.bias): block.bias.numel() for block in blocks}.values()) < 15_000 * 20
