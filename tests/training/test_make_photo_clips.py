"""The command that makes portraits speak, on drawn portraits and a synthesized recording."""

import json

import pytest
from PIL import Image

from training.data.clip_members import encode_wav
from training.data.clip_shards import ClipShards
from training.make_photo_clips import main
from training.synthetic.espeak import Espeak
from training.synthetic.head_state import HeadState
from training.synthetic.identity import draw_identity
from training.synthetic.renderer import HeadRenderer
from training.synthetic.speakers import draw_speaker
from training.synthetic.spoken_clip import speak_clip
from training.synthetic.voice.aligned_recording import AlignedRecording, write_aligned
from warm_processes import begin_workers_warm


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portraits")
    for seed in (4, 6):
        Image.fromarray(HeadRenderer(draw_identity(seed), 256).render(HeadState()).image).save(folder / f"{seed}.png")
    Image.new("RGB", (64, 64)).save(folder / "nobody.png")
    return folder


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    for number in range(2):
        spoken = speak_clip(Espeak(), draw_speaker(number, True), 25, number)
        sound = folder / f"{number}.wav"
        sound.write_bytes(encode_wav(spoken.samples))
        write_aligned(folder / f"{number}.npz", AlignedRecording(sound, f"speaker{number}", "words", spoken.segments))
    return folder


def command(portraits, head_file, output, *more, test=("--test_share", 0.5)):
    words = ["--portraits", portraits, "--morphable_head", head_file, "--output", output, "--num_clips", 3]
    words += ["--test_clips", 1, *test, "--seconds", 0.2, "--size", 128, "--quiet", *more]
    return main([str(word) for word in words])


def test_portraits_speak_with_recorded_and_synthesized_voices(
    portraits, aligned, head_file, tmp_path, capsys, monkeypatch
):
    begin_workers_warm(monkeypatch)
    output = tmp_path / "photos"
    assert command(portraits, head_file, output, "--aligned_speech", aligned, "--num_processes", 2) == 0
    assert "3 clips" in capsys.readouterr().out
    train, test = ClipShards(output), ClipShards(output, "test")
    assert {entry.identity for entry in train.entries}.isdisjoint(entry.identity for entry in test.entries)
    assert json.loads((output / "refused_portraits.json").read_text())["nobody.png"]
    assert train.read_labels(0)["motion"].shape == (5, 2, 3, 32, 32)
    assert (output / "contact_sheet.png").is_file()
    held_out = [output / name for name in (output / "test_portraits.txt").read_text().split()]
    assert {path.stem for path in held_out} >= {entry.identity for entry in test.entries}
    assert all(path.is_file() for path in held_out)
    sources = {train.read_info(index)["speech"] for index in range(3)}
    assert any(source.endswith(".wav") for source in sources)


@pytest.mark.parametrize("held_out", ["4", "6"])
def test_people_of_a_list_are_seen_in_the_test_split_alone(portraits, head_file, tmp_path, capsys, held_out):
    names, output = tmp_path / "held_out.txt", tmp_path / "photos"
    names.write_text(f"# people\n{held_out}\nnobody_here\n")
    assert command(portraits, head_file, output, test=("--test_split", names)) == 0
    assert "`test_split` names 1 that are no person and no portrait here: nobody_here" in capsys.readouterr().err
    assert {entry.identity for entry in ClipShards(output, "test").entries} == {held_out}
    assert {entry.identity for entry in ClipShards(output).entries} == {"4", "6"} - {held_out}


def test_a_list_of_everyone_leaves_nobody_to_train_on(portraits, head_file, tmp_path, capsys):
    names = tmp_path / "held_out.txt"
    names.write_text("4\n6\n")
    assert command(portraits, head_file, tmp_path / "photos", test=("--test_split", names)) == 2
    assert "`test_split` names everyone" in capsys.readouterr().err
    assert command(portraits, head_file, tmp_path / "other", test=("--test_split", tmp_path / "none.txt")) == 2
    assert "`test_split` is no file" in capsys.readouterr().err


def test_speakers_held_out_are_heard_in_the_test_split_alone(portraits, aligned, head_file, tmp_path, capsys):
    output = tmp_path / "photos"
    words = ["--aligned_speech", aligned, "--num_clips", 12, "--test_clips", 4, "--held_out_speakers", "speaker0"]
    assert command(portraits, head_file, output, *words) == 0
    for split, heard in (("train", "1.wav"), ("test", "0.wav")):
        clips = ClipShards(output, split)
        sources = {clips.read_info(index)["speech"] for index in range(len(clips))}
        assert heard in sources and {source for source in sources if source.endswith(".wav")} == {heard}
    assert command(portraits, head_file, tmp_path / "other", *words[:-1], "speaker7") == 2
    assert "`held_out_speakers` has 'speaker7', must be speakers of `aligned_speech`" in capsys.readouterr().err
    assert command(portraits, head_file, tmp_path / "other", "--held_out_speakers", "speaker0") == 2
    assert "`held_out_speakers` is given without `aligned_speech`" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_same_command_gives_the_same_bytes_and_goes_on(portraits, head_file, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    assert command(portraits, head_file, one) == 0
    assert command(portraits, head_file, other) == 0
    shards = [(folder / "train-00000.tar").read_bytes() for folder in (one, other)]
    assert shards[0] == shards[1]
    assert command(portraits, head_file, one) == 0
    assert command(portraits, head_file, one, "--seed", 1) == 2


def test_filmed_lips_drive_portraits(portraits, head_file, tmp_path):
    filmed = tmp_path / "filmed"
    assert command(portraits, head_file, filmed, "--clips_per_shard", 3) == 0
    assert command(portraits, head_file, tmp_path / "driven", "--filmed_clips", filmed, "--seed", 3) == 0
    clips = ClipShards(tmp_path / "driven")
    names = {entry.clip_id for split in ("train", "test") for entry in ClipShards(filmed, split).entries}
    assert any(clips.read_info(index)["speech"] in names for index in range(len(clips)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", 100], "`size_px` is 100"),
        (["--num_processes", 0], "`num_processes` is 0"),
        (["--test_share", 1.5], "`test_share` is 1.5"),
        (["--motion_references", 99], "`num_references` is 99"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    portraits, head_file, tmp_path, capsys, words, message
):
    assert command(portraits, head_file, tmp_path / "photos", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "photos").exists()


def test_clips_of_one_frame_size_are_refused_for_filmed_lips_that_are_not_known(
    portraits, head_file, tiny_data_set, tmp_path, capsys
):
    assert command(portraits, head_file, tmp_path / "photos", "--filmed_clips", tiny_data_set) == 2
    assert "has no `expression`" in capsys.readouterr().err
