import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor

from diffusers_dawn.pipeline.output import FrameStream, collect_frames, copies_on_cpu, deliver_frames, to_uint8


def video() -> torch.Tensor:
    return torch.rand(2, 7, 3, 8, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("output_type", ["pt", "np", "pil"])
def test_pieces_become_what_diffusers_makes_of_the_whole_video(output_type):
    frames = collect_frames(video().split(3, dim=1), 7, output_type)
    expected = VideoProcessor(do_normalize=False).postprocess_video(video().transpose(1, 2), output_type=output_type)
    assert type(frames) is type(expected)
    if output_type == "pil":
        for clip, expected_clip in zip(frames, expected, strict=True):
            for frame, expected_frame in zip(clip, expected_clip, strict=True):
                assert np.array_equal(np.asarray(frame), np.asarray(expected_frame))
    else:
        assert np.array_equal(np.asarray(frames), np.asarray(expected))


def test_stream_draws_while_it_is_read_and_anew_each_time():
    drawn = []

    def draw():
        for piece in video()[:1].split(3, dim=1):
            drawn.append(piece.shape[1])
            yield piece

    stream = FrameStream(7, draw)
    assert drawn == []
    assert next(iter(stream)).shape == (3, 8, 10, 3)
    assert drawn == [3]
    frames = np.concatenate(list(stream))
    assert drawn == [3, 3, 3, 1]
    assert np.array_equal(frames, to_uint8(video())[0].numpy())


def test_streams_of_a_batch_draw_one_clip_each():
    latents = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 3, 7, 2, 2)

    def draw(clip, portraits):
        assert len(clip) == len(portraits) == 1
        yield torch.full((1, 7, 3, 8, 8), float(clip.flatten()[0]))

    streams = deliver_frames(latents, ["first", "second"], draw, "stream")
    assert [stream.num_frames for stream in streams] == [7, 7]
    assert [next(iter(stream)).max() for stream in streams] == [0, 255]
    assert deliver_frames(latents, ["first", "second"], draw, "latent") is latents


def test_a_stream_of_larger_frames_is_drawn_like_the_other():
    def draw(detail_size=(8, 10)):
        yield torch.ones(1, 1, 3, *detail_size)

    stream = FrameStream(1, draw)
    larger = stream.with_detail(16, 20)
    assert larger.num_frames == 1
    assert [next(iter(each)).shape for each in (stream, larger)] == [(1, 8, 10, 3), (1, 16, 20, 3)]


def test_colours_are_rounded():
    grey = torch.full((1, 1, 3, 2, 2), 127.6 / 255)
    assert (to_uint8(grey) == 128).all()


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))],
)
def test_copies_come_in_order_and_are_of_their_own_piece(device):
    pieces = video().to(device).split(3, dim=1)
    found = list(copies_on_cpu(iter(pieces)))
    assert [part.shape[1] for part in found] == [3, 3, 1]
    assert np.array_equal(np.concatenate(found, axis=1), video().numpy())
    assert list(copies_on_cpu([])) == []
