from pathlib import Path

import numpy as np
import pytest

from training.synthetic.phonemes import ClassSegment
from training.synthetic.voice.aligned_recording import AlignedRecording, read_aligned, write_aligned

ALIGNED = AlignedRecording(
    Path("/somewhere/1-2-3.opus"), "1", "hi", (ClassSegment(0, 0.0, 0.31), ClassSegment(20, 0.31, 0.5, True))
)


def test_what_is_written_is_read(tmp_path):
    write_aligned(tmp_path / "a.npz", ALIGNED)
    assert read_aligned(tmp_path / "a.npz") == ALIGNED
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_phonemes_are_stored_by_name(tmp_path):
    write_aligned(tmp_path / "a.npz", ALIGNED)
    with np.load(tmp_path / "a.npz") as stored:
        assert stored["phoneme"].tolist() == ["sil", "hh"]


def test_damaged_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="is no file of align_speech.py"):
        read_aligned(path)
    np.savez(path, recording="a", speaker="b")
    with pytest.raises(ValueError, match="is no file of align_speech.py"):
        read_aligned(path)
    with pytest.raises(FileNotFoundError):
        read_aligned(tmp_path / "missing.npz")


def test_unknown_phoneme_is_refused(tmp_path):
    write_aligned(tmp_path / "a.npz", ALIGNED)
    with np.load(tmp_path / "a.npz") as stored:
        values = dict(stored)
    np.savez(tmp_path / "a.npz", **values | {"phoneme": np.array(["sil", "q"])})
    with pytest.raises(ValueError, match="has the phoneme 'q', which is none of the project's classes"):
        read_aligned(tmp_path / "a.npz")
