"""What a prepared data set holds and lacks: report.csv, statistics.json, contact_sheet.png.

Works on any data set of `clip_shards`, wherever it comes from.
"""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from diffusers_dawn.records import FPS, POSE_NAMES
from training.data.clip_shards import ClipShards
from training.data.dataset_info import read_dataset_info, write_text_atomically
from training.data.mouth import mouth_opening
from training.data.shard_journal import SHARD_NAME, finished_shards, read_journal

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
FRAMES_PER_CLIP = 6
TILE_PX, MARGIN_PX, CAPTION_PX = 128, 4, 14
BOX_COLOUR, LANDMARK_COLOUR = (255, 200, 0), (0, 255, 80)


def write_report(folder: str | os.PathLike) -> Path:
    """List the clips that were left out, with the reasons, in report.csv.

    Args:
        folder: The data set's folder.

    Returns:
        The file.

    Raises:
        ValueError: A shard is missing or unfinished.
    """
    folder = Path(folder)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("clip_id", "split", "reason"))
    for split in splits_of(folder):
        rows.writerows((line["clip_id"], split, line["skipped"]) for line in _journal_lines(folder, split, True))
    path = folder / "report.csv"
    write_text_atomically(path, table.getvalue())
    return path


def write_statistics(folder: str | os.PathLike) -> dict[str, Any]:
    """Measure a data set: statistics.json.

    Args:
        folder: The data set's folder.

    Returns:
        What was written: under `splits`, by split, `num_clips`, `num_identities`, `num_frames`, `hours`, `skipped`
        (number of clips by reason, numbers in it left out), and `labels`: mean, std and percentiles over all frames of
        yaw_deg, pitch_deg, roll_deg, scale, x, y, blink_left, blink_right (eye openness), mouth_gap (between the
        inner lips, over the height of the face's box) and face_height (of that box, over the frame's).

    Raises:
        ValueError: The data set is missing, unfinished or damaged.
    """
    folder = Path(folder)
    info = read_dataset_info(folder)
    splits = {}
    for split in splits_of(folder):
        lines = list(_journal_lines(folder, split, False))
        reasons = Counter(_kind_of(line["skipped"]) for line in _journal_lines(folder, split, True))
        num_frames = sum(line["num_frames"] for line in lines)
        splits[split] = {
            "num_clips": len(lines),
            "num_identities": len({line["identity"] for line in lines}),
            "num_frames": num_frames,
            "hours": round(num_frames / FPS / 3600, 4),
            "skipped": dict(sorted(reasons.items())),
            "labels": _label_statistics(ClipShards(folder, split), info.size_px) if lines else {},
        }
    statistics = {"size_px": info.size_px, "splits": splits}
    text = json.dumps(statistics, indent=2, ensure_ascii=False)
    write_text_atomically(folder / "statistics.json", text + "\n")
    return statistics


def write_contact_sheet(folder: str | os.PathLike, num_clips: int = 24) -> Path | None:
    """Draw some clips into contact_sheet.png: a row each, frames spread over the clip, with face box and mouth.

    Args:
        folder: The data set's folder.
        num_clips: How many clips at most, spread evenly over the data set.

    Returns:
        The file; None if the data set holds no clips.

    Raises:
        ValueError: The data set is missing, unfinished or damaged.
    """
    folder = Path(folder)
    clips = []
    for split in splits_of(folder):
        if any(_journal_lines(folder, split, False)):
            shards = ClipShards(folder, split)
            clips += [(shards, index) for index in range(len(shards))]
    if not clips:
        return None
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(num_clips, len(clips))).round().astype(int))
    rows = [_draw_clip(*clips[position]) for position in chosen]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for place, row in enumerate(rows):
        sheet.paste(row, (0, place * row.height))
    path, partial = folder / "contact_sheet.png", folder / "contact_sheet.png.partial"
    sheet.save(partial, format="PNG")
    os.replace(partial, path)
    return path


def splits_of(folder: Path) -> list[str]:
    """List the splits of a data set.

    Args:
        folder: The data set's folder.

    Returns:
        Their names, sorted; "train" first.
    """
    names = [SHARD_NAME.fullmatch(path.with_suffix(".tar").name) for path in folder.glob("*.jsonl")]
    return sorted({name[1] for name in names if name is not None}, key=lambda split: (split != "train", split))


def _journal_lines(folder: Path, split: str, skipped: bool) -> Iterator[dict[str, Any]]:
    for path in finished_shards(folder, split):
        yield from (line for line in read_journal(path) if ("skipped" in line) == skipped)


def _kind_of(reason: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "#", reason)


def _label_statistics(shards: ClipShards, size_px: int) -> dict[str, dict[str, float]]:
    columns = []
    for index in range(len(shards)):
        labels = shards.read_labels(index, ("pose", "blink", "face_box_px", "mouth_px"))
        face_height = (labels["face_box_px"][:, 3] - labels["face_box_px"][:, 2]) / size_px
        mouth_gap = mouth_opening(
            torch.from_numpy(labels["mouth_px"]), torch.from_numpy(labels["face_box_px"])
        ).numpy()
        columns.append(np.column_stack([labels["pose"], labels["blink"], mouth_gap, face_height]))
    values = np.concatenate(columns).astype(np.float64)
    names = (*POSE_NAMES, "blink_left", "blink_right", "mouth_gap", "face_height")
    percentiles = np.percentile(values, PERCENTILES, axis=0)
    return {
        name: {"mean": _round(values[:, i].mean()), "std": _round(values[:, i].std())}
        | {f"p{p}": _round(percentiles[j, i]) for j, p in enumerate(PERCENTILES)}
        for i, name in enumerate(names)
    }


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def _draw_clip(shards: ClipShards, index: int) -> Image.Image:
    entry = shards.entries[index]
    frame_indices = np.linspace(0, entry.num_frames - 1, FRAMES_PER_CLIP).round().astype(int)
    frames = shards.read_frames(index, frame_indices)
    labels = shards.read_labels(index, ("face_box_px", "mouth_px"))
    zoom = TILE_PX / shards.info.size_px
    step = TILE_PX + MARGIN_PX
    row = Image.new("RGB", (FRAMES_PER_CLIP * step + MARGIN_PX, step + CAPTION_PX), "white")
    for place, (frame_index, frame) in enumerate(zip(frame_indices, frames, strict=True)):
        tile = Image.fromarray(frame).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(tile)
        x_min, x_max, y_min, y_max = labels["face_box_px"][frame_index] * zoom
        draw.rectangle((x_min, y_min, x_max, y_max), outline=BOX_COLOUR)
        draw.point([tuple(point) for point in (labels["mouth_px"][frame_index] * zoom).tolist()], fill=LANDMARK_COLOUR)
        row.paste(tile, (MARGIN_PX + place * step, CAPTION_PX))
    caption = f"{shards.split}  {entry.clip_id}  ({entry.identity})  {entry.num_frames / FPS:.2f} s"
    ImageDraw.Draw(row).text((MARGIN_PX, 0), caption, fill="black")
    return row
