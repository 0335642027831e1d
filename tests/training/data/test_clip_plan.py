import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.clip_members import CLIP_ID_PATTERN
from training.data.clip_plan import (
    SourceVideo,
    cut_into_clips,
    identities_by_share,
    identities_in_list,
    identities_of,
    identity_of,
    list_videos,
    names_that_look_shared,
    plan_clips,
    plan_shards,
    read_names,
    read_plan,
    write_plan,
)

SPLITS = Path(__file__).parents[3] / "training" / "splits"
HDTF = re.compile(r"(RD_Radio\d+|W[DR]A_[A-Za-z]+)")
CREMA_D = re.compile(r"(?:^|/)(\d{4})_")


def video(path, num_frames=100, identity="anna", split="train", problem=None):
    return SourceVideo(path, 10, identity, split, num_frames, problem)


# which videos


def test_videos_of_a_folder_are_found_in_sub_folders_and_sorted(tmp_path):
    for name in ("b.mp4", "a/z.MOV", "a/b.flv", "notes.txt", "a/._b.mp4", "sound.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_videos(tmp_path) == (tmp_path, ["a/b.flv", "a/z.MOV", "b.mp4"])


def test_a_list_names_videos_relative_to_itself_whatever_their_suffix(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("videos/b.mp4", "videos/a.raw"):
        (tmp_path / name).touch()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.txt").write_text(f"# two\n../videos/b.mp4\n\n{tmp_path}/videos/a.raw\n")
    assert list_videos(tmp_path / "lists" / "list.txt") == (tmp_path / "videos", ["a.raw", "b.mp4"])


def test_a_single_video_is_taken(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert list_videos(tmp_path / "a.mp4") == (tmp_path, ["a.mp4"])


def test_a_list_with_a_missing_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    with pytest.raises(ValueError, match=r"`videos`: .*list.txt lists files that do not exist: .*gone.mp4"):
        list_videos(tmp_path / "list.txt")


def test_a_folder_without_videos_and_a_missing_folder_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"`videos`: .* holds no videos \(.3gp, "):
        list_videos(tmp_path)
    with pytest.raises(ValueError, match=r"`videos` is neither a folder nor a file: .*nowhere"):
        list_videos(tmp_path / "nowhere")


def test_a_list_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ValueError, match=r"list.bin is no text file"):
        read_names(tmp_path / "list.bin")


# who is seen


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("anna/holiday/1.mp4", "anna"),
        ("anna/1.mp4", "anna"),
        ("anna_1.mp4", "anna_1"),
        ("M003/video/front/neutral/level_1/001.mp4", "M003"),  # MEAD
        ("id10270/abc/00001.mp4", "id10270"),  # VoxCeleb
        ("dev/mp4/id10270/abc/00001.mp4", "id10270"),
        ("Actor_01/01-01-03-01-01-01-01.mp4", "Actor_01"),  # RAVDESS
        ("train/anna_1.mp4", "anna_1"),
        ("pretrain/0Fi83BHQsMA/00002.mp4", "0Fi83BHQsMA"),  # LRS3
        ("main/5535415699068794046/00001.mp4", "5535415699068794046"),  # LRS2
        ("volunteers/05F/Clips/straightcam/sa1.mp4", "05F"),  # TCD-TIMIT
        ("front/s2_l_bbim3a.mov", "s2_l_bbim3a"),  # Lombard GRID
        ("Left_30/M003/angry/001.mp4", "M003"),
        ("part 2/session-3/cam1/Speaker_7/a.mp4", "Speaker_7"),
        ("english/test_clips/Set2/a.mp4", "a"),
    ],
)
def test_the_identity_is_the_outermost_folder_of_a_person_or_else_the_files_name(path, identity):
    assert identity_of(path) == identity


@given(
    # but for mp1 and its like, which are kinds of files
    persons=st.lists(st.from_regex(r"[a-ln-z][a-z][0-9]{1,3}", fullmatch=True), min_size=2, max_size=6, unique=True),
    above=st.sampled_from(["", "mp4/", "study/", "study/dev/", "Study B/raw/", "pretrain/Cam_1/", "women/part2/"]),
    below=st.sampled_from(["", "front/", "video/front/level_1/", "2019/take7/"]),
)
def test_persons_are_kept_apart_and_whole_in_any_layout_of_folders(persons, above, below):
    paths = {f"{above}{who}/{below}{take}.mp4": who for who in persons for take in ("001", "002")}
    assert identities_of(list(paths)) == paths


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["1001_DFA_HI", "1001_DFA_LO", "1002_DFA_HI"], {"1001_dfa": ["1001_DFA_HI", "1001_DFA_LO"]}),
        (["anna-1", "anna-2", "ben"], {"anna": ["anna-1", "anna-2"]}),
        (["Anna", "anna", "ben"], {"anna": ["Anna", "anna"]}),
        (["Jos\u00e9", "Jose\u0301", "ben"], {"jos\u00e9": ["Jose\u0301", "Jos\u00e9"]}),
        (["id7", "id7 (1)", "ben"], {"id7": ["id7", "id7 (1)"]}),
        (["Actor_01", "Actor_02"], {}),
        (["M003", "M005"], {}),
        (["anna", "ben"], {}),
    ],
)
def test_names_that_may_be_one_persons_are_found(names, shared):
    assert names_that_look_shared(names) == shared


@pytest.mark.parametrize(
    ("path", "pattern", "identity"),
    [
        ("WDA_AmyKlobuchar1_001.mp4", HDTF, "WDA_AmyKlobuchar"),
        ("clips/WRA_JohnKasich1_001.mp4", HDTF, "WRA_JohnKasich"),
        ("RD_Radio14_000.mp4", HDTF, "RD_Radio14"),
        ("1001_DFA_ANG_XX.flv", CREMA_D, "1001"),
        ("VideoFlash/1091_IEO_HAP_HI.flv", CREMA_D, "1091"),
    ],
)
def test_the_documented_patterns_tell_the_speakers_of_hdtf_and_crema_d(path, pattern, identity):
    assert identity_of(path, pattern) == identity


def test_a_pattern_that_finds_nothing_is_an_error_that_names_the_video():
    with pytest.raises(ValueError, match=r"`identity_pattern` .* finds no identity in a/portrait.mp4"):
        identity_of("a/portrait.mp4", CREMA_D)


def test_a_test_list_names_identities_or_videos_and_takes_all_of_an_identity():
    identities = {"a/1.mp4": "anna", "a/2.mp4": "anna", "b/3.mp4": "ben", "c/4.mp4": "cleo"}
    assert identities_in_list(identities, ["2", "cleo", "dora"]) == ({"anna", "cleo"}, ["dora"])
    assert identities_in_list(identities, []) == (set(), [])


def test_a_test_list_with_a_video_that_several_people_have_is_refused():
    # numbered alike in every person's folder: taking one of them would leave the others in the training
    identities = {"anna/1.mp4": "anna", "ben/1.mp4": "ben", "ben/2.mp4": "ben"}
    assert identities_in_list(identities, ["2"]) == ({"ben"}, [])
    with pytest.raises(ValueError, match=r"`test_split` names '1', a video of 2 identities \(anna, ben\), must name"):
        identities_in_list(identities, ["1"])


@given(identities=st.sets(st.text(min_size=1), max_size=40), share=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_a_share_of_identities_leaves_some_for_training_and_depends_on_the_seed_only(identities, share, seed):
    drawn = identities_by_share(sorted(identities), share, seed)
    assert drawn == identities_by_share(sorted(identities, reverse=True), share, seed)
    assert drawn <= identities and (not identities or drawn != identities)
    assert len(drawn) == min(max(round(share * len(identities)), int(share > 0)), max(len(identities) - 1, 0))


@pytest.mark.parametrize(("name", "pattern", "num_names"), [("hdtf_test", HDTF, 41), ("crema_d_test", CREMA_D, 5)])
def test_the_split_files_name_what_the_patterns_find(name, pattern, num_names):
    names = read_names(SPLITS / f"{name}.txt")
    assert len(set(names)) == len(names) == num_names
    assert all(identity_of(f"{line}_", pattern) for line in names)


# clips


@given(min_frames=st.integers(1, 60), extra=st.integers(0, 300), num_frames=st.integers(0, 3000))
def test_clips_cover_every_frame_once_and_keep_their_limits(min_frames, extra, num_frames):
    clip_frames = 2 * min_frames + extra
    clips = cut_into_clips(num_frames, clip_frames, min_frames)
    if num_frames < min_frames:
        assert clips == []
        return
    covered = [frame for start, length in clips for frame in range(start, start + length)]
    assert covered == list(range(num_frames))
    assert all(min_frames <= length <= clip_frames for _, length in clips)
    assert all(length == clip_frames for _, length in clips[:-2])


def test_a_short_tail_shares_its_frames_with_the_clip_before():
    assert cut_into_clips(520, 250, 25) == [(0, 250), (250, 135), (385, 135)]
    assert cut_into_clips(525, 250, 25) == [(0, 250), (250, 250), (500, 25)]
    assert cut_into_clips(260, 250, 25) == [(0, 130), (130, 130)]


def test_clips_are_named_by_video_and_number_and_a_useless_video_has_one():
    clips = plan_clips([video("a/b c.mp4", 60), video("d.mp4", 3, problem="too short")], 25, 10)
    assert [(clip.clip_id, clip.start, clip.num_frames) for clip in clips] == [
        ("a_b_c-0000", 0, 25),
        ("a_b_c-0001", 25, 25),
        ("a_b_c-0002", 50, 10),
        ("d-0000", 0, 3),
    ]


def test_names_of_clips_are_allowed_and_different_whatever_the_videos_are_called():
    paths = ["a b.mp4", "a_b.mp4", "a_b.mov", "a/b.mp4", "видео.mp4", "视频.mp4", "x" * 200 + ".mp4", "1.2.mp4"]
    clips = plan_clips([video(path, 100000) for path in paths], 8, 4)
    assert len({clip.clip_id for clip in clips}) == len(clips)
    assert all(CLIP_ID_PATTERN.fullmatch(clip.clip_id) for clip in clips)


def test_shards_hold_one_split_each_and_as_many_clips_as_allowed(tmp_path):
    videos = [video("a.mp4", 70), video("b.mp4", 50, split="test"), video("c.mp4", 20)]
    shards = plan_shards(tmp_path, plan_clips(videos, 20, 10), 3)
    assert [(path.name, [clip.clip_id for clip in clips]) for path, clips in shards] == [
        ("train-00000.tar", ["a-0000", "a-0001", "a-0002"]),
        ("train-00001.tar", ["a-0003", "c-0000"]),
        ("test-00000.tar", ["b-0000", "b-0001", "b-0002"]),
    ]


# going on


def test_a_plan_comes_back_as_it_was_written(tmp_path):
    videos = [video("a.mp4"), video("b.mp4", 0, problem="cannot be decoded")]
    assert read_plan(tmp_path, {"size": 128}, [("a.mp4", 10), ("b.mp4", 10)]) is None
    write_plan(tmp_path, {"size": 128}, videos)
    assert read_plan(tmp_path, {"size": 128}, [("a.mp4", 10), ("b.mp4", 10)]) == videos


def test_going_on_with_another_argument_is_an_error_that_names_it(tmp_path):
    write_plan(tmp_path, {"size": 128, "seed": 0}, [video("a.mp4")])
    with pytest.raises(ValueError, match="`size` is 256, but .* was started with 128; choose a new folder"):
        read_plan(tmp_path, {"size": 256, "seed": 0}, [("a.mp4", 10)])


@pytest.mark.parametrize("files", [[("a.mp4", 11)], [("a.mp4", 10), ("new.mp4", 10)], []])
def test_going_on_with_other_videos_is_an_error(tmp_path, files):
    write_plan(tmp_path, {}, [video("a.mp4")])
    with pytest.raises(ValueError, match=r"`videos`: 1 were added, removed or changed since .*: (a|new).mp4"):
        read_plan(tmp_path, {}, files)


def test_a_damaged_plan_is_an_error(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"plan.json cannot be understood"):
        read_plan(tmp_path, {}, [])
