"""What a call says about motion reaches the tracks, the denoiser and the frames."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusers_dawn import DAWNPipeline, MotionTrack, demo_checkpoint, read_motion
from diffusers_dawn.media.pictures import read_image
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.motion.track_files import measure_track, save_track
from made_tracks import moving_track
from pipeline_calls import BATCH_TOLERANCE, face, picture, run, seeded, speech

EXAMPLES = Path(__file__).parents[2] / "examples"
# sums of float32
NEAR = {"atol": 1e-4, "rtol": 0}


def motion_of(pipe, motion, num_frames=30, **arguments):
    arguments = {"output_type": "latent", "num_inference_steps": 1} | arguments
    return run(pipe, audio=speech(num_frames), motion=motion, **arguments)


def test_a_text_edits_what_pbnet_makes(pipe):
    plain, edited = motion_of(pipe, None), motion_of(pipe, "at 0.8 s yaw 25; offset pitch 4; blink at 0.2 s")
    assert edited.pose[0][20, 0] == pytest.approx(25, abs=1e-3)
    np.testing.assert_allclose(edited.pose[0][:, 1], plain.pose[0][:, 1] + 4, **NEAR)
    np.testing.assert_allclose(edited.pose[0][:, 2:], plain.pose[0][:, 2:], **NEAR)
    assert edited.blink[0][8].max() < 0.2 * plain.blink[0][8].max()
    assert not torch.equal(edited.frames, plain.frames)


def test_a_track_that_came_out_goes_in_again(pipe, tmp_path):
    first = motion_of(pipe, None)
    track = first.motion()
    assert isinstance(track, MotionTrack) and track.num_frames == 30
    np.testing.assert_allclose(track.rest_pose, face().pose, rtol=1e-6)
    save_track(track, tmp_path / "track.json")
    for motion in (track, read_motion(tmp_path / "track.json")):
        again = motion_of(pipe, motion, generator=seeded(5))
        np.testing.assert_allclose(again.pose[0], first.pose[0], **NEAR)
        np.testing.assert_allclose(again.blink[0], first.blink[0], **NEAR)


def test_head_and_blinks_can_be_taken_apart(pipe, tmp_path):
    plain, track = motion_of(pipe, None), moving_track(40)
    save_track(track, tmp_path / "track.npz")
    headed = motion_of(pipe, read_motion(f"head from {tmp_path}/track.npz"))
    np.testing.assert_allclose(headed.pose[0] - face().pose, (track.pose - track.rest_pose)[:30], atol=1e-3)
    np.testing.assert_allclose(headed.blink[0], plain.blink[0], **NEAR)
    blinking = motion_of(pipe, read_motion(f"blinks from {tmp_path}/track.npz"))
    np.testing.assert_allclose(blinking.blink[0] - face().blink, (track.blink - track.rest_blink)[:30], **NEAR)
    np.testing.assert_allclose(blinking.pose[0], plain.pose[0], **NEAR)


def test_a_still_head_still_turns_where_a_keyframe_says_so(pipe):
    pose = motion_of(pipe, "head motion 0; at 0.8 s yaw 25").pose[0]
    assert pose[20, 0] == pytest.approx(25, abs=1e-3)
    np.testing.assert_allclose(pose[:, 1:], np.tile(face().pose[1:], (30, 1)), rtol=1e-5)


def test_a_list_is_a_batch_and_a_clip_without_a_track_gets_pbnets(pipe):
    track = moving_track(30)
    together = motion_of(pipe, [track, None], generator=[seeded(0), seeded(1)])
    np.testing.assert_allclose(together.pose[0] - face().pose, track.pose - track.rest_pose, atol=1e-3)
    alone = motion_of(pipe, None, generator=seeded(1))
    np.testing.assert_allclose(together.pose[1], alone.pose[0], atol=1e-3)
    with pytest.raises(ValueError, match="batches must be equally long"):
        motion_of(pipe, [track] * 2, image=[picture()] * 3)


def test_what_is_said_of_one_clip_of_a_batch_changes_no_other(pipe):
    said = [moving_track(30), "take 3", None, "temperature 0.5"]
    together = motion_of(pipe, said, generator=[seeded(number) for number in range(4)], eta=0.0)
    for number, motion in enumerate(said):
        alone = motion_of(pipe, motion, generator=seeded(number), eta=0.0)
        torch.testing.assert_close(together.pose[number], alone.pose[0], **BATCH_TOLERANCE)
        torch.testing.assert_close(together.frames[number], alone.frames[0], **BATCH_TOLERANCE)


def test_temperature_and_take_choose_among_pbnets_motions(pipe):
    plain, cold, zero, other = (
        motion_of(pipe, text).pose[0] for text in (None, "temperature 0", "temperature 0", "take 2")
    )
    assert torch.equal(cold, zero)
    assert torch.equal(motion_of(pipe, "temperature 0", generator=seeded(9)).pose[0], cold)
    assert not torch.allclose(plain, cold) and not torch.allclose(plain, other)
    assert torch.equal(motion_of(pipe, "take 1; temperature 1").pose[0], plain)


def test_proposed_motions_are_those_that_takes_give(pipe):
    tracks = pipe.propose_motion(picture(), speech(30), 16_000, face(), num_candidates=3, generator=seeded())
    assert len(tracks) == 3
    for number, track in enumerate(tracks, 1):
        np.testing.assert_allclose(motion_of(pipe, f"take {number}").pose[0], track.pose, **NEAR)
    shorter = pipe.propose_motion(picture(), speech(30), 16_000, face(), num_frames=10, num_candidates=1)
    assert shorter[0].num_frames == 10
    with pytest.raises(ValueError, match="`num_candidates` is 0, must be a whole number from 1 to 64"):
        pipe.propose_motion(picture(), speech(30), 16_000, face(), num_candidates=0)
    with pytest.raises(ValueError, match="`temperature` is -1"):
        pipe.propose_motion(picture(), speech(30), 16_000, face(), temperature=-1)
    with pytest.raises(ValueError, match="`generator` has 2 entries, must have one per clip: 1"):
        pipe.propose_motion(picture(), speech(30), 16_000, face(), num_candidates=2, generator=[seeded(), seeded(1)])


def test_a_proposed_motion_is_directed_as_in_a_call(pipe):
    said = {"motion": "head motion 0.5; take 2; at 0.8 s yaw 25; blink at 0.2 s"}
    (track,) = pipe.propose_motion(picture(), speech(30), 16_000, face(), num_candidates=1, generator=seeded(), **said)
    called = motion_of(pipe, **said)
    np.testing.assert_allclose(called.pose[0], track.pose, **NEAR)
    np.testing.assert_allclose(called.blink[0], track.blink, **NEAR)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"motion": "jump"}, "`motion`: 'jump' is not understood"),
        ({"motion": 5}, "`motion` is a int"),
        ({"motion": "film.mp4"}, "`motion` is the file film.mp4, must be a MotionTrack or a text"),
        ({"motion": "begin after idle.npz"}, "`motion` names the file idle.npz, which must be read first"),
        ({"motion": "nod at 1 s"}, "`nod` from 1.00 to 1.60 s does not fit: the clip ends at 1.20 s"),
        ({"motion": moving_track(9)}, "`motion` lasts 0.36 s .9 frames., the clip 1.20 s"),
        ({"motion": moving_track(30), "pose": np.zeros((30, 6))}, "`motion` brings its own `pose`: give one of them"),
        ({"motion": []}, "batches must be equally long and not empty: `motion` has 0"),
    ],
)
def test_motion_that_cannot_be_is_refused_before_the_work(pipe, arguments, message):
    seconds_of_the_call_before = pipe.stage_seconds
    with pytest.raises(ValueError, match=message):
        motion_of(pipe, **arguments)
    assert pipe.stage_seconds is seconds_of_the_call_before


@pytest.fixture(scope="module")
def drawn():
    """The pipeline that ships, and a portrait that it knows."""
    pipe = DAWNPipeline.from_pretrained(demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    return pipe, read_image(EXAMPLES / "portrait_1.png")


def test_keyframes_and_blinks_are_seen_in_the_frames_and_move_another_portrait(drawn, detector, tmp_path):
    pipe, portrait = drawn
    pipe.face_detector = detector
    text = "head motion 0; blink rate 0; at 0.8 s yaw 15; at 1.6 s yaw -15; blink for 0.4 s at 1.2 s"
    frames = pipe(
        portrait, speech(44), 16_000, motion=text, output_type="np", preset="fast", generator=seeded()
    ).frames[0]
    write_video(tmp_path / "film.mp4", (frames * 255).round().astype(np.uint8))
    seen = measure_track(tmp_path / "film.mp4", detector)
    yaw, openness = seen.pose[:, 0], seen.blink.mean(axis=1)
    # dawn-open turns drawn heads by a third of what they are told, and closes their lids by a quarter; the model card
    # has what it does to photographs
    assert yaw[20] > 2 and yaw[40] < -1 and yaw[20] - yaw[40] > 5
    assert openness[33] < 0.85 * min(openness[20], openness[42])

    other = read_image(EXAMPLES / "portrait_2.png")
    motion = read_motion(tmp_path / "film.mp4", detector=detector)
    driven = pipe(other, speech(44), 16_000, motion=motion, output_type="latent", preset="fast")
    np.testing.assert_allclose(driven.pose[0][:, 0] - driven.pose[0][0, 0], yaw - yaw[0], atol=1e-3)
    with pytest.raises(ValueError, match="`motion` lasts 1.76 s .44 frames., the clip 2.00 s"):
        pipe(other, speech(50), 16_000, motion=motion)
