import os

import pytest

from diffusers_dawn.media.video_kinds import check_output_path


def test_bad_output_paths_are_errors(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path, message in (
        (tmp_path / "folder.mp4", "is a directory"),
        (tmp_path / "none" / "video.mp4", "folder that does not exist"),
        (tmp_path / "file" / "video.mp4", "folder that does not exist"),
        (tmp_path / "video.avi", r"ends in '\.avi'.*, must end in one of .mp4, .mov, .webm, .gif, or have no suffix"),
        (tmp_path / "file", "there is a file"),
        (tmp_path, r"is a directory.*other things than frames \(file\)"),
    ):
        with pytest.raises(ValueError, match=f"`output`.*{message}"):
            check_output_path(path)


def test_a_special_file_is_no_output_path(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ValueError, match="not a regular file"):
        check_output_path(tmp_path / "pipe.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_no_place_for_output(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="not writable"):
        check_output_path(tmp_path / "video.mp4")
