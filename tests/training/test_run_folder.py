import errno
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from orderdp import UCB
from orderdp.output import files
from orderdp.output.files import new_folder, write_whole
from orderdp.training.recipe import Recipe
from orderdp.training.run_folder import RunFolder

# Python 3.12 and later warn of fork where NumPy's or PyTorch's own threads run; these processes do no work in them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

FULL_DISK = OSError(errno.ENOSPC, "No space left on device")


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", Recipe())


def write(folder, step):
    model = {"weight": torch.full((3, 2), float(step)), "count": torch.tensor(step)}
    folder.write_checkpoint(step, model, {"step": step, "tensor": torch.arange(step), "nested": [{"lr": 0.1}]})


def step_of(folder):
    """The step whose checkpoint is loaded; its model and its state agree."""
    model, state = folder.load_checkpoint()
    assert torch.equal(model["weight"], torch.full((3, 2), float(state["step"])))
    assert int(model["count"]) == len(state["tensor"]) == state["step"]
    return state["step"]


def content(path):
    """All files below a folder, with what they hold."""
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_folder_begins_with_its_recipe_and_nothing_else(tmp_path):
    recipe = Recipe(strategy=UCB(prune_ratio=0.25), seed=3)
    folder = RunFolder.create(tmp_path / "a" / "b", recipe)
    assert folder.name == "b"
    assert folder.recipe() == recipe
    assert (folder.metrics(), folder.result(), folder.load_checkpoint()) == ([], None, None)
    assert [path.name for path in folder.path.iterdir()] == ["recipe.toml"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path, kind):
    path = tmp_path / "run"
    path.mkdir() if kind == "folder" else path.write_text("mine")
    resume = f", or --resume {path}" if kind == "folder" else ""
    with raises(FileExistsError, f"the run folder must be new, got {path}, which exists; write another --run{resume}"):
        RunFolder.create(path, Recipe())
    assert content(tmp_path) == ({} if kind == "folder" else {path.relative_to(tmp_path): b"mine"})


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file" / "run"
    message = (
        f"{path} could not be written (File exists); existing files are unchanged; correct the path, since a part "
        "of it is a file"
    )
    with pytest.raises(OSError, match=re.escape(message)), new_folder(path):
        pass


def test_a_recipe_that_is_there_is_not_written_again(folder):
    folder.begin(Recipe(seed=9))
    assert folder.recipe() == Recipe()


RESULT = {"accuracy_last": 97.5, "epochs": 2, "steps": 4, "samples_forward": 128, "samples_backward": 64}


def test_metrics_and_result_come_back(folder):
    lines = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-300}]
    folder.write_metrics(lines[:1])
    folder.write_metrics(lines)
    folder.write_result(RESULT)
    assert folder.metrics() == lines
    assert len((folder.path / "metrics.jsonl").read_text().splitlines()) == 2
    assert folder.result() == RESULT


def steps_in(folder):
    """The steps of the checkpoints that are there, and the names of what else there is."""
    names = [path.name for path in (folder.path / "checkpoint").iterdir()]
    return sorted(int(name) if name.isdigit() else name for name in names)


def test_the_newest_checkpoint_counts_and_only_the_one_before_it_stays(folder):
    for before, step in ((None, 5), (5, 90), (90, 1000), (1000, 1001)):
        write(folder, step)
        assert step_of(folder) == step
        assert steps_in(folder) == [number for number in (before, step) if number]


def test_a_finished_run_keeps_one_checkpoint(folder):
    write(folder, 5)
    write(folder, 6)
    folder.write_result(RESULT)
    assert (steps_in(folder), step_of(folder)) == ([6], 6)


def test_of_several_checkpoints_the_newest_counts(folder):
    write(folder, 7)
    kept = folder.path / "kept"
    shutil.move(folder.path / "checkpoint" / "000000007", kept)
    write(folder, 1000)
    shutil.move(kept, folder.path / "checkpoint" / "000000007")
    (folder.path / "checkpoint" / "unfinished").mkdir()
    assert step_of(folder) == 1000
    write(folder, 1001)
    assert steps_in(folder) == [1000, 1001]


def test_every_file_is_flushed_before_it_is_renamed_and_the_folder_after(folder, monkeypatch):
    events = []

    def watch(owner, name, note):
        original = getattr(owner, name)

        def replacement(*arguments):
            events.append(note(*arguments))
            return original(*arguments)

        monkeypatch.setattr(owner, name, replacement)

    watch(files, "write_flushed", lambda path, data: f"write {path.name}")
    watch(files, "flush_folder", lambda path: f"flush {path.name}")
    watch(files.Path, "rename", lambda path, target: f"rename {path.name} to {target.name}")
    watch(files.Path, "replace", lambda path, target: f"rename {path.name} to {target.name}")
    watch(files.os, "fsync", lambda descriptor: "fsync")
    write(folder, 4)
    written = ["write model.safetensors", "fsync", "write state.pt", "fsync", "write manifest.json", "fsync"]
    named = ["flush unfinished", "fsync", "rename unfinished to 000000004", "flush checkpoint", "fsync"]
    assert events == written + named
    events.clear()
    folder.write_result({})
    (unfinished,) = {event.split()[1] for event in events if "unfinished" in event}
    assert re.fullmatch(r"\.result\.json\.[0-9a-f]{16}\.unfinished", unfinished)
    assert events == [f"write {unfinished}", "fsync", f"rename {unfinished} to result.json", "flush run", "fsync"]


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path, at=40, bit=3):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def edit_manifest(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES = {
    "model cut short": ("model.safetensors", shorten, "{file} cut short or changed"),
    "state cut short": ("state.pt", shorten, "{file} cut short or changed"),
    "manifest cut short": ("manifest.json", shorten, "{home} (Expecting ',' delimiter: line 1 column "),
    "model changed by one bit": ("model.safetensors", flip, "{file} cut short or changed"),
    "state changed by one bit": ("state.pt", flip, "{file} cut short or changed"),
    "model missing": ("model.safetensors", lambda path: path.unlink(), "{home} ([Errno 2] No such file or directory: "),
    "manifest missing": ("manifest.json", lambda path: path.unlink(), "{home} ([Errno 2] No such file or directory: "),
    "manifest empty": ("manifest.json", lambda path: path.write_text(""), "{home} (Expecting value: line 1 column 1"),
    "manifest of another form": ("manifest.json", lambda path: path.write_text("[]"), "{home} (list indices must be"),
    "manifest without checksums": (
        "manifest.json",
        lambda path: edit_manifest(path, sha256={}),
        "{home} (no checksum of model.safetensors and state.pt in manifest.json)",
    ),
    "manifest with one checksum": (
        "manifest.json",
        lambda path: edit_manifest(path, sha256={"model.safetensors": "0" * 64}),
        "{home} (no checksum of state.pt in manifest.json)",
    ),
    "manifest with an empty checksum": (
        "manifest.json",
        lambda path: edit_manifest(path, sha256={"model.safetensors": "", "state.pt": "0" * 64}),
        "{home} (no checksum of model.safetensors in manifest.json)",
    ),
    "manifest with a list of checksums": (
        "manifest.json",
        lambda path: edit_manifest(path, sha256=["0" * 64]),
        "{home} ('list' object has no attribute 'get')",
    ),
    "manifest without a key": ("manifest.json", lambda path: path.write_text("{}"), "{home} ('version')"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_checkpoint_is_refused_by_name_and_left_as_it_is(folder, damage):
    name, harm, got = DAMAGES[damage]
    write(folder, 6)
    home = folder.path / "checkpoint" / "000000006"
    harm(home / name)
    before = content(folder.path)
    begin = f"a checkpoint must be complete, got {got.format(home=home, file=home / name)}"
    end = f"; remove {home} to start this run again"
    message = f"^{re.escape(begin)}.*{re.escape(end)}$"
    with pytest.raises(ValueError, match=message):
        folder.load_checkpoint()
    assert content(folder.path) == before


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.999])
def test_a_bit_that_changes_anywhere_in_a_large_file_is_noticed(folder, name, at):
    folder.write_checkpoint(6, {"weight": torch.zeros(20_000)}, {"tensor": torch.zeros(20_000)})
    path = folder.path / "checkpoint" / "000000006" / name
    flip(path, int(at * path.stat().st_size))
    with pytest.raises(ValueError, match=f"{name} cut short or changed"):
        folder.load_checkpoint()


def test_a_checkpoint_runs_no_code_of_its_own(folder):
    """Whoever can change the state can change its checksum too."""
    folder.write_checkpoint(6, {}, {"path": folder.path})  # no plain value: unpickling it calls a class
    home = folder.path / "checkpoint" / "000000006"
    message = (
        f"a checkpoint must hold tensors and plain values, got others in {home}; remove {home} to start this run again"
    )
    with raises(ValueError, message):
        folder.load_checkpoint()


def test_any_bit_that_changes_in_the_manifest_is_noticed(folder):
    write(folder, 6)
    path = folder.path / "checkpoint" / "000000006" / "manifest.json"
    for at, byte in enumerate(path.read_bytes()):
        flip(path, at, at % 8)
        # The line of a key that has its default may become a comment: the same recipe. Not so the end of the recipe.
        if rb"\n#" in path.read_bytes() and byte != ord('"'):
            assert step_of(folder) == 6
        else:
            with pytest.raises(ValueError, match=r"^a checkpoint must be "):
                folder.load_checkpoint()
        flip(path, at, at % 8)
    assert step_of(folder) == 6


def test_a_checkpoint_of_another_version_is_refused(folder):
    write(folder, 6)
    home = folder.path / "checkpoint" / "000000006"
    edit_manifest(home / "manifest.json", version=1)
    message = (
        f"a checkpoint must be of version 3, got 1 in {home}; resume with the release of orderdp that wrote it, "
        f"or remove {home} to start this run again"
    )
    with raises(ValueError, message):
        folder.load_checkpoint()


def test_a_checkpoint_of_another_recipe_is_refused(folder):
    write(folder, 6)
    home = folder.path / "checkpoint" / "000000006"
    Recipe(seed=1).write(folder.path / "recipe.toml")
    message = (
        f"a checkpoint must be of the run's own recipe, got {home} of another; "
        f"put recipe.toml back as it was, or remove {home} to start this run again"
    )
    with raises(ValueError, message):
        folder.load_checkpoint()


def test_a_checkpoint_of_a_release_with_fewer_settings_is_read(folder):
    write(folder, 6)
    text = folder.recipe().to_toml()
    assert "nesterov = false\n" in text
    edit_manifest(
        folder.path / "checkpoint" / "000000006" / "manifest.json", recipe=text.replace("nesterov = false\n", "")
    )
    assert step_of(folder) == 6


FOREIGN = {
    "of another recipe": (
        lambda home: edit_manifest(home / "manifest.json", recipe=Recipe(seed=1).to_toml()),
        "a checkpoint must be of the run's own recipe, got {home} of another",
    ),
    "of another version": (
        lambda home: edit_manifest(home / "manifest.json", version=1),
        "a checkpoint must be of version 3, got 1 in {home}",
    ),
    "cut short": (
        lambda home: shorten(home / "state.pt"),
        "a checkpoint must be complete, got {home}/state.pt cut short or changed",
    ),
    "empty": (
        lambda home: [file.unlink() for file in home.iterdir()],
        "a checkpoint must be complete, got {home} ([Errno 2] No such file or directory: '{home}/manifest.json')",
    ),
}


@pytest.mark.parametrize("how", list(FOREIGN))
def test_the_one_before_is_used_instead_of_a_damaged_or_foreign_one_with_one_line(folder, caplog, how):
    harm, line = FOREIGN[how]
    write(folder, 6)
    write(folder, 9)
    home = folder.path / "checkpoint" / "000000009"
    harm(home)
    before = content(folder.path)
    assert step_of(folder) == 6
    told = f"{line.format(home=home)}; the one before is used, {home.with_name('000000006')}"
    assert [record.getMessage() for record in caplog.records] == [told]
    assert content(folder.path) == before
    assert folder.load_checkpoint(warn=False)[1]["step"] == 6
    assert len(caplog.records) == 1


@pytest.mark.parametrize("steps", [(9,), (8, 9), (7, 8, 9), (10,)])
def test_the_damaged_one_goes_when_the_run_writes_again(folder, steps):
    """Otherwise it would count as the newest, or stay instead of the one before."""
    write(folder, 6)
    write(folder, 9)
    shorten(folder.path / "checkpoint" / "000000009" / "state.pt")
    assert step_of(folder) == 6
    written = [6]
    for step in steps:
        write(folder, step)
        written.append(step)
        assert steps_in(folder) == written[-2:]
        assert step_of(folder) == step


def test_where_no_checkpoint_is_whole_one_line_names_all(folder):
    write(folder, 6)
    write(folder, 9)
    homes = [folder.path / "checkpoint" / f"00000000{step}" for step in (9, 6)]
    for home in homes:
        shorten(home / "model.safetensors")
    message = (
        f"a checkpoint must be complete, got {homes[0] / 'model.safetensors'} cut short or changed; and a checkpoint "
        f"must be complete, got {homes[1] / 'model.safetensors'} cut short or changed; remove {homes[0]} and "
        f"{homes[1]} to start this run again"
    )
    with raises(ValueError, message):
        folder.load_checkpoint()


def test_without_the_damaged_checkpoint_the_run_begins_anew(folder):
    write(folder, 6)
    shutil.rmtree(folder.path / "checkpoint" / "000000006")
    assert folder.load_checkpoint() is None


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_full_disk_leaves_the_checkpoint_before_it(folder, monkeypatch, number):
    write(folder, 6)
    before = content(folder.path)
    written = []
    whole = files.write_flushed

    def half(path, data):
        written.append(path)
        if len(written) == number:
            path.write_bytes(data[: len(data) // 2])
            raise FULL_DISK
        whole(path, data)

    monkeypatch.setattr(files, "write_flushed", half)
    message = (
        f"[Errno {errno.ENOSPC}] {folder.path / 'checkpoint'} could not be written (No space left on device); "
        "existing files are unchanged; make room on that disk"
    )
    with raises(OSError, message):
        write(folder, 9)
    assert content(folder.path) == before
    assert [path.name for path in (folder.path / "checkpoint").iterdir()] == ["000000006"]
    assert step_of(folder) == 6
    monkeypatch.undo()
    write(folder, 9)
    assert step_of(folder) == 9


def test_a_file_that_cannot_be_written_keeps_its_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def half(unfinished, data):
        unfinished.write_bytes(data[:1])
        raise FULL_DISK

    monkeypatch.setattr(files, "write_flushed", half)
    with pytest.raises(OSError, match=r"file could not be written \(No space left on device\); existing files are"):
        write_whole(path, b"new")
    assert content(tmp_path) == {path.relative_to(tmp_path): b"old"}


def test_the_systems_own_limit_on_files_is_met_in_the_same_way(folder, in_child):
    write(folder, 6)
    before = content(folder.path)

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, unlimited[1]))
        with pytest.raises(OSError, match=r"checkpoint could not be written \(File too large\); existing files are"):
            folder.write_checkpoint(9, {"weight": torch.zeros(20_000)}, {})
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    assert in_child(work) == 0
    assert content(folder.path) == before
    assert step_of(folder) == 6


def test_a_run_is_open_until_it_is_finished_or_failed(folder):
    assert folder.is_open()
    folder.write_failure("out of memory")
    assert (folder.is_open(), folder.failure()) == (False, "out of memory")
    folder.write_failure("again")
    assert folder.failure() == "again"
    folder.write_result(RESULT)
    assert (folder.is_open(), folder.failure()) == (False, None)
    assert not (folder.path / "failure.txt").exists()


def test_gradient_norms_come_back(folder):
    norms = torch.rand(5, generator=torch.Generator().manual_seed(0))
    folder.write_gradient_norms(norms)
    read = np.load(folder.path / "gradient_norms.npy", allow_pickle=False)
    assert (read.dtype, read.tolist()) == (np.float32, norms.tolist())


def test_one_process_at_a_time_holds_a_run(folder, in_child):
    def work():
        with RunFolder(folder.path).locked() as mine:
            assert not mine

    with folder.locked() as mine:
        assert mine
        assert in_child(work) == 0
    with folder.locked() as mine:
        assert mine


def test_a_run_can_be_held_before_anything_is_in_it(tmp_path):
    with RunFolder(tmp_path / "new").locked() as mine:
        assert mine
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


def test_the_system_frees_a_run_whose_process_is_killed_also_where_it_had_workers(folder, in_child):
    """Worker processes, which inherit what their parent holds open, live on for some seconds."""

    def work():
        with folder.locked() as mine:
            assert mine
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(5,)).start()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work, kill_after_s=1) == -signal.SIGKILL
    with folder.locked() as mine:
        assert mine


def test_an_error_frees_a_run(folder):
    with pytest.raises(RuntimeError, match="enough"), folder.locked():
        raise RuntimeError("enough")
    with folder.locked() as mine:
        assert mine
