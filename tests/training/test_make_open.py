"""The recipe of dawn-open: its commands exist, and what is missing is said before anything runs."""

from pathlib import Path

import pytest

from training import make_open
from training.make_open import FILMS_NAME, Material, Stages, list_held_out_films, main

SCRIPTS = (
    *("align_speech", "align_speech", "train_audio_encoder", "train_audio_encoder", "prepare_clips"),
    *("make_photo_clips", "draw_portraits", "make_photo_clips", "make_synthetic_clips"),
    *("train_lfg", "train_pbnet", "train_a2v", "train_a2v"),
    *("add_denoised_motion", "add_denoised_motion", "add_denoised_motion", "train_lfg", "evaluate"),
)


@pytest.fixture
def material(tmp_path):
    for name in ("portraits", "films", "speech"):
        (tmp_path / name).mkdir()
    (tmp_path / "speech" / "transcripts.tsv").write_text("61-1-0001\thello\n", encoding="utf-8")
    (tmp_path / "speech" / "61-1-0001.opus").touch()
    (tmp_path / "head.npz").touch()
    return Material(*(tmp_path / name for name in ("portraits", "films", "speech", "head.npz")))


def options_of(material, work):
    names = ("portraits", "films", "speech", "morphable_head")
    return [word for name in names for word in (f"--{name}", str(getattr(material, name)))] + ["--work", str(work)]


def test_recipe_makes_everything_before_it_is_used_and_measures_people_held_out(material, tmp_path, capsys):
    work = tmp_path / "work"
    assert main([*options_of(material, work), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(SCRIPTS)
    assert all(f"{script}.py" in line for script, line in zip(SCRIPTS, lines, strict=True))
    assert not work.exists()
    stages = Stages(material, work, 1)
    for stage in (*stages.training(), stages.evaluation(work / "checkpoint")):
        given = [word for word in stage.command if word.endswith((".yaml", ".py")) or "held_out_talkers" in word]
        assert given and all(Path(name).is_file() for name in given)
    assert "61-1-0001.opus" in lines[-1] and "test_portraits.txt" in lines[-1]


def test_what_ships_is_what_is_measured(material, tmp_path, monkeypatch):
    (material.films / "s2").mkdir()
    (material.films / "s2" / "a.mp4").touch()
    work, ran, exported = tmp_path / "work", [], []
    monkeypatch.setattr(make_open, "run_recipe", lambda stages, work: ran.extend(stage.command for stage in stages))

    def export(pipeline, folder, gains, lfg):
        exported.append((pipeline, gains, lfg))
        folder.mkdir(parents=True)
        (folder / "model_index.json").touch()
        return 1

    monkeypatch.setattr(make_open, "export", export)
    for _ in range(2):  # the second run finds the checkpoint of the first
        assert main([*options_of(material, work), "--export", str(tmp_path / "out")]) == 0
        measured = ran[-1]
        assert measured[measured.index("--pipeline") + 1] == str(tmp_path / "out")
    runs = work / "runs"
    assert exported == [(runs / "a2v" / "pipeline", make_open.GAINS, runs / "lfg_denoised")]


def test_films_of_people_held_out_are_listed(material, tmp_path):
    for person in ("s1", "s2"):
        (material.films / person).mkdir()
        (material.films / person / f"{person}_a.mp4").touch()
    list_held_out_films(material.films, tmp_path / "work")
    listed = (tmp_path / "work" / FILMS_NAME).read_text(encoding="utf-8").split()
    assert [(tmp_path / "work" / name).resolve() for name in listed] == [material.films / "s2" / "s2_a.mp4"]


def test_films_without_people_held_out_are_refused(material, tmp_path, capsys):
    (material.films / "s1").mkdir()
    (material.films / "s1" / "a.mp4").touch()
    assert main(options_of(material, tmp_path / "work")) == 2
    assert "has no folder of those in held_out_talkers.txt: s2, s31" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("portraits", "`portraits` is .*, must be a folder"),
        ("head.npz", "`morphable_head` is .*, must be a file"),
        ("speech/transcripts.tsv", "`speech` is .*, must hold transcripts.tsv"),
    ],
)
def test_missing_material_is_said(material, tmp_path, missing, message):
    path = tmp_path / missing
    path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=message):
        Material(*(tmp_path / name for name in ("portraits", "films", "speech", "head.npz")))
