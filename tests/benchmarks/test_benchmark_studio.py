import pytest

from benchmark_scripts import imported_script
from diffusers_dawn.cli.command import main


@pytest.mark.slow
def test_script_prints_the_seconds_from_click_to_video(tmp_path, capsys, detector, monkeypatch):
    assert main(["init", "--size", "tiny", "-o", str(tmp_path / "tiny")]) == 0
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # which is that of other pages again afterwards
    with imported_script("studio") as script:
        script.main(["--checkpoint", str(tmp_path / "tiny"), "--seconds", "0.2", "--presets", "fast"])
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["fast"])
    assert len(row) == 5 and all(float(number) > 0 for number in row[1:])
    assert float(row[2]) == pytest.approx(float(row[1]) / 0.2, rel=0.02)
