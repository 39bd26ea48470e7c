"""Runs on image files, of which some cannot be decoded."""

import pytest

from orderdp import Pruner
from orderdp.data.folder import make_folder
from orderdp.data.registry import load_dataset
from orderdp.training.loop import Run
from orderdp.training.run_folder import RunFolder

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

SETTINGS = {"dataset": "folder", "augment": "flip_crop", "epochs": 2, "prune_ratio": 0.5, "eval_batch_size": 32}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sixty training images of four classes, of which two are no images, as one of those in val."""
    root = tmp_path_factory.mktemp("images") / "root"
    digits = load_dataset("digits")
    make_folder(digits, root, image_size=12, classes=4, train_size=60)
    for file in (*sorted((root / "train" / "0").iterdir())[:2], next((root / "val" / "2").iterdir())):
        file.write_text("no image")
    return root


@pytest.fixture
def data(root):
    return load_dataset("folder", data_root=root, image_size=12)


def bad_in(root):
    files = sorted(path for path in root.rglob("*.jpg") if path.read_bytes() == b"no image")
    return [path.relative_to(root).as_posix() for path in files]


def test_a_run_goes_on_and_its_result_names_each_image_that_it_could_not_decode(train, data, root, caplog):
    folder = train(data=data, **{**SETTINGS, "prune_ratio": 0.0})
    assert len(bad_in(root)) == 3
    assert folder.result()["unreadable"] == bad_in(root)
    assert folder.result()["samples_backward"] == 2 * 60  # as many as there are files
    named = [message.partition(" cannot be decoded")[0] for message in caplog.messages]
    assert sorted(named) == [str(root / name) for name in bad_in(root)]


def test_workers_and_a_restart_train_the_same(train, data, outcome, tmp_path, tiny, in_child, kill_at):
    whole = train("whole", data=data, **SETTINGS)
    workers = train("workers", data=data, **SETTINGS, num_workers=2)
    processor = {"digests": whole.result()["digests"], "unreadable": whole.result()["unreadable"]}
    assert {name: workers.result()[name] for name in processor} == processor
    killed = RunFolder.create(tmp_path / "killed", tiny(**SETTINGS, checkpoint_steps=1))

    def die():
        kill_at(Pruner, "update", 2)
        Run(killed.recipe(), data, killed, show=False).train()

    assert in_child(die) == -9
    train("killed", data=data)
    assert outcome(killed) == outcome(whole)


def test_two_ranks_name_what_either_of_them_met(train_on_two_ranks, data, root):
    folder = train_on_two_ranks("ranks", data=data, **{**SETTINGS, "prune_ratio": 0.0, "epochs": 1})
    assert folder.result()["unreadable"] == bad_in(root)


def test_memory_has_no_files_to_name(train):
    assert train().result()["unreadable"] == []
