import os
from types import SimpleNamespace

import numpy as np
import pytest

from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.motion import reading
from diffusers_dawn.motion.direction import motion_of_call
from diffusers_dawn.motion.reading import check_motion_files, open_motion, read_motion
from diffusers_dawn.motion.script import GiveTranscript, Join, MotionScript, Perform, TakeFrom
from diffusers_dawn.motion.track_files import save_track
from made_tracks import REST, moving_track
from synthetic_media import moving_frames, tone, write_audio
from training.synthetic.espeak import Espeak


def no_face(picture):
    raise AssertionError("nothing has to be searched")


def one_face(picture):
    return [REST]


def read(motion, **arguments):
    return read_motion(motion, **{"detector": no_face} | arguments)


def test_a_tracks_file_is_a_track(tmp_path):
    track = moving_track(20)
    save_track(track, tmp_path / "track.npz")
    for motion in (track, tmp_path / "track.npz", str(tmp_path / "track.npz"), f"motion from {tmp_path}/track.npz"):
        np.testing.assert_array_equal(read(motion).pose, track.pose)


def test_a_video_is_the_track_of_its_face_as_far_as_it_is_needed(tmp_path):
    write_video(tmp_path / "film.mp4", moving_frames(20))
    seen = []

    def detect(picture):
        seen.append(picture)
        return one_face(picture)

    track = read(tmp_path / "film.mp4", detector=detect, num_frames=7)
    assert track.num_frames == len(seen) == 7
    np.testing.assert_allclose(track.blink, np.tile(REST.blink, (7, 1)), rtol=1e-6)
    # a clip that begins after a film needs its last frame, however long the clip is
    (joined,) = read(f"begin after {tmp_path}/film.mp4", detector=one_face, num_frames=7).statements
    assert joined.track.num_frames == 20


def test_frames_without_a_face_are_said(tmp_path):
    write_video(tmp_path / "film.mp4", moving_frames(20))
    faces = iter([[REST], [], *[[REST]] * 18])
    with pytest.warns(UserWarning, match="`motion` does not show the face in 1 frames; its motion there is interp"):
        read(tmp_path / "film.mp4", detector=lambda picture: next(faces))


def test_what_a_text_names_is_read_and_the_rest_stays(tmp_path):
    first, second = moving_track(30, 1), moving_track(40, 2)
    save_track(first, tmp_path / "first.npz")
    save_track(second, tmp_path / "the second.json")
    text = f'nod at 0 s; head from {tmp_path}/first.npz; end before "{tmp_path}/the second.json"'
    script = read(text)
    nod, head, join = script.statements
    assert isinstance(nod, Perform) and script.text == text
    assert isinstance(head, TakeFrom) and isinstance(join, Join)
    np.testing.assert_array_equal(head.track.pose, first.pose)
    np.testing.assert_array_equal(join.track.pose, second.pose)
    # and is what a call takes, and may be read once more
    assert motion_of_call(script) is script and read(script).statements[1].track is head.track


def test_a_text_may_lie_in_a_file(tmp_path):
    (tmp_path / "text.txt").write_text("nod at 1 s\nlook left # a while")
    script = read(tmp_path / "text.txt")
    assert isinstance(script, MotionScript) and len(script.statements) == 2


@pytest.fixture(scope="module")
def spoken():
    pytest.importorskip("pocketsphinx")
    pytest.importorskip("espeakng_loader")
    return Espeak().say("My mother baked a big apple pie for both of my brothers.", rate_wpm=150)


TRANSCRIPT = 'transcript "My mother baked a big apple pie for both of my brothers."'


@pytest.mark.parametrize(("named", "number"), [("word 3", 2), ('"baked"', 2), ('"Brothers."', -1)])
def test_a_gesture_begins_on_the_word_that_is_named(spoken, named, number):
    nod, transcript = read(f"nod on {named} for 0.3 s; {TRANSCRIPT}", audio=spoken.waveform).statements
    assert nod.when.at_s == pytest.approx(spoken.word_starts_s[number], abs=0.15)
    assert nod.when.word is None and isinstance(transcript, GiveTranscript)


def test_a_words_apostrophe_may_be_a_word_processors(monkeypatch):
    heard = [SimpleNamespace(text=text, start_s=at_s) for text, at_s in (("i", 0.0), ("don't", 0.2), ("know", 0.4))]
    monkeypatch.setattr(reading, "ForcedAligner", lambda: SimpleNamespace(words=lambda waveform, text: heard))
    for named in ('"don’t"', '"Don\'t!"', "word 2"):
        nod, _ = read(f'nod on {named}; transcript "I don’t know"', audio=(tone(), 16_000)).statements
        assert nod.when.at_s == 0.2


def test_a_keyframe_may_stand_on_a_word(spoken):
    keyframe, back, _ = read(f"on word 3 yaw 5; on word 6 back; {TRANSCRIPT}", audio=spoken.waveform).statements
    assert keyframe.values == {"yaw_deg": 5} and 0 < keyframe.when.at_s < back.when.at_s


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"nod on word 13; {TRANSCRIPT}", "`motion` names word 13, the transcript has 12"),
        (f'nod on "my"; {TRANSCRIPT}', "the word 'my', which is said 2 times: as word 1, 11"),
        (f'nod on "sister"; {TRANSCRIPT}', "the word 'sister', which the transcript does not have"),
        (f'nod on "schön"; {TRANSCRIPT}', "the word 'schön', which the transcript does not have"),
        ("nod on word 1", "so it must say what is said: 'transcript FILE.txt' or in quotes"),
        ('nod on word 1; transcript "ein schöner Tag"', "cannot be laid onto the recording: .* not an English letter"),
        ("nod on word 1; transcript none.txt", "`transcript` does not exist"),
    ],
)
def test_words_that_are_not_said_are_refused(spoken, text, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(text, audio=spoken.waveform)


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        (f"nod on word 1; {TRANSCRIPT}", "`motion` names a word, which is found in the recording: give `audio`"),
        ("head from none.npz", "`motion` does not exist: none.npz"),
        ("none.npz", "`motion` does not exist: none.npz"),
        ("none.txt", "`motion` does not exist: none.txt"),
        ("film.mp4", "`motion` does not exist: film.mp4"),
        (5, "`motion` is a int, must be a MotionTrack, a file, or a text"),
        ("nod film.mp4", "'nod film.mp4' is not understood"),
    ],
)
def test_motion_that_cannot_be_read_is_refused(motion, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(motion)


def test_a_text_of_another_encoding_is_refused(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"nod \xff")
    with pytest.raises(ValueError, match="`motion` is no text in UTF-8"):
        read(tmp_path / "text.txt")
    (tmp_path / "long.txt").write_text("nod;" * 30_000)
    with pytest.raises(ValueError, match="`motion` has more than 100000 bytes"):
        read(tmp_path / "long.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_files_are_checked_without_being_read(tmp_path):
    write_video(tmp_path / "film.mp4", moving_frames(12))
    write_audio(tmp_path / "speech.wav", tone()[None].astype(np.float32), 16_000, "pcm_s16le")
    os.mkfifo(tmp_path / "pipe.mp4")
    check_motion_files(open_motion(tmp_path / "film.mp4"), 12)
    check_motion_files(open_motion(f"end before {tmp_path}/film.mp4"), 13)  # its first frame is there
    check_motion_files(moving_track(3), 13)
    for motion, message in (
        (tmp_path / "film.mp4", r"film.mp4` lasts 0.48 s \(12 frames\), the clip 0.52 s"),
        (tmp_path / "speech.wav", "`motion` has no video track"),
        (tmp_path / "pipe.mp4", "`motion` is a pipe or a device, must be a file, which is read twice"),
        (f"head from {tmp_path}", "`motion` is a directory"),
        ("begin after none.npz", "`motion` does not exist: none.npz"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            check_motion_files(open_motion(motion), 13)
