import pytest
import torch

from training.objectives.discriminator import TrackDiscriminator


def make_discriminator(state_dim: int = 6, **options) -> TrackDiscriminator:
    torch.manual_seed(0)
    return TrackDiscriminator(state_dim, **{"base_channels": 8} | options)


def make_tracks(num_batch: int, num_frames: int, state_dim: int = 6) -> torch.Tensor:
    return torch.randn(num_batch, num_frames, state_dim, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("num_frames", "num_logits"), [(8, 1), (15, 1), (16, 2), (203, 25)])
def test_there_is_one_logit_per_eight_frames(num_frames, num_logits):
    logits, mask = make_discriminator()(make_tracks(2, num_frames))
    assert logits.shape == mask.shape == (2, num_logits) and mask.all()


@pytest.mark.parametrize("filling", [0.0, 1e3, float("nan")])
def test_padding_changes_no_logit(filling):
    discriminator, tracks, lengths = make_discriminator(), make_tracks(3, 100), [100, 61, 8]
    padded = tracks.clone()
    for row, length in zip(padded, lengths, strict=True):
        row[length:] = filling
    logits, mask = discriminator(padded, torch.tensor(lengths))
    assert mask.sum(dim=1).tolist() == [12, 7, 1]
    for index, length in enumerate(lengths):
        alone, _ = discriminator(tracks[index : index + 1, :length])
        torch.testing.assert_close(logits[index, mask[index]], alone[0], atol=1e-5, rtol=1e-5)
    assert (logits[~mask] == 0).all()


def test_padding_gets_no_gradient():
    tracks = make_tracks(2, 48).requires_grad_()
    make_discriminator()(tracks, torch.tensor([48, 20])).logits.square().sum().backward()
    assert tracks.grad[1, 20:].abs().max() == 0 and tracks.grad[1, :16].abs().min() > 0


def test_a_logit_looks_at_fifty_four_frames_and_little_at_others():
    tracks = make_tracks(1, 400).requires_grad_()
    make_discriminator()(tracks).logits[0, 25].backward()
    seen = tracks.grad[0].abs().sum(dim=1)
    # its own 8 frames and 23 to each side; of all others it knows level and strength only
    near = slice(25 * 8 - 23, 25 * 8 + 31)
    far = torch.cat([seen[: near.start], seen[near.stop :]])
    assert seen[near].min() > 0 and seen[near].mean() > 5 * far.mean()


def test_other_clips_of_the_batch_change_no_logit():
    discriminator, tracks = make_discriminator(), make_tracks(4, 40)
    torch.testing.assert_close(discriminator(tracks).logits[2:3], discriminator(tracks[2:3]).logits)


@pytest.mark.parametrize("flaw", ["shaking", "weaker", "elsewhere", "still"])
def test_it_learns_to_tell_tracks_with_a_flaw(flaw):
    # poses as PBNet sees them: a few degrees are a hundredth of the range
    discriminator = make_discriminator(2)
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3)
    rng = torch.Generator().manual_seed(0)

    def real_and_flawed():
        real, other = (
            0.5 + 0.02 * torch.sin(torch.rand(16, 1, 2, generator=rng) * 6 + torch.arange(64)[:, None] / 8)
            for _ in range(2)
        )
        return real, {
            "shaking": other + 0.01 * torch.randn(16, 64, 2, generator=rng),
            "weaker": 0.5 + (other - 0.5) / 3,
            "elsewhere": other + 0.1,
            "still": other[:, :1].expand(-1, 64, -1),
        }[flaw]

    for _ in range(120):
        real, flawed = real_and_flawed()
        loss = (discriminator(flawed).logits - discriminator(real).logits).sigmoid().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    real, flawed = real_and_flawed()
    assert discriminator(real).logits.mean(1).min() > discriminator(flawed).logits.mean(1).max()


def test_a_track_without_movement_has_finite_gradients():
    still = torch.full((2, 40, 6), 0.5, requires_grad=True)
    make_discriminator()(still).logits.sum().backward()
    assert still.grad.isfinite().all()


def test_saved_and_loaded_it_judges_alike(tmp_path):
    discriminator, tracks = make_discriminator(8, num_downsamplings=2), make_tracks(2, 30, 8)
    discriminator.save_pretrained(tmp_path)
    loaded = TrackDiscriminator.from_pretrained(tmp_path)
    assert loaded.config.num_downsamplings == 2 and loaded.frames_per_logit == 4
    assert torch.equal(loaded(tracks).logits, discriminator(tracks).logits)


def test_tracks_of_wrong_shape_or_too_short_are_refused():
    discriminator = make_discriminator()
    with pytest.raises(ValueError, match=r"`sequence` is \(2, 40, 5\), must be \(B, F, 6\)"):
        discriminator(torch.rand(2, 40, 5))
    with pytest.raises(ValueError, match="`sequence` has 7 frames, must have at least 8"):
        discriminator(make_tracks(1, 7))


def test_lengths_that_do_not_fit_are_refused():
    discriminator, tracks = make_discriminator(), make_tracks(2, 40)
    with pytest.raises(ValueError, match=r"`lengths` is \(3,\), must be \(2,\)"):
        discriminator(tracks, torch.tensor([40, 40, 40]))
    for lengths in ([40, 7], [41, 40]):
        with pytest.raises(ValueError, match="must be within 8 and 40"):
            discriminator(tracks, torch.tensor(lengths))
