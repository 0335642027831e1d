import csv

import pytest

from synthetic_media import tone, write_audio
from training.align_speech import main
from training.synthetic.espeak import Espeak
from training.synthetic.voice.aligned_recording import read_aligned

pytest.importorskip("pocketsphinx")
pytest.importorskip("espeakng_loader")


def say(path, text):
    waveform = Espeak().say(text, rate_wpm=150).waveform
    write_audio(path, waveform.samples[None], waveform.sample_rate_hz, "pcm_s16le")


def outcomes(output):
    with (output / "report.csv").open(encoding="utf-8") as file:
        return {row["recording"]: (row["outcome"], row["reason"]) for row in csv.DictReader(file)}


def test_recordings_are_aligned_and_the_others_named_with_a_reason(tmp_path, capsys):
    recordings, output = tmp_path / "voices", tmp_path / "labels"
    (recordings / "inner").mkdir(parents=True)
    say(recordings / "inner" / "7-1-0001.wav", "Papa buys a boat.")
    write_audio(recordings / "7-1-0002.wav", tone()[None], 16_000, "pcm_s16le")
    write_audio(recordings / "7-1-0003.wav", tone()[None], 16_000, "pcm_s16le")
    table = tmp_path / "transcripts.tsv"
    table.write_text("7-1-0001\tPAPA BUYS A BOAT\n7-1-0002\tRIEN DU TOUT Ç\n7-1-0009\tGONE\n", encoding="utf-8")
    asked = ["--recordings", str(recordings), "--transcripts", str(table), "--output", str(output)]
    assert main(asked) == 0
    assert outcomes(output) == {
        "7-1-0001": ("aligned", ""),
        "7-1-0002": ("refused", "the transcript has 'ç', which is not an English letter"),
        "7-1-0003": ("refused", "it has no transcript"),
        "7-1-0009": ("refused", "there is no such recording"),
    }
    assert "1 aligned" in capsys.readouterr().out
    aligned = read_aligned(output / "7-1-0001.npz")
    assert aligned.speaker == "7" and aligned.recording == recordings / "inner" / "7-1-0001.wav"
    assert not (output / "7-1-0002.npz").exists()

    before = (output / "7-1-0001.npz").stat().st_mtime_ns
    assert main(asked) == 0
    assert (output / "7-1-0001.npz").stat().st_mtime_ns == before


def test_names_of_grid_tell_what_is_said(tmp_path):
    (tmp_path / "s9").mkdir()
    say(tmp_path / "s9" / "s9_bbaf2n.wav", "Bin blue at F two now.")
    assert main(["--recordings", str(tmp_path / "s9"), "--grid_names", "--output", str(tmp_path / "labels")]) == 0
    assert read_aligned(tmp_path / "labels" / "s9_bbaf2n.npz").text == "bin blue at f two now"


def test_bad_input_ends_with_one_sentence_and_writes_nothing(tmp_path, capsys):
    asked = ["--recordings", str(tmp_path / "missing"), "--grid_names", "--output", str(tmp_path / "labels")]
    assert main(asked) == 2
    assert capsys.readouterr().err.startswith("align_speech: `recordings` is")
    assert not (tmp_path / "labels").exists()
