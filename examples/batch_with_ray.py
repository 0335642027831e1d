"""Render many jobs on a cluster with Ray Data, by the function that `dawn batch` calls.

    pip install "ray[data]"
    python examples/batch_with_ray.py jobs.jsonl --output /shared/videos --workers 2

Every worker loads the model once and takes jobs as it gets free. Started again, it goes on: what is in the folder
already is not rendered again. All machines must see the same files. `ray start` on each makes a cluster; without it,
Ray uses this machine.
"""

import argparse
import csv
from pathlib import Path

import ray

from diffusers_dawn import JobRenderer, demo_checkpoint

# so few jobs go to a worker at once that none is long without work at the end
JOBS_AT_ONCE = 10


class Worker:
    """One process with a model of its own.

    Args:
        output: Folder for the videos.
        checkpoint: Folder or Hub id of a saved pipeline.
        memory_share: How many workers share a machine's memory.
    """

    def __init__(self, output: str, checkpoint: str, memory_share: int) -> None:
        self._render = JobRenderer(output, checkpoint, memory_share=memory_share)

    def __call__(self, row: dict) -> dict:
        """Render the job of one line."""
        return self._render(row["item"])


def main() -> None:
    """Render the jobs, and write what became of them."""
    parser = argparse.ArgumentParser(description="Render many talking videos on a cluster.")
    parser.add_argument("jobs", type=Path, help="one job per line, as for `dawn batch`")
    parser.add_argument("--output", required=True, help="folder for the videos and report.csv, seen by all machines")
    parser.add_argument("--checkpoint", default=demo_checkpoint(), help="folder or Hub id of a saved pipeline")
    parser.add_argument("--workers", type=int, default=2, help="how many models work at once (default: 2)")
    options = parser.parse_args()
    lines = [line for line in options.jobs.read_text(encoding="utf-8").splitlines() if line.strip()]
    ray.init(include_dashboard=False)
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    num_blocks = max(options.workers, len(lines) // JOBS_AT_ONCE)
    output = Path(options.output).absolute()
    rows = ray.data.from_items(lines, override_num_blocks=min(len(lines), num_blocks)).map(
        Worker,
        fn_constructor_args=(str(output), options.checkpoint, 1 if has_gpus else options.workers),
        num_cpus=1,
        num_gpus=1 if has_gpus else 0,
        concurrency=options.workers,
    )
    output.mkdir(parents=True, exist_ok=True)
    with (output / "report.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ("output", "status", "frames", "seconds", "reason", "warnings"))
        table.writeheader()
        for row in rows.iter_rows():
            table.writerow(row)
            print(f"{row['output']}: {row['status']} {row['reason']}", flush=True)


if __name__ == "__main__":
    main()
