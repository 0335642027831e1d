import errno
import os
import stat
import subprocess
import sys

import pytest

from diffusers_dawn.machine.output_places import check_folder, check_place, naming_place, part_beside, remove_abandoned


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (os.fsdecode(b"\xff.mp4"), r"has a name that is not UTF-8: b'.*\\xff.mp4'"),
        ("a" * 256, "has a name of 256 bytes; file systems allow 255"),
        ("é" * 128, "has a name of 256 bytes"),
        ("none/x.mp4", "lies in a folder that does not exist: .*none"),
        ("file/x.mp4", "lies in a folder that does not exist: .*file"),
        ("n" * 300 + "/x.mp4", "lies in a folder that cannot be used .*: .*nnn"),
        ("a\0b", "has a name with a zero byte"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_in_a_sentence(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"`output` {message}"):
        check_place(tmp_path / name, "output")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (os.fsdecode(b"\xff"), r"has a name that is not UTF-8"),
        ("a" * 256 + "/b/c", "has a name of 256 bytes; file systems allow 255"),
        ("file", "is not a folder: .*file"),
        ("file/x/y", "lies in a folder that does not exist: .*file"),
    ],
)
def test_a_folder_that_cannot_be_filled_is_refused_in_a_sentence(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"`output_dir` {message}"):
        check_folder(tmp_path / name, "output_dir")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_not_writable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may do anything
    with pytest.raises(ValueError, match="`output` is a folder that is not writable"):
        check_folder(tmp_path, "output")
    with pytest.raises(ValueError, match="`output` lies in a folder that is not writable"):
        check_folder(tmp_path / "a" / "b", "output")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder that the system fills is Linux'")
def test_a_folder_that_only_seems_writable_is_refused_before_the_work():
    assert os.access("/proc", os.W_OK) or os.geteuid() != 0
    with pytest.raises(
        ValueError, match="`output` lies in a folder that (cannot be written .*|is not writable): /proc"
    ):
        check_place("/proc/x.mp4", "output")
    with pytest.raises(ValueError, match="`output` is a folder that (cannot be written .*|is not writable): /proc"):
        check_folder("/proc", "output")


def test_no_name_is_refused():
    with pytest.raises(ValueError, match="`output` is empty, must be a name"):
        check_place("", "output")


def test_a_folder_may_be_there_or_not_yet(tmp_path):
    check_folder(tmp_path, "output")
    check_folder(tmp_path / "a" / "b", "output")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_another_process_makes_meanwhile_is_not_refused(tmp_path, monkeypatch):
    folder = tmp_path / "data"

    def then_made(ask):
        def asked(path):
            answer = ask(path)
            folder.mkdir(exist_ok=True)
            return answer

        return asked

    for question in ("isdir", "lexists"):
        monkeypatch.setattr(os.path, question, then_made(getattr(os.path, question)))
    check_folder(folder, "output")
    assert os.listdir(tmp_path) == ["data"] and os.listdir(folder) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users are Unix'")
def test_another_users_file_in_a_sticky_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x.mp4").touch()
    tmp_path.chmod(0o777 | stat.S_ISVTX)
    check_place(tmp_path / "x.mp4", "output")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1000)
    with pytest.raises(ValueError, match="`output` is another user's"):
        check_place(tmp_path / "x.mp4", "output")
    check_place(tmp_path / "new.mp4", "output")


def test_a_part_is_hidden_beside_its_destination_and_gone_at_the_end(tmp_path):
    for fill in (
        lambda part: part.write_text("x"),
        lambda part: (part / "deep").mkdir(parents=True),
        lambda part: None,
    ):
        with part_beside(tmp_path / "x.mp4") as part:
            assert part.parent == tmp_path and part.name.startswith(".dawn-") and part.suffix == ".mp4"
            fill(part)
        assert os.listdir(tmp_path) == []


def test_parts_of_processes_that_are_gone_are_removed_and_others_stay(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from diffusers_dawn.machine.output_places import part_beside\n"
        "place = part_beside(Path(sys.argv[1]) / 'x.mp4'); place.__enter__().write_text('half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert len(os.listdir(tmp_path)) == 1
    (tmp_path / ".dawn-elsewhere-1-0123456789abcdef.mp4").touch()
    (tmp_path / ".dawn-notes").touch()
    with part_beside(tmp_path / "y.mp4") as own:
        own.touch()
        remove_abandoned(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted([
            ".dawn-elsewhere-1-0123456789abcdef.mp4",
            ".dawn-notes",
            own.name,
        ])


def test_what_fails_while_writing_names_the_destination():
    with pytest.raises(OSError, match=r"^x\.mp4 cannot be written: No space left on device$"), naming_place("x.mp4"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), ".dawn-hidden.mp4")
