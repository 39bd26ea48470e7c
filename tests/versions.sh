#!/usr/bin/env bash
# Tests the core and the examples with the oldest and the newest versions that orderdp supports, each in a temporary
# environment.
#
#   tests/versions.sh [oldest] [newest]        (without a name: both)
#
# oldest: Python 3.10, torch 2.4.1, NumPy 1.26.4. newest: Python 3.13, the newest torch and NumPy that pip finds.
# Both interpreters must be on the PATH; with pyenv, set PYENV_VERSION=3.10.13:3.13.0. torch for Linux brings CUDA: each
# set downloads about 3 GB and needs 7 GB of disk in TMPDIR while it is tested. pip's own settings apply, such as an
# index of CPU builds in PIP_EXTRA_INDEX_URL.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
# All but the tests of documents and of the package, which do not depend on versions.
mapfile -t core < <(ls tests/test_*.py | grep -vE '_(counts|documents|sentences|site|wheel)\.py$')
trap 'rm -rf "$folder"' EXIT

check() { # name, python, requirements...
    local name=$1 python=$2
    shift 2
    "$python" -m venv "$folder/$name"
    local bin=$folder/$name/bin
    "$bin/python" -m pip install --quiet --no-cache-dir --editable '.[dev]' "$@"
    "$bin/python" -c "import platform, numpy, torch
print(f'$name: Python {platform.python_version()}, torch {torch.__version__}, NumPy {numpy.__version__}')"
    "$bin/pytest" -q -p no:cacheprovider "${core[@]}" tests/strategies tests/theory
    rm -rf "${folder:?}/$name"
}

[ $# -gt 0 ] || set -- oldest newest
for name; do
    case $name in
        oldest) check oldest python3.10 torch==2.4.1 torchvision==0.19.1 numpy==1.26.4 ;;
        newest) check newest python3.13 torch torchvision numpy ;;
        *) echo "versions.sh knows oldest and newest, got $name" >&2; exit 2 ;;
    esac
done
