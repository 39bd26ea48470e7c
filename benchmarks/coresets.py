"""Choosing a subset: seconds and memory beside other libraries, and up to half a million samples.

    python -m venv peers
    peers/bin/pip install torch submodlib-py==0.0.3 apricot-select==0.6.1 scikit-learn scipy tqdm
    git clone https://github.com/PatrickZH/DeepCore && git -C DeepCore checkout 74ec709
    python benchmarks/coresets.py --peers peers/bin/python --deepcore DeepCore --json results/benchmarks/coresets.json

Every choice runs in a process of its own ([coreset_worker.py](coreset_worker.py) has the details), on one thread. There
are three parts, and `--parts` selects some of them.

peers: facility location, 500 of 5,000 samples with 64 features, beside LazyGreedy of submodlib-py 0.0.3 and the lazy
optimiser of apricot-select 0.6.1. submodlib computes its own cosine similarities ("data"), as its documentation shows.
Or it is given the matrix that we use, computed by NumPy ("matrix"), as apricot is. All seconds include the
similarities. Processes take turns; a ratio is the median over `--rounds` rounds. All subsets are measured by our
objective in float64. Then K-Center runs beside that of DeepCore, with the radius of both.

scale: each method that chooses samples together, at 5,000 and 500,000 samples with 64 features and 50,000 with 512. It
keeps 30 %, with quotas of 10 classes (100 at 500,000), and without quotas up to 50,000 samples. A choice that takes
longer than `--limit` seconds is shown as such.

ranks: what the two-round choice over 2 and 4 ranks loses against one process, at 5,000 samples.

Targets: at most 1/5 of submodlib's seconds and 1/3 of its memory ("data"). The objective is smaller by at most 1e-6 of
it. With quotas at 50,000 samples, at most 2 GiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from coreset_worker import make_features
from timing import parser, ratio, summary, verdict, write
from worker import free_port

from orderdp.coresets import Chooser, Evidence, FacilityLocation, KCenter, registry

HERE = Path(__file__).resolve().parent
SMALL = {"n": 5_000, "d": 64, "num_classes": 10}
SCALES = (SMALL, {"n": 50_000, "d": 512, "num_classes": 10}, {"n": 500_000, "d": 64, "num_classes": 100})
KINDS = ("network", "gaussian")
KEPT = 0.3
LARGEST_WITHOUT_QUOTAS = 50_000
RANKS = (2, 4)
TARGET_TIME, TARGET_MEMORY, TARGET_OBJECTIVE, TARGET_GIB = 1 / 5, 1 / 3, 1e-6, 2.0
GIB = 2**30


def main() -> None:
    """Measures, prints and writes."""
    options = parser(__doc__ or "")
    options.add_argument("--peers", metavar="PYTHON", help="a Python that has submodlib-py and apricot-select")
    options.add_argument("--deepcore", type=Path, metavar="DIR", help="a checkout of DeepCore")
    options.add_argument("--parts", nargs="+", default=["peers", "scale", "ranks"], help="what to measure")
    options.add_argument("--rounds", type=int, default=5, help="rounds of the part peers")
    options.add_argument("--limit", type=int, default=1_200, metavar="SECONDS", help="longest choice of the part scale")
    all_sizes = [size["n"] for size in SCALES]
    options.add_argument("--sizes", nargs="+", type=int, default=all_sizes, help="samples, of the part scale")
    given = options.parse_args()
    torch.set_num_threads(1)
    numbers: dict[str, Any] = {"benchmark": "coresets"}
    if "peers" in given.parts:
        numbers["facility_location"] = [beside_peers(kind, given.rounds, given.peers) for kind in KINDS]
        numbers["k_center"] = beside_deepcore(given.rounds, given.peers, given.deepcore)
    if "scale" in given.parts:
        numbers["scale"] = scale(given.limit, given.sizes)
    if "ranks" in given.parts:
        numbers["ranks"] = across_ranks()
    write(given.json, torch.device("cpu"), numbers, deepcore=given.deepcore)


def beside_peers(kind: str, rounds: int, peers: str | None) -> dict[str, Any]:
    """Prints and returns facility location by all libraries, on one kind of features."""
    common = {**SMALL, "kind": kind, "size": 500}
    tasks = {"orderdp": (None, {**common, **by_us("facility_location")})}
    if peers:
        tasks["submodlib, data"] = (peers, {**common, "by": "submodlib", "matrix": False})
        tasks["submodlib, matrix"] = (peers, {**common, "by": "submodlib", "matrix": True})
        tasks["apricot, matrix"] = (peers, {**common, "by": "apricot"})
    evidence = Evidence(features=make_features(kind, **SMALL)[0])
    print(f"\nfacility location, 500 of 5,000 {kind} samples, 64 features")
    print(
        f"{'':>18} {'wall s':>8} {'cpu s':>8} {'ours/it':>8} {'by cpu':>8} {'MiB':>8} {'ours/it':>8} {'objective':>12}"
    )
    rows = in_turns(tasks, rounds, lambda chosen: FacilityLocation().objective(evidence, chosen))
    for name, row in rows.items():
        print(
            f"{name:>18} {row['wall_s']['median']:8.2f} {row['processor_s']['median']:8.2f} "
            f"{row['wall_ratio']['median']:8.2f} {row['processor_ratio']['median']:8.2f} "
            f"{row['peak_bytes']['median'] / 2**20:8.0f} {row['memory_ratio']['median']:8.2f} {row['value']:12.8f}"
        )
    if peers:
        target = rows["submodlib, data"]
        print(verdict("seconds beside submodlib", target["wall_ratio"]["median"], TARGET_TIME))
        print(verdict("memory beside submodlib", target["memory_ratio"]["median"], TARGET_MEMORY))
        best = max(row["value"] for row in rows.values())
        print(verdict("objective lost", 1 - rows["orderdp"]["value"] / best, TARGET_OBJECTIVE))
    return {**common, "rounds": rounds, "by": rows}


def beside_deepcore(rounds: int, peers: str | None, checkout: Path | None) -> dict[str, Any]:
    """Prints and returns K-Center by us and by DeepCore."""
    common = {**SMALL, "kind": "network", "size": 500}
    tasks = {"orderdp": (None, {**common, **by_us("k_center")})}
    if checkout:
        tasks["DeepCore"] = (peers, {**common, "by": "deepcore", "checkout": str(checkout.resolve())})
    evidence = Evidence(features=make_features("network", **SMALL)[0])
    rows = in_turns(tasks, rounds, lambda chosen: KCenter().radius(evidence, chosen))
    print("\nK-Center, 500 of 5,000 network samples, 64 features")
    for name, row in rows.items():
        print(
            f"{name:>18} {row['wall_s']['median']:8.2f} s, cpu {row['processor_s']['median']:.2f} s, ours/it "
            f"{row['wall_ratio']['median']:.2f}, {row['peak_bytes']['median'] / 2**20:.0f} MiB, "
            f"radius {row['value']:.4f}"
        )
    return {**common, "rounds": rounds, "by": rows}


def by_us(method: str, quotas: str | None = None) -> dict[str, Any]:
    """Returns the part of a task that names one of our methods."""
    return {"by": "ours", "method": method, "settings": {}, "quotas": quotas}


def in_turns(tasks: dict[str, Any], rounds: int, value_of: Any) -> dict[str, Any]:
    """Returns a row for each task: seconds and bytes, the ratios of ours to them, and the value of the subset."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, (python, task) in tasks.items():
            results[name].append(run(task, python))
    own = results["orderdp"]
    rows = {}
    for name, found in results.items():
        column = {key: [result[key] for result in found] for key in found[0] if key != "indices"}
        rows[name] = {
            **{key: summary(values) for key, values in column.items()},
            **{
                f"{label}_ratio": ratio([result[key] for result in own], column[key])
                for label, key in (("wall", "wall_s"), ("processor", "processor_s"), ("memory", "peak_bytes"))
            },
            "value": value_of(found[0]["indices"]),
        }
    return rows


def scale(limit_s: int, sizes: list[int]) -> list[dict[str, Any]]:
    """Prints and returns seconds and bytes of every method that chooses samples together."""
    names = [name for name, method in registry.BY_NAME.items() if issubclass(method, Chooser)]
    print(
        f"\n{'method':>22} {'n':>8} {'d':>4} {'classes':>8} {'kept':>8} {'quotas':>13} "
        f"{'wall s':>8} {'cpu s':>8} {'MiB':>7}"
    )
    rows = []
    for size in (size for size in SCALES if size["n"] in sizes):
        for quotas in ("proportional", None) if size["n"] <= LARGEST_WITHOUT_QUOTAS else ("proportional",):
            for name in names:
                task = {**size, "kind": "network", "size": round(KEPT * size["n"]), **by_us(name, quotas)}
                found = run(task, None, limit_s)
                row = {**task, **{key: value for key, value in found.items() if key != "indices"}}
                rows.append(row)
                told = f"over {limit_s} s"
                if row["wall_s"] is not None:
                    told = f"{row['wall_s']:8.1f} {row['processor_s']:8.1f} {row['peak_bytes'] / 2**20:7.0f}"
                print(
                    f"{name:>22} {row['n']:>8,} {row['d']:>4} {row['num_classes']:>8} {row['size']:>8,} "
                    f"{quotas or 'none':>13} {told}",
                    flush=True,
                )
    bytes_used = [row["peak_bytes"] or 0 for row in rows if row["n"] == 50_000 and row["quotas"]]
    if bytes_used:
        print(verdict("GiB with quotas at 50,000", max(bytes_used) / GIB, TARGET_GIB))
    return rows


def across_ranks() -> list[dict[str, Any]]:
    """Prints and returns what the two rounds over several ranks lose against one process."""
    print(f"\n{'method':>18} {'ranks':>6} {'kept':>6} {'value':>10} {'in one process':>15} {'lost':>8}")
    rows = []
    for kind, method, size in (
        *((kind, FacilityLocation(), size) for kind in KINDS for size in (50, 500)),
        *((kind, KCenter(), size) for kind in KINDS for size in (50, 500)),
    ):
        evidence = Evidence(features=make_features(kind, **SMALL)[0])
        value_of = method.objective if isinstance(method, FacilityLocation) else method.radius
        alone = value_of(evidence, method.choose(evidence, size, quotas=None).indices)
        for num_ranks in RANKS:
            task = {**SMALL, "kind": kind, "size": size, "by": "greedi", "method": method.name}
            value = value_of(evidence, run(task, None, num_ranks=num_ranks)["indices"])
            lost = 1 - value / alone if isinstance(method, FacilityLocation) else value / alone - 1
            rows.append({**task, "ranks": num_ranks, "value": value, "alone": alone, "lost": lost})
            print(f"{method.name:>18} {num_ranks:>6} {size:>6} {value:>10.5f} {alone:>15.5f} {lost:>8.2%}  {kind}")
    return rows


def run(task: dict[str, Any], python: str | None, limit_s: int | None = None, *, num_ranks: int = 1) -> dict[str, Any]:
    """Returns what the processes of a task print, the first one's; no numbers if it takes longer than the limit."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parent / "src"),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(num_ranks),
    }
    command = [python or sys.executable, str(HERE / "coreset_worker.py"), json.dumps(task)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**environment, "RANK": str(rank)})
        for rank in range(num_ranks)
    ]
    try:
        outputs = [process.communicate(timeout=limit_s)[0] for process in processes]
    except subprocess.TimeoutExpired:
        return dict.fromkeys(("wall_s", "processor_s", "peak_bytes", "base_bytes"))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if any(process.returncode for process in processes):
        raise RuntimeError(f"a choice ended early, its error stands above: {task}")
    return json.loads(outputs[0])


if __name__ == "__main__":
    main()
