"""Encode the frames of one clip so that any of them can be decoded alone."""

import io
from collections.abc import Sequence

import av
import numpy as np

from diffusers_dawn.media.film_file import BT709, LIMITED_RANGE
from diffusers_dawn.records import FPS

# Every frame is a key frame. A constant quantiser bounds the error of all frames alike: 46 dB for a face at 128 px, in
# 12 kB a frame. The constant rate factor, even at 10, loses 10 dB of that where it trusts the eye not to look.
# Without CABAC decoding takes half the time; at this quality it would save nothing.
X264_PARAMETERS = "keyint=1:bframes=0:qp=12:psy=0:cabac=0"
# one thread: the bytes must not depend on the machine's number of cores
X264_OPTIONS = {"preset": "veryfast", "threads": "1", "x264-params": X264_PARAMETERS}


def encode_frames(frames: np.ndarray) -> bytes:
    """Encode frames as intra-only H.264 in an MP4 file: 25 fps, full colour resolution, no sound.

    Equal frames give equal bytes.

    Args:
        frames: uint8 array (F, S, S, 3), RGB, F at least 1, S even.

    Returns:
        The file's content.
    """
    content = io.BytesIO()
    # bitexact: no library versions in the file
    with av.open(content, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=X264_OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format="yuv444p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return content.getvalue()


def decode_frames(content: bytes, frame_indices: Sequence[int]) -> np.ndarray:
    """Decode some frames of what `encode_frames` made, and only these.

    Args:
        content: The file's content.
        frame_indices: Which frames, at least one; in any order, also repeatedly.

    Returns:
        uint8 array (len(frame_indices), S, S, 3), RGB.

    Raises:
        ValueError: The content cannot be decoded, or has not all of these frames.
    """
    wanted, decoded = set(frame_indices), []
    try:
        with av.open(io.BytesIO(content)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            # the empty packet at the end makes the decoder give what it holds back
            packets = [packet for packet in container.demux(stream) if packet.pts is None or packet.size > 0]
            for index, packet in enumerate(packets):
                if packet.pts is None or index in wanted:
                    decoded += [frame.to_ndarray(format="rgb24") for frame in stream.decode(packet)]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"the frames cannot be decoded: {error}") from error
    if len(decoded) != len(wanted):
        raise ValueError(f"only {len(decoded)} of the {len(wanted)} requested frames can be decoded")
    position = {index: place for place, index in enumerate(sorted(wanted))}
    return np.stack([decoded[position[index]] for index in frame_indices])
