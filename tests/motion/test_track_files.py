import json
import os
import resource
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from diffusers_dawn.motion import track_files
from diffusers_dawn.motion.track import MotionTrack
from diffusers_dawn.motion.track_files import load_track, save_track
from made_tracks import REST, moving_track

numbers = st.floats(-1e4, 1e4, width=32)


@given(
    st.integers(1, 20).flatmap(
        lambda f: st.tuples(*(arrays.arrays(np.float32, (f, w), elements=numbers) for w in (6, 2)))
    ),
    st.sampled_from([".npz", ".json", ".JSON"]),
)
def test_a_file_keeps_every_number(states, suffix):
    track = MotionTrack(*states, rest_pose=REST.pose, rest_blink=REST.blink)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"track{suffix}")
        save_track(track, path)
        loaded = load_track(path)
    for name in ("pose", "blink", "rest_pose", "rest_blink"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(track, name))


def test_a_person_may_write_the_least(tmp_path):
    (tmp_path / "mine.json").write_text('{"pose": [[0, 0, 0, 0.0005, 60, 60]], "blink": [[0.3, 0.3]]}')
    track = load_track(tmp_path / "mine.json")
    assert track.num_frames == 1 and track.rest_pose[4] == 60
    # as an editor on Windows may write it
    (tmp_path / "marked.json").write_text((tmp_path / "mine.json").read_text(), encoding="utf-8-sig")
    assert load_track(tmp_path / "marked.json").num_frames == 1
    save_track(moving_track(3), tmp_path / "track.json")
    # a line per frame, so that it can be edited, and no more digits than float32 has
    lines = (tmp_path / "track.json").read_text().splitlines()
    assert len(lines) == 2 + 4 + 2 * (1 + 3 + 1) and max(map(len, lines)) < 120


def broken(folder: Path) -> dict[str, Path]:
    """Files that hold no track, by what is wrong with them."""
    good = moving_track(4)
    save_track(good, folder / "good.npz")
    save_track(good, folder / "good.json")
    values = json.loads((folder / "good.json").read_text())
    texts = {
        "list": "[]",
        "cut": (folder / "good.json").read_text()[:100],
        "fps": json.dumps(values | {"fps": 30}),
        "names": json.dumps(values | {"pose_names": ["yaw"]}),
        "without": '{"pose": [[0, 0, 0, 0, 0, 0]]}',
        "nan": '{"pose": [[NaN, 0, 0, 0, 0, 0]], "blink": [[1, 1]]}',
        "text": '{"pose": "much", "blink": [[1, 1]]}',
        "truth": '{"pose": [[true, true, true, true, true, true]], "blink": [[1, 1]]}',
        "deep": "[" * 100_000,
        "huge": '{"pose": [[1' + "0" * 400 + ', 0, 0, 0, 0, 0]], "blink": [[1, 1]]}',
    }
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    (folder / "renamed.npz").write_bytes((folder / "good.json").read_bytes())
    (folder / "renamed.json").write_bytes((folder / "good.npz").read_bytes())
    (folder / "half.npz").write_bytes((folder / "good.npz").read_bytes()[:200])
    np.savez(folder / "code.npz", pose=np.array([print], object), blink=good.blink)
    np.savez(folder / "rate.npz", pose=good.pose, blink=good.blink, fps=30)
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pose.npy", bytes(2**21))
    return {path.name: path for path in folder.iterdir() if "good" not in path.name}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": "25"}, r": its `fps` is '25', must be 25$"),
        ({"pose": [[0] * 6, [0] * 5]}, r": its `pose` is \[0, 0, 0, 0, 0\] in frame 1, must be 6 numbers$"),
        ({"blink": [[0.3, 0.3], 0.3]}, r": its `blink` is 0.3 in frame 1, must be 2 numbers$"),
    ],
)
def test_a_slip_of_the_pen_is_shown(tmp_path, changes, message):
    values = {"pose": [[0] * 6] * 2, "blink": [[0.3, 0.3]] * 2} | changes
    (tmp_path / "mine.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        load_track(tmp_path / "mine.json")


def test_a_rate_that_is_no_number_is_refused(tmp_path):
    track = moving_track(2)
    np.savez(tmp_path / "two.npz", pose=track.pose, blink=track.blink, fps=[25, 25])
    with pytest.raises(ValueError, match=r": its `fps` is array\(\[25, 25\]\), must be 25$"):
        load_track(tmp_path / "two.npz")


def test_what_is_no_track_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(track_files, "MOST_BYTES", 2**20)
    for path in broken(tmp_path).values():
        with pytest.raises(ValueError, match=r"^`--motion` is no motion track \(.*\): .+") as refusal:
            load_track(path, "--motion")
        assert len(str(refusal.value)) < 600, path
    with pytest.raises(ValueError, match="must end in .npz or .json"):
        load_track(__file__)
    with pytest.raises(FileNotFoundError, match="`path` does not exist"):
        load_track(tmp_path / "nothing.npz")


@pytest.mark.parametrize(("name", "message"), [("t.csv", "must end in .npz or .json"), ("none/t.npz", "not exist")])
def test_a_place_that_cannot_be_is_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=f"`path`.*{message}"):
        save_track(moving_track(4), tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, suffix):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=rf"track{suffix} cannot be written: File too large"):
            save_track(moving_track(), tmp_path / f"track{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []
