import pytest

from training.synthetic.voice.transcripts import grid_sentence, list_recordings, read_transcripts, speaker_of


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("s2_bbaf2n", "bin blue at f two now"),
        ("bbaf2n", "bin blue at f two now"),
        ("s31_LRWZZA", "lay red with zed zero again"),
        ("s1_pgia9s", "place green in a nine soon"),
        ("s1_swbe5p", "set white by e five please"),
    ],
)
def test_name_of_a_grid_recording_tells_its_six_words(name, sentence):
    assert grid_sentence(name) == sentence


@pytest.mark.parametrize("name", ["", "s2", "s2_bbaw2n", "s2_bbaf0n", "s2_xbaf2n", "s16_altered_sound_x00"])
def test_name_without_a_grid_sentence_is_refused(name):
    with pytest.raises(ValueError, match="must end with the six letters of a GRID sentence"):
        grid_sentence(name)


def test_table_gives_what_is_said_by_name(tmp_path):
    table = tmp_path / "transcripts.tsv"
    table.write_text("1-2-3\tHELLO THERE\n\n1-2-4\t Grüße \n", encoding="utf-8")
    assert read_transcripts(table) == {"1-2-3": "HELLO THERE", "1-2-4": "Grüße"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a\tone\nb two\n", "line 2 of .* must be a name, one tab, and what is said"),
        ("a\tone\ttwo\n", "line 1 of"),
        ("a\t \n", "line 1 of"),
        ("\tone\n", "line 1 of"),
        ("a\tone\na\ttwo\n", "has 'a' twice"),
    ],
)
def test_table_of_another_form_is_refused(tmp_path, text, sentence):
    table = tmp_path / "transcripts.tsv"
    table.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"`transcripts`: .*{sentence}"):
        read_transcripts(table)


def test_recordings_of_inner_folders_are_listed_and_other_files_are_not(tmp_path):
    for name in ("b.WAV", "inner/a.mkv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_recordings(tmp_path)] == ["b.WAV", "a.mkv"]


def test_folder_that_cannot_be_aligned_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`recordings` is .*, must be a folder"):
        list_recordings(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no recordings"):
        list_recordings(tmp_path)
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.mp3").touch()
    with pytest.raises(ValueError, match="have the same name"):
        list_recordings(tmp_path)


def test_speaker_stands_first_in_the_name():
    assert [speaker_of(name) for name in ("1284-1180-0001", "s2_bbaf2n", "anna")] == ["1284", "s2", "anna"]
