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
    assert not loaded & {*HEAVY, "numpy", "yaml", "argparse"}


def test_help_imports_nothing_heavy() -> None:
    code = f"from planner.cli import run; assert run(['--help']) == 0; print(); {LOADED}"
    loaded = set(python(code, path=ROOT).splitlines()[-1].split())
    assert not loaded & {*HEAVY, "numpy", "yaml", "jinja2"}


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


# Nothing but what the wheel asks for

EXTRAS = ("pytest", "hypothesis", "pyarrow", "build", "hatchling")
BARE = (
    "import sys\n"
    "class Absent:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    f"        if name.split('.')[0] in {EXTRAS}: raise ModuleNotFoundError(name, name=name)\n"
    "sys.meta_path.insert(0, Absent())\n"
    "from planner.__main__ import main\n"
    "main()\n"
)


def bare(unpacked: Path, folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the unpacked wheel's command without HOME, the extras of the tests or the right to write beside itself."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, input=given,
                          env=environment, cwd=folder)  # fmt: skip


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line.split("&&")[-1].strip() for line in text.splitlines()
            if line.split("&&")[-1].strip().startswith(("planner ", ".venv/bin/planner "))]  # fmt: skip


def test_the_wheel_answers_read_only_elsewhere_and_without_a_home(unpacked: Path, tmp_path: Path) -> None:
    def state() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in unpacked.rglob("*")}

    for path in unpacked.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = state()
    try:
        for command in (*readme_commands(), "planner", "planner check", "planner validate --help", "planner models"):
            done = bare(unpacked, tmp_path, *command.split()[1:])
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout or list(tmp_path.iterdir())
        rows = "task,model,hardware\ndecode,gpt2,dgx-h100\n"
        assert "tpot_s" in bare(unpacked, tmp_path, "estimate", "--scenarios", "-", given=rows).stdout
        refused = bare(unpacked, tmp_path, "estimate", "--scenarios", "-", "-o", "x.parquet", given=rows)
        assert refused.returncode == 2 and "roofline-planner[parquet]" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert state() == before
    finally:
        for path in (unpacked, *unpacked.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_types_are_shipped(unpacked: Path) -> None:
    assert (unpacked / "planner" / "py.typed").is_file()


def test_python_minus_m(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "planner", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.strip() == "0.1.0"
