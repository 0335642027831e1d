import json
import signal
import time

import numpy as np
import pytest
from accelerate import PartialState

from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.records import Waveform
from real_inputs import REAL, needs_real
from training.data.clip_shards import ClipShards
from training.prepare_clips import main
from warm_processes import begin, begin_two, exit_codes


@pytest.fixture(autouse=True)
def fresh_state():
    PartialState._reset_state()
    yield
    PartialState._reset_state()


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    from diffusers_dawn.conversion.random_pipeline import random_pipeline

    pipe, folder = random_pipeline("tiny"), tmp_path_factory.mktemp("encoder")
    pipe.audio_encoder.save_pretrained(folder)
    pipe.feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two seconds each of a real speaker as three people, and what cannot be used."""
    folder = tmp_path_factory.mktemp("videos")
    frames, _ = read_video(REAL / "speaker_25fps.mp4", fps=25, max_frames=130)
    waveform = read_waveform(REAL / "speaker_25fps.mp4")
    for number, name in enumerate(("anna", "ben", "cleo")):
        (folder / name).mkdir()
        start = 40 * number
        samples = waveform.samples[start * 640 : (start + 50) * 640]
        write_video(folder / name / "talk.mp4", frames[start : start + 50, ::2, ::2], Waveform(samples, 16_000))
    write_video(folder / "ben" / "faceless.mp4", np.full((30, 64, 64, 3), 90, np.uint8), waveform)
    write_video(folder / "ben" / "short.mp4", frames[:5, ::4, ::4], waveform)
    (folder / "anna" / "broken.mp4").write_bytes(b"this is no video" * 50)
    return folder


@pytest.fixture(scope="module")
def speakers(tmp_path_factory):
    """Two seconds of both real speakers, the second of whom is silent: list of the videos."""
    folder = tmp_path_factory.mktemp("speakers")
    samples = read_waveform(REAL / "speaker_25fps.mp4").samples[: 2 * 16_000]
    for fps, sound in ((25, samples), (30, 0 * samples)):
        frames, _ = read_video(REAL / f"speaker_{fps}fps.mp4", max_frames=2 * fps)
        write_video(folder / f"speaker_{fps}fps.mp4", frames, Waveform(sound, 16_000), fps=fps)
    listed = folder / "list.txt"
    listed.write_text("".join(f"{folder}/speaker_{fps}fps.mp4\n" for fps in (25, 30)))
    return listed


def arguments_for(videos, output, encoder="none", **changes):
    options = {"videos": videos, "output": output, "size": 64, "audio_encoder": encoder} | changes
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [*words, "--quiet"]


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refusal(capsys, arguments):
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("prepare_clips: ")
    return lines[0]


# whole runs


@needs_real
def test_a_folder_of_videos_becomes_a_data_set_split_by_identity(detector, videos, encoder_folder, tmp_path, capsys):
    output = tmp_path / "data"
    options = {"clip_seconds": 1.2, "min_clip_seconds": 0.4, "clips_per_shard": 2, "test_share": 0.3}
    assert main(arguments_for(videos, output, encoder_folder, **options)) == 0
    train, test = ClipShards(output), ClipShards(output, "test")
    identities = {entry.identity for entry in train.entries}, {entry.identity for entry in test.entries}
    assert len(identities[1]) == 1 and identities[0] | identities[1] == {"anna", "ben", "cleo"}
    assert not identities[0] & identities[1]
    assert train.info.audio_encoder == str(encoder_folder) and train.info.audio_dim == 32
    for shards in (train, test):
        for index, entry in enumerate(shards.entries):
            assert entry.num_frames in (30, 20)
            labels = shards.read_labels(index)
            assert labels["audio_features"].shape == (entry.num_frames, 32)
            assert labels["pose"].shape == (entry.num_frames, 6)
            assert shards.read_frames(index, [entry.num_frames - 1]).shape == (1, 64, 64, 3)
            assert shards.read_samples(index).shape == (entry.num_frames * 640,)
    report = (output / "report.csv").read_text()
    assert "ben_faceless-0000,train,`clip` shows no face in any of its 30 frames" in report.replace(
        ",test,", ",train,"
    )
    assert "the video lasts 0.20 s, must last at least 0.4 s" in report
    assert "`video` cannot be decoded (anna/broken.mp4)" in report
    said = capsys.readouterr().out
    assert "clips of 2 identities" in said and "contact_sheet.png" in said


@needs_real
@pytest.mark.slow
def test_both_real_speakers_are_prepared_where_silence_is_allowed(detector, speakers, encoder_folder, tmp_path):
    options = arguments_for(speakers, tmp_path / "data", encoder_folder, size=128, test_share=0)
    assert main([*options, "--allow_silent"]) == 0
    shards = ClipShards(tmp_path / "data")
    lengths = {entry.identity: entry.num_frames for entry in shards.entries}
    assert lengths == {"speaker_25fps": 50, "speaker_30fps": 50}
    assert "the sound track is silent" not in (tmp_path / "data" / "report.csv").read_text()
    for index in range(len(shards)):
        labels = shards.read_labels(index)
        x_min, x_max, y_min, y_max = labels["face_box_px"].T
        # framed as a portrait: the box takes about half of the height, and stays inside
        assert 0.45 < (y_max - y_min).mean() / 128 < 0.65
        assert x_min.min() > 0 and y_min.min() > 0 and x_max.max() < 128 and y_max.max() < 128
        # the same eyes and lips are found in the frames that were cut out, to about a pixel
        for frame_index in (0, 20, 45):
            seen = detector(shards.read_frames(index, [frame_index])[0])[0]
            assert np.abs(labels["mouth_px"][frame_index] - seen.mouth_px).mean() < 1.5
            assert np.abs(labels["pose"][frame_index, :3] - seen.pose[:3]).max() < 5


@needs_real
def test_a_silent_video_is_skipped_unless_silence_is_allowed(detector, speakers, tmp_path):
    assert main(arguments_for(speakers, tmp_path / "data", test_share=0)) == 0
    assert [entry.num_frames for entry in ClipShards(tmp_path / "data").entries] == [50]
    report = (tmp_path / "data" / "report.csv").read_text()
    assert "speaker_30fps-0000,train,the sound track is silent" in report


@needs_real
@pytest.mark.slow
def test_a_killed_run_and_one_of_two_processes_end_with_the_bytes_of_one(detector, videos, encoder_folder, tmp_path):
    options = {"clip_seconds": 0.8, "min_clip_seconds": 0.4, "clips_per_shard": 2}
    whole, killed, two, listed = (tmp_path / name for name in ("whole", "killed", "two", "list.txt"))
    listed.write_text("".join(f"{videos}/{name}.mp4\n" for name in ("anna/talk", "ben/faceless", "cleo/talk")))
    assert main(arguments_for(listed, whole, encoder_folder, **options)) == 0
    assert len(list(whole.glob("*.tar"))) > 2

    arguments = arguments_for(listed, killed, encoder_folder, **options)
    run = begin(main, arguments)
    journal, deadline = killed / "train-00000.jsonl", time.monotonic() + 120
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < deadline and run.is_alive():
        time.sleep(0.02)
    run.kill()
    assert exit_codes([run]) == [-signal.SIGKILL] and not (killed / "dataset.json").exists()
    assert main(arguments) == 0
    assert bytes_of(killed) == bytes_of(whole)

    assert exit_codes(begin_two(main, arguments_for(listed, two, encoder_folder, **options))) == [0, 0]
    assert bytes_of(two) == bytes_of(whole)


@needs_real
def test_a_test_list_decides_and_its_unknown_names_are_said(detector, videos, tmp_path, capsys):
    (tmp_path / "test.txt").write_text("# people\nben\ndora\n")
    options = {"clip_seconds": 2, "min_clip_seconds": 1, "test_split": tmp_path / "test.txt"}
    assert main(arguments_for(videos, tmp_path / "data", **options)) == 0
    assert {entry.identity for entry in ClipShards(tmp_path / "data", "test").entries} == {"ben"}
    assert {entry.identity for entry in ClipShards(tmp_path / "data").entries} == {"anna", "cleo"}
    assert "`test_split` names 1 that are no identity and no video here: dora" in capsys.readouterr().err
    assert ClipShards(tmp_path / "data").info.audio_encoder is None
    assert "audio_features" not in ClipShards(tmp_path / "data").read_labels(0)


# without any face


@pytest.fixture
def faceless(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "grey.mp4", np.full((30, 64, 64, 3), 90, np.uint8))
    return tmp_path / "videos"


def test_a_finished_data_set_is_left_as_it_is_and_another_argument_refused(detector, faceless, tmp_path, capsys):
    assert main(arguments_for(faceless, tmp_path / "data")) == 0
    before = bytes_of(tmp_path / "data")
    PartialState._reset_state()
    assert main(arguments_for(faceless, tmp_path / "data")) == 0
    assert bytes_of(tmp_path / "data") == before
    assert json.loads(before["statistics.json"])["splits"]["train"]["num_clips"] == 0
    capsys.readouterr()
    assert "`seed` is 3, but" in refusal(capsys, arguments_for(faceless, tmp_path / "data", seed=3))
    write_video(faceless / "new.mp4", np.zeros((9, 64, 64, 3), np.uint8))
    assert "`videos`: 1 were added, removed or changed" in refusal(capsys, arguments_for(faceless, tmp_path / "data"))


def test_a_folder_that_holds_another_data_set_is_refused(faceless, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("{}")
    assert "holds a data set that was made otherwise" in refusal(capsys, arguments_for(faceless, tmp_path / "data"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 65}, "`size` is 65, must be an even number from 16"),
        ({"min_clip_seconds": 0}, "`min_clip_seconds` is 0, must be at least 0.04"),
        ({"clip_seconds": 1.5}, "`clip_seconds` is 1.5, must be at least twice `min_clip_seconds` (2)"),
        ({"clips_per_shard": 0}, "`clips_per_shard` is 0, must be positive"),
        ({"min_face_px": 0}, "`min_face_px` is 0, must be positive"),
        ({"test_share": 1}, "`test_share` is 1.0, must be in [0, 1)"),
        ({"test_split": "nowhere.txt"}, "`test_split` is no file: nowhere.txt"),
        ({"identity_pattern": "("}, "`identity_pattern` is no regular expression: "),
        ({"identity_pattern": "a+"}, "`identity_pattern` has no group"),
        ({"identity_pattern": r"(\d{9})"}, r"`identity_pattern` '(\\d{9})' finds no identity in grey.mp4"),
        ({"videos": "nowhere"}, "`videos` is neither a folder nor a file: nowhere"),
        ({"audio_encoder": "./nowhere"}, "`audio_encoder` './nowhere' cannot be loaded: "),
        ({"device": "abacus"}, "`device` is 'abacus'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(faceless, tmp_path, capsys, changes, message):
    assert message in refusal(capsys, arguments_for(**{"videos": faceless, "output": tmp_path / "data"} | changes))
