"""One setting with several values: a table like those of the paper's ablations, a row for each value."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers_dawn.cli.evaluation_reports import Report, marked

# settings of an evaluation that may have several values, and what the paper compares by them
SETTINGS = {
    "strategy": "generation strategy",
    "attention_window": "window of the temporal attention",
    "clip_seconds": "inference length",
    "motion": "with and without PBNet, given pose and blinks",
    "guidance_scale": "guidance",
    "num_inference_steps": "denoising steps",
    "scheduler": "sampler",
    "preset": "sampler and steps",
    "seed": "chance",
}
# and what `paper_tables.py` compares besides
VARIED = SETTINGS | {"pipeline": "stages of the curriculum"}
# those of the paper's tables, then what needs no network
COLUMNS = {
    "paper": (
        *("fid", "fvd16", "fvd32", "lse_c", "lse_d", "lse_c_dawn_sync", "lse_d_dawn_sync", "csim", "csim_dlib"),
        *("bas", "blinks_per_s", "head_diversity_deg", "opening_in_silence"),
    ),
    "lips": ("own_speech", "lag_within_1"),
    "pictures": ("psnr_db", "ssim", "m_lmd_px"),
    "long": ("mouth_opening_ratio", "sharpness_ratio"),
}
NOTHING = "–"


def variants_as_markdown(name: str, reports: Mapping[str, Report]) -> str:
    """Write a table with a row for each value of a setting.

    Args:
        name: The setting, one of `VARIED`.
        reports: What was found with each value, see `report.report_as_numbers`; the values in their order.

    Returns:
        Markdown. A figure that one of the reports lacks is no column. Where what stands beside a figure differs, as
        for clips of other lengths, it stands in brackets behind each.
    """
    first = next(iter(reports.values()))
    columns = [
        (section, key)
        for section, keys in COLUMNS.items()
        for key in keys
        if all(figure_of(report, section, key) for report in reports.values())
    ]
    numbers = {
        "clips": [str(report["settings"]["num_clips"]) for report in reports.values()],
        "s per video": [_shown(seconds_per_video(report)) for report in reports.values()],
    }
    rows = [[name, *numbers], ["---"] * 3, ["beside", "", ""]]
    rows += [[value, *cells] for value, *cells in zip(reports, *numbers.values(), strict=True)]
    for section, key in columns:
        cells = _column(section, [figure_of(report, section, key) for report in reports.values()])
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    pipelines = dict.fromkeys(f"`{report['settings']['pipeline']}`" for report in reports.values())
    text = (
        f"{', '.join(pipelines)} on clips of the test split of `{first['settings']['dataset']}`, a "
        f"row for each `{name}` ({VARIED[name]}). Each row has a report with intervals; `dawn compare` tells of two "
        "rows which differences are more than chance. Beside: the same figure of real clips, or what it is compared "
        f"with; in brackets where it is another for each row. Seconds are those of {first['machine']}"
    )
    return "\n\n".join([f"## {name}", "\n".join(f"| {' | '.join(row)} |" for row in rows), text]) + "\n"


def _column(section: str, figures: Sequence[dict[str, Any]]) -> list[str]:
    """Title, a line, what stands beside, and the values of one figure in all reports."""
    first, besides = figures[0], [_shown(figure["beside"]) for figure in figures]
    values = [_shown(figure["value"]) for figure in figures]
    title = f"{section}: {marked(first['label'], first['better'], first['beside'])}"
    if len(set(besides)) == 1:
        return [title, "---", besides[0], *values]
    return [title, "---", "", *(f"{value} ({beside})" for value, beside in zip(values, besides, strict=True))]


def figure_of(report: Report, section: str, key: str) -> dict[str, Any] | None:
    """Look up a figure; None where the report has not measured it."""
    return report["sections"].get(section, {}).get("figures", {}).get(key)


def seconds_per_video(report: Report) -> float | None:
    """Seconds of rendering of the first section that rendered videos: sections have videos of different lengths."""
    for rendered in report["rendering"].values():
        return rendered["seconds"] / rendered["videos"]
    return None


def _shown(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"
