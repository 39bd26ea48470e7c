"""Runs scripts as `python -W error SCRIPT` does, each in a process forked from one that has imported what most import.

To import torch, what its optimizers import, and scikit-learn takes five seconds of processor time. The process that has
done so has imported nothing of orderdp and of the frameworks, so that a script still has to import them itself.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
OPERATORS = Path(__file__).parent / "torchvision_operators"
IGNORED = "ignore:`torch.jit:DeprecationWarning"  # torch 2.13's own distributed optimisers, which Ignite imports

COMMAND = """
import sys
from orderdp.cli import main
if __name__ == "__main__":  # and not in a process that this one starts
    sys.exit(main({arguments}))
"""


class Scripts:
    """The process that is forked, started with the first script."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(self, script: Path, folder: Path, paths: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
        """Runs a script in a folder, on one thread, with these places of modules before the installed ones."""
        server = self._started()
        with tempfile.TemporaryDirectory() as told:
            try:
                server.stdin.write(json.dumps([str(script), str(folder), told, [*map(str, paths)]]) + "\n")
                server.stdin.flush()
                status = server.stdout.readline()
            except BaseException:  # a test that takes too long
                self.close()
                raise
            out, err = ((Path(told) / name).read_text(encoding="utf-8") for name in ("out", "err"))
            return subprocess.CompletedProcess([str(script)], int(status), out, err)

    def run_code(self, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Runs the code in a folder, where it may import orderdp."""
        script = folder / "code.py"
        script.write_text(code, encoding="utf-8")
        return self.run(script, folder, [SOURCE])

    def run_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `orderdp ARGUMENTS` in the working directory."""
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "command.py"
            script.write_text(COMMAND.format(arguments=arguments), encoding="utf-8")
            return self.run(script, Path.cwd(), [SOURCE, Path.cwd()])

    def close(self) -> None:
        """Ends the process, and the script that it runs."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.communicate()
            self._server = None

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            environment = {**os.environ, "PYTHONPATH": str(OPERATORS), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-W", "error", "-W", IGNORED, __file__]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._server = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        return self._server


def _serve() -> None:
    del sys.path[0]  # this folder
    for name in ("sklearn.datasets", "torch._dynamo"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each script would walk through all of it as it ends, which takes a second

    for line in sys.stdin:
        script, folder, told, paths = json.loads(line)
        with warnings.catch_warnings():
            # Python 3.12 and later warn where NumPy's or PyTorch's own threads run; this process does no work in them.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            child = os.fork()
        if not child:
            _become(script, folder, Path(told), paths)
            return
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def _become(script: str, folder: str, told: Path, paths: Sequence[str]) -> None:
    """Does what a new process does with a script."""
    for number, path, how in ((0, os.devnull, "r"), (1, told / "out", "w"), (2, told / "err", "w")):
        with open(path, how) as file:  # noqa: PTH123
            os.dup2(file.fileno(), number)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, str(OPERATORS)])
    sys.path[:0] = [str(Path(script).parent), *paths]
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _serve()
