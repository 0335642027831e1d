import errno
import os
import resource
from dataclasses import replace

import av
import numpy as np
import pytest

from diffusers_dawn.face.pose import box_area
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.records import FaceState, Waveform
from synthetic_media import tone
from training.data.clip_members import SAMPLES_PER_FRAME, check_clip
from training.data.clip_plan import PlannedClip, SourceVideo
from training.data.shard_writing import ClipSkipped
from training.data.video_clips import ClipMaker, ClipSettings, FrameCursor, refuse_cuts

SETTINGS = ClipSettings(size_px=48, min_face_px=16)
FACE_PX = 40
NUM_FRAMES = 40


class GreenFaceDetector:
    """Find green rectangles on a background that is not: the mouth is a row of points across their lower third."""

    with_mouth = True

    def __call__(self, image):
        green = (image[..., 1].astype(int) - image[..., 0] > 60) & (image[..., 1].astype(int) - image[..., 2] > 60)
        if green.sum() < 20:
            return []
        rows, columns = np.nonzero(green)
        box_px = tuple(map(float, (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)))
        x = np.linspace(box_px[0], box_px[1], 20)
        mouth_px = np.stack([x, np.full(20, box_px[2] + 0.7 * (box_px[3] - box_px[2]))], axis=1)
        pose, blink = np.array([1.0, 2, 3, 5e-4, 60, 70]), np.array([0.3, 0.25])
        face = FaceState(pose, blink, box_px, image.shape[:2], mouth_px if self.with_mouth else None)
        return [face] if box_area(box_px) else []


def scene(seed=0, height=120, width=160):
    """A background of broad stripes, as unlike that of another seed as another room."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 2)
    rows, columns = np.mgrid[:height, :width]
    grey = 120 + 60 * np.sin(columns / (9 + 7 * seed) + phases[0]) + 40 * np.sin(rows / (14 + 9 * seed) + phases[1])
    return np.repeat(grey.clip(0, 255)[..., None], 3, axis=2).astype(np.uint8)


def frames_with_face(num_frames=NUM_FRAMES, left=lambda i: 55, top=lambda i: 45, side=FACE_PX, without=(), **where):
    frames = np.repeat(scene(**where)[None], num_frames, axis=0)
    for index in set(range(num_frames)) - set(without):
        frames[index, max(top(index), 0) : top(index) + side, max(left(index), 0) : left(index) + side] = (40, 200, 40)
    return frames


def sound(num_frames=NUM_FRAMES, peak=0.5):
    return Waveform(tone(16_000, num_frames / 25, peak=peak), 16_000)


@pytest.fixture
def make(tmp_path):
    """Write frames and sound to a video and make one clip of it."""

    def write_and_make(frames, waveform="as long", settings=SETTINGS, start=0, num_frames=None, **arguments):
        waveform = sound(len(frames)) if isinstance(waveform, str) else waveform
        write_video(tmp_path / "anna.mp4", frames, waveform)
        video = SourceVideo("anna.mp4", 1, "anna", "train", len(frames))
        clip = PlannedClip("anna-0000", video, start, num_frames or len(frames) - start)
        detector = arguments.pop("detector", GreenFaceDetector())
        return ClipMaker(tmp_path, [clip], settings, detector, **arguments)("anna-0000")

    return write_and_make


# what a clip holds


def test_one_square_holds_all_places_of_a_moving_head(make):
    clip = make(frames_with_face(left=lambda i: 40 + i // 2))
    check_clip(clip)
    assert clip.frames.shape == (NUM_FRAMES, 48, 48, 3) and clip.samples.shape == (NUM_FRAMES * SAMPLES_PER_FRAME,)
    left, top, side = clip.info["crop"]
    # the boxes span 40 to 99 across, 0.55 of the side; down they begin at 45. Colours are stored by blocks of 2 px
    assert side == pytest.approx(59 / 0.55, abs=4)
    assert left == pytest.approx(69.5 - side / 2, abs=2) and top == pytest.approx(65 - 0.57 * side, abs=2)
    boxes_px = clip.labels["face_box_px"]
    assert (boxes_px[:, 0] > 0).all() and (boxes_px[:, 1] < 48).all()
    # half a pixel of the video each frame, and 48 pixels stand for the side
    np.testing.assert_allclose(np.ptp(boxes_px[:, 0]), 19 * 48 / side, atol=1)


def test_labels_lie_on_the_face_of_the_cut_frames(make):
    clip = make(frames_with_face(left=lambda i: 40 + i // 2))
    detector = GreenFaceDetector()
    for index in (0, 17, 39):
        seen = detector(clip.frames[index])[0]
        # resizing blurs the edge over a pixel or two
        np.testing.assert_allclose(clip.labels["face_box_px"][index], seen.box_px, atol=2)
        np.testing.assert_allclose(clip.labels["mouth_px"][index], seen.mouth_px, atol=2)


def test_pose_is_measured_in_the_crop_of_the_first_face(make):
    clip = make(frames_with_face(left=lambda i: 40 + i // 2))
    np.testing.assert_allclose(clip.labels["pose"][0], [1, 2, 3, 5e-4, 60, 70], atol=1e-4)
    # 3DDFA's crop: 120 px for 1.58 of the face; blurred colours move its edge by less than a pixel
    np.testing.assert_allclose(clip.labels["pose"][-1, 4], 60 + 19 * 120 / (1.58 * FACE_PX), atol=2)
    np.testing.assert_allclose(clip.labels["blink"], [[0.3, 0.25]] * NUM_FRAMES)


def test_a_few_frames_without_a_face_are_interpolated_and_listed(make):
    clip = make(frames_with_face(left=lambda i: 40 + i // 2, without=(10, 11, 12)))
    assert clip.info["interpolated_frames"] == [10, 11, 12]
    x = clip.labels["face_box_px"][9:14, 0]
    np.testing.assert_allclose(x, np.linspace(x[0], x[-1], 5), atol=1e-4)


def test_sound_and_features_are_those_of_the_clips_time(make):
    waveform = sound(NUM_FRAMES)
    waveform.samples[: 20 * SAMPLES_PER_FRAME] *= 0.1
    calls = []

    def features(heard, num_frames):
        calls.append((len(heard.samples), num_frames))
        return np.arange(num_frames, dtype=np.float16)[:, None]

    clip = make(frames_with_face(), waveform, start=20, features=features)
    # heard as a whole: AAC comes out a block longer than the 40 frames
    assert len(calls) == 1 and calls[0][0] == calls[0][1] * SAMPLES_PER_FRAME >= NUM_FRAMES * SAMPLES_PER_FRAME
    np.testing.assert_array_equal(clip.labels["audio_features"][:, 0], np.arange(20, 40))
    assert np.sqrt((clip.samples**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_a_video_of_another_rate_is_resampled_by_its_times(tmp_path):
    frames = frames_with_face(48, left=lambda i: 40 + i // 2)
    write_video(tmp_path / "fast.mp4", frames, sound(50), fps=30)
    video = SourceVideo("fast.mp4", 1, "anna", "train", 40)
    maker = ClipMaker(tmp_path, [PlannedClip("c", video, 0, 40)], SETTINGS, GreenFaceDetector())
    boxes_px = maker("c").labels["face_box_px"]
    shown = np.arange(40) * 30 // 25
    expected = (40 + shown // 2 - maker("c").info["crop"][0]) * 48 / maker("c").info["crop"][2]
    np.testing.assert_allclose(boxes_px[:, 0], expected, atol=1)


def test_consecutive_clips_of_a_video_are_those_made_alone(tmp_path):
    write_video(tmp_path / "anna.mp4", frames_with_face(60, left=lambda i: 40 + i // 3), sound(60))
    video = SourceVideo("anna.mp4", 1, "anna", "train", 60)
    clips = [PlannedClip(f"c{start}", video, start, 20) for start in (0, 20, 40)]
    together = ClipMaker(tmp_path, clips, SETTINGS, GreenFaceDetector())
    for clip_id in ("c0", "c20", "c40", "c20"):
        alone = ClipMaker(tmp_path, clips, SETTINGS, GreenFaceDetector())(clip_id)
        clip = together(clip_id)
        np.testing.assert_array_equal(clip.frames, alone.frames)
        np.testing.assert_array_equal(clip.samples, alone.samples)
        assert clip.info == alone.info


def test_a_cursor_reads_any_runs_of_any_videos(tmp_path):
    for name, step in (("a.mp4", 4), ("b.mp4", 6)):
        frames = np.repeat(np.arange(30, dtype=np.uint8) * step, 16 * 16 * 3).reshape(30, 16, 16, 3)
        write_video(tmp_path / name, frames)
    cursor = FrameCursor()
    for name, step, start in (("a.mp4", 4, 3), ("a.mp4", 4, 10), ("a.mp4", 4, 2), ("b.mp4", 6, 20)):
        grey = [frame.mean() / step for frame in cursor.read(tmp_path / name, start, 5)]
        np.testing.assert_array_equal(np.rint(grey), np.arange(start, start + 5))


# what is left out


def skipped(make, frames, *arguments, **keywords):
    with pytest.raises(ClipSkipped) as caught:
        make(frames, *arguments, **keywords)
    return caught.value.reason


def test_a_clip_without_a_face_is_skipped(make):
    reason = skipped(make, frames_with_face(without=range(NUM_FRAMES)))
    assert reason == "`clip` shows no face in any of its 40 frames"


def test_a_clip_that_loses_the_face_is_skipped(make):
    reason = skipped(make, frames_with_face(without=range(20, 26)))
    assert reason.startswith(
        "`clip` does not show the face in 6 of 40 frames, up to 6 in a row; it may be missing in at most 10% "
    )


class TwoFaces(GreenFaceDetector):
    """Beside the green face, one of another size in the first so many frames."""

    def __init__(self, share, num_frames):
        self.share, self.num_left = share, num_frames

    def __call__(self, image):
        faces = super().__call__(image)
        self.num_left -= 1
        other = replace(faces[0], box_px=(0.0, self.share * FACE_PX, 0.0, self.share * FACE_PX))
        return sorted([*faces, other], key=lambda face: -box_area(face.box_px)) if self.num_left >= 0 else faces


@pytest.mark.parametrize(("share", "num_frames"), [(0.55, 20), (1.0, 5), (1.4, 40)])
def test_a_clip_of_two_persons_is_skipped(make, share, num_frames):
    reason = skipped(make, frames_with_face(), detector=TwoFaces(share, num_frames))
    assert reason.startswith(f"another face of at least half the size is in {num_frames} of 40 frames")


@pytest.mark.parametrize(("share", "num_frames"), [(0.4, 40), (1.0, 4), (1.0, 0)])
def test_small_faces_in_the_background_and_single_mistakes_are_counted_only(make, share, num_frames):
    clip = make(frames_with_face(), detector=TwoFaces(share, num_frames))
    assert clip.info["frames_with_other_faces"] == num_frames


def test_a_clip_with_a_cut_is_skipped(make):
    frames = np.concatenate([frames_with_face(20), frames_with_face(20, seed=1)])
    assert skipped(make, frames) == "the scene changes at 0.80 s of the clip"


def test_a_black_frame_counts_as_a_cut(make):
    frames = frames_with_face()
    frames[10] = 0
    assert skipped(make, frames) == "the scene changes at 0.40 s of the clip"


def test_a_zoom_of_the_camera_counts_as_a_cut_and_a_moving_head_does_not():
    wide, near = frames_with_face(1)[0], frames_with_face(1)[0][30:105, 30:130].repeat(2, axis=0).repeat(2, axis=1)
    with pytest.raises(ClipSkipped, match=r"the scene changes at 0.04 s"):
        list(refuse_cuts([wide, near[:120, :160]]))
    moving = frames_with_face(10, left=lambda i: 40 + 5 * i)
    assert len(list(refuse_cuts(moving))) == 10


def test_a_plain_background_is_no_cut():
    plain = np.full((3, 40, 40, 3), 90, np.uint8)
    assert len(list(refuse_cuts(plain))) == 3


def test_a_clip_without_a_sound_track_is_skipped(make):
    assert skipped(make, frames_with_face(), None) == "`video` has no audio track (anna.mp4)"


def test_a_silent_clip_is_skipped_unless_silence_is_allowed(make):
    silent = Waveform(np.zeros(NUM_FRAMES * SAMPLES_PER_FRAME, np.float32), 16_000)
    assert skipped(make, frames_with_face(), silent) == "the sound track is silent"
    clip = make(frames_with_face(), silent, ClipSettings(48, 16, allow_silent=True))
    assert not clip.samples.any() and len(clip.frames) == NUM_FRAMES


def test_a_clip_whose_sound_ends_early_is_skipped_but_not_for_a_codecs_block(tmp_path):
    video = SourceVideo("a.mov", 1, "anna", "train", NUM_FRAMES)
    for num_sound_frames, reason in ((30, "the sound ends 0.2"), (38, None)):
        write_with_sound(tmp_path / "a.mov", frames_with_face(), sound(num_sound_frames).samples)
        maker = ClipMaker(tmp_path, [PlannedClip("c", video, 0, NUM_FRAMES)], SETTINGS, GreenFaceDetector())
        if reason is None:
            assert not maker("c").samples[-SAMPLES_PER_FRAME:].any()
        else:
            with pytest.raises(ClipSkipped, match=reason):
                maker("c")


def write_with_sound(path, frames, samples):
    """Picture and sound of different lengths: `VideoWriter` would make them one."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width = frames.shape[1:3]
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        scaled = (samples * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(scaled), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def test_a_small_face_is_skipped(make):
    reason = skipped(make, frames_with_face(), settings=ClipSettings(48, 60))
    # colours are stored by blocks of 2 px
    assert reason in {f"the face is {size} px large, must be at least 60" for size in (40, 41, 42)}


def test_a_head_that_crosses_the_picture_is_skipped(make):
    assert skipped(make, frames_with_face(left=lambda i: 3 * i), settings=ClipSettings(48, 10)).startswith(
        "the head moves too far: the square around its way is "
    )


def test_a_square_that_lies_outside_of_the_picture_is_skipped(make):
    frames = frames_with_face(side=100, top=lambda i: 2, height=104, width=112, left=lambda i: 5)
    assert skipped(make, frames, settings=ClipSettings(48, 10)).endswith(
        "of the square around the head lie outside of the picture, must be at most 10%"
    )


def test_a_video_that_ends_before_its_plan_is_skipped(tmp_path):
    write_with_sound(tmp_path / "a.mov", frames_with_face(), sound(60).samples)
    clip = PlannedClip("c", SourceVideo("a.mov", 1, "anna", "train", 45), 30, 15)
    with pytest.raises(ClipSkipped, match="only 10 of the clip's 15 frames can be decoded"):
        ClipMaker(tmp_path, [clip], SETTINGS, GreenFaceDetector())("c")


def test_a_video_that_cannot_be_decoded_is_skipped_without_telling_where_it_lies(tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"this is no video" * 20)
    video = SourceVideo("b.mp4", 1, "anna", "train", 40)
    maker = ClipMaker(tmp_path, [PlannedClip("c", video, 0, 40)], SETTINGS, GreenFaceDetector())
    with pytest.raises(ClipSkipped, match=r"`video` cannot be decoded \(b.mp4\): ") as caught:
        maker("c")
    assert str(tmp_path) not in caught.value.reason


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
@pytest.mark.parametrize("num_bytes", [0, 60, 20_000])
def test_a_truncated_video_is_skipped(tmp_path, suffix, num_bytes):
    path = tmp_path / f"a.{suffix}"
    write_with_sound(path, frames_with_face(), sound().samples)
    # FFmpeg calls Matroska that ends in its head an input/output error, as if the disk had failed
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ClipSkipped):
        maker_of(path)("c")


def maker_of(path, **arguments):
    clip = PlannedClip("c", SourceVideo(path.name, 1, "anna", "train", NUM_FRAMES), 0, NUM_FRAMES)
    return ClipMaker(path.parent, [clip], SETTINGS, GreenFaceDetector(), **arguments)


# what ends the run: the machine fails, so the clip may be usable


def test_a_disk_that_is_gone_skips_no_clip(tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    write_video(root / "a.mp4", frames_with_face(), sound())
    maker = maker_of(root / "a.mp4")
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"`video` does not exist: .*/disk/a.mp4"):
        maker("c")
    # the place that a disk is mounted to stays
    root.mkdir()
    with pytest.raises(OSError, match=r"`video` does not exist: .*/disk/a.mp4"):
        maker("c")
    (tmp_path / "elsewhere" / "a.mp4").rename(root / "a.mp4")
    assert len(maker("c").frames) == NUM_FRAMES


def test_a_single_video_that_is_gone_is_skipped(tmp_path):
    (tmp_path / "b.mp4").touch()
    with pytest.raises(ClipSkipped, match="`video` does not exist: a.mp4"):
        maker_of(tmp_path / "a.mp4")("c")


def test_too_many_open_files_skip_no_clip(tmp_path):
    write_video(tmp_path / "a.mp4", frames_with_face(), sound())
    maker = maker_of(tmp_path / "a.mp4")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # listing the folder takes one, decoding takes another
    free = os.dup(0)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        with pytest.raises((OSError, ValueError), match="Too many open files"):
            maker("c")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(maker("c").frames) == NUM_FRAMES


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EACCES])
def test_a_failure_of_the_machine_skips_no_clip(make, code):
    def features(waveform, num_frames):
        raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=os.strerror(code)):
        make(frames_with_face(), features=features)


def test_a_problem_known_before_is_the_reason(tmp_path):
    video = SourceVideo("c.mp4", 1, "anna", "train", 3, "the video lasts 0.12 s, must last at least 1 s")
    maker = ClipMaker(tmp_path, [PlannedClip("c", video, 0, 3)], SETTINGS, GreenFaceDetector())
    with pytest.raises(ClipSkipped, match="the video lasts 0.12 s"):
        maker("c")


def test_a_detector_without_mouth_landmarks_is_said(make):
    detector = GreenFaceDetector()
    detector.with_mouth = False
    assert "`detector` gives no mouth landmarks" in skipped(make, frames_with_face(), detector=detector)
