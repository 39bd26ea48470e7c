"""One choice of a subset in a process of its own, timed and measured, by orderdp or by another library.

`coresets.py` starts this file, with its own Python or with that of an environment of the other libraries. Features are
made by NumPy from a seed, so all get the same numbers.

Seconds are those of one call, after a call on little data that loads and compiles what is needed. They include the
similarities. Memory is the peak of what the kernel counts as resident, beyond what the process held just before the
call: interpreter, libraries and the arrays that the call is given.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from worker import _forget_peak as forget_peak
from worker import _resident_bytes as resident_bytes

Call = Callable[[], Sequence[int]]


def make_features(kind: str, n: int, d: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, d) float32 features and (n,) labels.

    "network" resembles the inputs of a last layer: a mean for each class, 16 common directions and noise, with what is
    negative set to 0. "gaussian" are independent normal numbers: no sample resembles another, the hardest case.
    """
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), rng.integers(num_classes, size=n - num_classes)])
    features = rng.standard_normal((n, d), dtype=np.float32)
    if kind == "network":
        features *= 0.5
        features += rng.standard_normal((num_classes, d), dtype=np.float32)[labels]
        features += rng.standard_normal((n, 16), dtype=np.float32) @ rng.standard_normal((16, d), dtype=np.float32) / 3
        np.maximum(features, 0, out=features)
    return features, labels


def make_probabilities(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns (n, c) float32 predictions, by the distances to the means of the classes."""
    means = np.stack([features[labels == label].mean(0) for label in range(labels.max() + 1)])
    logits = features @ means.T - 0.5 * (means * means).sum(1)
    logits *= 4 / logits.std(1).mean()
    logits -= logits.max(1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(1, keepdims=True)
    return logits


def ours(task: dict[str, Any], n: int, size: int, seed: int) -> Call:
    """Returns a choice by a method of orderdp."""
    import torch

    from orderdp.coresets import Evidence, registry

    torch.set_num_threads(1)
    method = registry.from_settings(task["method"], task["settings"])

    def evidence(n: int, seed: int, **others: Evidence) -> Evidence:
        features, labels = make_features(task["kind"], n, task["d"], task["num_classes"], seed)
        found = make_probabilities(features, labels)
        # Some methods choose by the scores of another one, here least confidence.
        return Evidence(features=features, labels=labels, probabilities=found, scores=1 - found.max(1), **others)

    given = evidence(n, seed, validation=evidence(10 * task["num_classes"], seed + 1))
    return lambda: method.choose(given, size, quotas=task["quotas"]).indices.tolist()


def submodlib(task: dict[str, Any], n: int, size: int, seed: int) -> Call:
    """Returns a choice by LazyGreedy of submodlib-py, which computes the similarities or is given them."""
    from submodlib import FacilityLocationFunction  # type: ignore[import-not-found]

    features, _ = make_features(task["kind"], n, task["d"], task["num_classes"], seed)

    def call() -> list[int]:
        given = {"sijs": cosines(features)} if task["matrix"] else {"data": features, "metric": "cosine"}
        function = FacilityLocationFunction(n=n, mode="dense", separate_rep=False, **given)
        found = function.maximize(
            budget=size, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
        )
        return [row for row, _ in found]

    return call


def apricot(task: dict[str, Any], n: int, size: int, seed: int) -> Call:
    """Returns a choice by the lazy optimiser of apricot-select, which is given the similarities."""
    from apricot import FacilityLocationSelection  # type: ignore[import-not-found]

    features, _ = make_features(task["kind"], n, task["d"], task["num_classes"], seed)

    def call() -> list[int]:
        function = FacilityLocationSelection(size, metric="precomputed", optimizer="lazy")
        return function.fit(cosines(features)).ranking.tolist()

    return call


def deepcore(task: dict[str, Any], n: int, size: int, seed: int) -> Call:
    """Returns a choice by DeepCore's K-Center, imported from a checkout without its networks."""
    root = Path(task["checkout"]) / "deepcore"
    for name in ("deepcore", "deepcore.methods", "deepcore.nets"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(root.parent / name.replace(".", "/"))]
    for name, attribute in (("methods.earlytrain", "EarlyTrain"), ("nets.nets_utils", "MyDataParallel")):
        module = sys.modules[f"deepcore.{name}"] = types.ModuleType(name)
        setattr(module, attribute, object)
    import torch
    from deepcore.methods.kcentergreedy import k_center_greedy  # type: ignore[import-not-found]
    from deepcore.methods.methods_utils import euclidean_dist  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    features = torch.from_numpy(make_features(task["kind"], n, task["d"], task["num_classes"], seed)[0])
    return lambda: k_center_greedy(
        features, size, euclidean_dist, "cpu", random_seed=0, already_selected=[], print_freq=size
    ).tolist()


def greedi(task: dict[str, Any], n: int, size: int, seed: int) -> Call:
    """Returns a choice by two ranks or more, each of which holds a part of the samples."""
    import torch
    import torch.distributed as dist

    from orderdp.coresets import Evidence, registry
    from orderdp.coresets import greedi as choose

    torch.set_num_threads(1)
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    features, _ = make_features(task["kind"], n, task["d"], task["num_classes"], seed)
    part = Evidence(features=np.array_split(features, dist.get_world_size())[dist.get_rank()].copy())
    method = registry.find(task["method"])()
    return lambda: choose(method, part, size).indices.tolist()  # type: ignore[arg-type]


def cosines(features: np.ndarray) -> np.ndarray:
    """Returns (n, n) float32, 0.5 + 0.5·cos, as the other libraries are given them."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarities = unit @ unit.T
    similarities += 1
    similarities *= 0.5
    return similarities


def main() -> None:
    """Does the task of the command line and prints seconds, bytes and positions as JSON."""
    task = json.loads(sys.argv[1])
    prepare = {"ours": ours, "submodlib": submodlib, "apricot": apricot, "deepcore": deepcore, "greedi": greedi}
    sys.stdout, out = open(os.devnull, "w"), sys.stdout  # noqa: PTH123, SIM115 - what the libraries print
    prepare = prepare[task["by"]]  # type: ignore[assignment]
    prepare(task, max(300, 2 * task["num_classes"]), task["num_classes"], 1)()  # type: ignore[operator]
    call = prepare(task, task["n"], task["size"], 0)  # type: ignore[operator]
    forget_peak()
    base = resident_bytes("VmRSS")
    wall_s, processor_s = time.perf_counter(), time.process_time()
    indices = call()
    numbers = {
        "wall_s": time.perf_counter() - wall_s,
        "processor_s": time.process_time() - processor_s,
        "peak_bytes": resident_bytes("VmHWM") - base,
        "base_bytes": base,
    }
    print(json.dumps({**numbers, "indices": [int(index) for index in indices]}), file=out)


if __name__ == "__main__":
    main()
