"""The wheel holds the package and nothing else, works from where it is unpacked, and imports little."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("pandas", "matplotlib")


def python(code: str, *, path: Path, arguments: tuple[str, ...] = (), folder: Path | None = None) -> str:
    """Run code in a new interpreter that finds the package at ``path`` only."""
    environment = {k: v for k, v in os.environ.items() if k != "PLANNER_HARDWARE"} | {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, cwd=folder or path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_is_named_after_the_distribution(wheel: Path) -> None:
    assert wheel.name == "roofline_planner-0.1.0-py3-none-any.whl"


def test_the_top_level_is_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert top == {"planner", "roofline_planner-0.1.0.dist-info"}


@pytest.mark.parametrize("folder", ["hardware/accelerators", "hardware/systems", "hardware/classes"])
def test_the_hardware_catalogue_is_inside(unpacked: Path, folder: str) -> None:
    inside = unpacked / "planner" / "_catalogue" / folder.removeprefix("hardware/")
    due = {p.relative_to(ROOT / folder) for p in (ROOT / folder).rglob("*.yaml")}
    assert due and {p.relative_to(inside) for p in inside.rglob("*.yaml")} == due


@pytest.mark.parametrize("folder", ["catalogue", "validation", "present"])
def test_the_data_files_of_the_package_are_inside(unpacked: Path, folder: str) -> None:
    kinds = (".yaml", ".csv", ".json", ".html", ".j2")

    def data(root: Path) -> set[Path]:
        return {p.relative_to(root) for p in (root / folder).rglob("*") if p.suffix in kinds}

    assert data(unpacked / "planner") == data(ROOT / "planner")


def test_the_wheel_works_where_it_is_unpacked(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "import planner; print(planner.__file__);"
        "from planner.catalogue.loader import load_accelerator; print(load_accelerator('h100-sxm5-80gb').name);"
        "e = planner.estimate(model='llama-3.1-8b', hardware='dgx-h100', devices=8, task='decode');"
        "print(e.row['tpot_s'] > 0)"
    )
    where, name, positive = python(code, path=unpacked, folder=tmp_path).splitlines()
    assert where.startswith(str(unpacked)) and "H100" in name and positive == "True"


def test_the_command_is_declared(unpacked: Path) -> None:
    entry = (unpacked / "roofline_planner-0.1.0.dist-info" / "entry_points.txt").read_text()
    assert "planner = planner.__main__:main" in entry
    assert (unpacked / "roofline_planner-0.1.0.dist-info" / "licenses" / "LICENSE").is_file()


LOADED = "import sys; print(' '.join(sorted({m.split('.')[0] for m in sys.modules})))"


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = set(python(f"import planner; {LOADED}", path=ROOT).split())
    assert not loaded & {*HEAVY, "numpy", "yaml", "pydantic", "typer", "rich"}


def test_help_imports_nothing_heavy() -> None:
    code = f"from planner.cli import run; assert run(['--help']) == 0; print(); {LOADED}"
    loaded = set(python(code, path=ROOT).splitlines()[-1].split())
    assert not loaded & {*HEAVY, "numpy", "yaml", "pydantic", "jinja2"}


@pytest.mark.parametrize(
    "arguments",
    ["['estimate', 'llama-3.1-8b', 'dgx-h100', '--devices', '8']", "['plan', 'gpt2', 'l40s-48gb', '--devices', '2']"],
)
def test_answers_import_neither_pandas_nor_matplotlib(arguments: str) -> None:
    code = f"from planner.cli import run; assert run({arguments}) == 0; print(); {LOADED}"
    loaded = set(python(code, path=ROOT).splitlines()[-1].split())
    assert not loaded & set(HEAVY)


def test_the_launcher_of_a_checkout(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0 and done.stdout.strip() == "0.1.0"
