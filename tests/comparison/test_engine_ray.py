"""Runs of a comparison as tasks of Ray, on two nodes of which one ends in the middle."""

import json
import re
import time

import pytest

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from orderdp.comparison.engines.ray_tasks import RayTasks  # noqa: E402
from orderdp.comparison.grid import Comparison  # noqa: E402
from orderdp.comparison.workers import start  # noqa: E402
from orderdp.training.run_folder import RunFolder  # noqa: E402
from reference.log_lines import begun_or_failed  # noqa: E402

# Ray starts processes and opens sockets and files of its own, and warns of its own releases to come.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
PATIENCE_S = 120


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor each, two raylets on this machine."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    nodes.add_node(**NODE)
    yield nodes
    nodes.shutdown()


def digests(path):
    return {file.parent.name: json.loads(file.read_text())["digests"] for file in path.glob("*/result.json")}


def accuracies(found):
    return {label: entry.values("accuracy_last") for label, entry in found.results.entries.items()}


@pytest.mark.slow
def test_a_node_that_ends_in_the_middle_costs_no_run_and_none_is_trained_twice(tmp_path, tiny, cluster):
    plan = Comparison(tiny(epochs=100, prune_ratio=0.5), seeds=(0, 1))
    alone = start(plan, tmp_path / "alone", show=False)
    path, told, ended = tmp_path / "run", [], []
    names = {f"[{number}/6]": member.name for number, member in enumerate(plan.members(200), 1)}

    def tell(line):
        told.append(line)
        begun = [RunFolder(path / names[line.split()[0]]) for line in begun_or_failed(told)]
        if len(begun) == 2 and not ended:  # one on each node: a node has one processor, and a worker asks for it
            end = time.monotonic() + PATIENCE_S
            while not all(run.last_checkpoint() for run in begun):
                assert time.monotonic() < end, "waited in vain"
                time.sleep(0.01)
            assert [run.result() for run in begun] == [None, None]
            (node,) = cluster.worker_nodes
            cluster.remove_node(node, allow_graceful=False)
            ended.extend(begun)

    found = start(plan, path, processes=2, engine=RayTasks(address=cluster.address), show=False, log=tell)
    assert (found.failed, found.damaged, found.open, len(ended)) == ({}, {}, [], 2)
    assert accuracies(found) == accuracies(alone)
    assert digests(path) == digests(tmp_path / "alone")
    begun = [names[line.split()[0]] for line in begun_or_failed(told)]
    again = {name for name in begun if begun.count(name) > 1}
    assert len(again) == 1  # the run of the node that ended
    assert again < {run.name for run in ended}
    assert sorted(set(begun)) == sorted(names.values())
    finished = [line for line in told if re.search(r"% after \d+ s$", line)]
    assert len(finished) == 6  # each run came to its end once


def test_options_that_no_task_takes_are_refused_before_anything_is_written(tmp_path, tiny):
    message = r"options of the engine ray must be those of a Ray task, got \{'num_cpu': 2\} \(.*\); write num_cpus=2"
    with pytest.raises(ValueError, match=message):
        start(Comparison(tiny()), tmp_path / "run", engine=RayTasks(num_cpu=2), show=False)
    assert not list(tmp_path.iterdir())


def test_a_task_that_returns_several_things_is_refused_before_anything_is_written(tmp_path, tiny):
    message = "a task of the engine ray must return one thing, got num_returns=2; leave it out"
    with pytest.raises(ValueError, match=f"^{message}$"):
        start(Comparison(tiny()), tmp_path / "run", engine=RayTasks(num_returns=2), show=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, ray.exceptions.AuthenticationError])
def test_a_cluster_that_a_variable_names_is_looked_for_before_anything_is_written(tmp_path, tiny, monkeypatch, error):
    def refused(address, **options):
        raise error("no\ncluster")

    monkeypatch.setattr(ray, "init", refused)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    message = r"the engine ray must reach its cluster, got RAY_ADDRESS=127.0.0.1:9 \(no.*\); start one with "
    with pytest.raises(RuntimeError, match=f"^{message}'ray start --head', or unset the variable$"):
        start(Comparison(tiny()), tmp_path / "run", engine=RayTasks(), show=False)
    assert not list(tmp_path.iterdir())


def test_a_cluster_that_is_not_there_is_refused_before_anything_is_written(tmp_path, tiny):
    message = r"the engine ray must reach its cluster, got address=auto \(.*\); start one with 'ray start --head', or "
    with pytest.raises(RuntimeError, match=f"^{message}leave the address out$"):
        start(Comparison(tiny()), tmp_path / "run", engine=RayTasks(address="auto"), show=False)
    assert not list(tmp_path.iterdir())
