"""What odd input, a full disk, a signal or a lost reader can do: trials of ``tests/hostile``, drawn by seed.

Each kind gets a few seconds here, and twenty thousand inputs with ``python tests/hostile/run.py``.
"""

from __future__ import annotations

import csv
import io
import json
import operator
import random
import re
import shutil
import sys
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from conftest import Cli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).with_name("hostile")))

from planner.catalogue import engines, loader
from planner.catalogue.check import check_hardware
from planner.catalogue.documents import csv_rows, json_values, yaml_values
from planner.errors import BadInputError, CatalogueError, InternalError, legible
from planner.files import LARGEST_TABLE, read_text, replacing
from planner.planning import estimate as planning
from planner.planning.sanity import refuse_impossible
from planner.present.catalogue import figure_rows

SEEDS = st.integers(0, 2**32)
FAST = {"profiles": 80, "engined": 60, "configs": 80, "stale": 20, "tables": 600, "rows": 120, "outputs": 12,
        "bounds": 25, "interrupts": 15}  # fmt: skip

FORKING = pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning"
)  # from Python 3.12; the children run no threads


@pytest.fixture
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModuleType]:
    """A module of trials, prepared; what it changes of the planner is put back."""
    module, built_in = import_module(request.param), loader.built_in
    if hasattr(module, "prepare"):
        module.prepare(tmp_path)
    yield module
    loader.built_in = built_in


def trials(module: ModuleType, folder: Path, count: int) -> None:
    """So many trials of a kind, of which none may find a fault."""
    work = folder / "work"

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(SEEDS)
    def one(seed: int) -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        verdict = module.trial(random.Random(f"{module.__name__} {seed}"), work)
        assert not verdict.startswith("FAULT"), verdict

    one()


@FORKING
@pytest.mark.parametrize("kind", FAST, indirect=True)
def test_hostile_input_is_answered_or_refused(kind: ModuleType, tmp_path: Path) -> None:
    trials(kind, tmp_path, FAST[kind.__name__])


@FORKING
@pytest.mark.published
@pytest.mark.parametrize("kind", FAST, indirect=True)
def test_much_hostile_input_is_answered_or_refused(kind: ModuleType, tmp_path: Path) -> None:
    trials(kind, tmp_path, 5 * FAST[kind.__name__])


# Numbers that cannot be


@pytest.mark.parametrize(("field", "given"), [
    ("3350 GB/s", "0 GB/s"), ("3350 GB/s", "1e400 GB/s"), ("989.4 TFLOP/s", "989.4 EFLOP/s"), ("700 W", "0 W"),
    ("compute: 0.784", "compute: .nan"), ("memory: 0.835", "memory: 83.5"), ("sharpness: 1.82", "sharpness: 0"),
    ("overhead: 3.39 us", "overhead: 3.39 s"), ("lanes: 16896", "lanes: -1"), ("links: 18", "links: 0"),
    ("usd: 6.88", "usd: 0"), ("year: 2022", "year: 22"), ("bf16: 2.0", "bf16: 0.0"),
])  # fmt: skip
def test_a_figure_out_of_range_is_refused_by_check_and_by_commands(
    cli: Cli, tmp_path: Path, field: str, given: str
) -> None:
    source = loader.built_in() / "accelerators" / "nvidia" / "h100-sxm5-80gb.yaml"
    text = source.read_text()
    assert field in text
    path = tmp_path / source.name
    path.write_text(text.replace(field, given))
    line = text[: text.index(field)].count("\n") + 1
    for arguments in (("check", tmp_path), ("estimate", "gpt2", "h100-sxm5-80gb", "--hardware-dir", tmp_path)):
        ran = cli(*arguments)
        assert ran.code == 2 and f"{path}:{line}: " in ran.err and not ran.out


def test_a_class_of_ones_own_is_checked(cli: Cli, tmp_path: Path) -> None:
    source = loader.built_in() / "classes" / "nvidia-hopper.yaml"
    (tmp_path / source.name).write_text(source.read_text().replace("sharpness: 1.98", "sharpness: -1.98"))
    assert "nvidia-hopper.yaml:7: kernels.matmul.bf16.sharpness: -1.98 is outside" in cli("check", tmp_path).err


def test_a_file_that_describes_nothing_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("peak_flop: {}\n")
    assert "mine.yaml:1: none of the keys" in cli("check", tmp_path).err


def test_a_result_that_cannot_be_is_never_shown() -> None:
    for bad in (float("nan"), float("inf"), -1.0, 0.0):
        with pytest.raises(InternalError, match=r"internal error: seconds is .* for model=m"):
            refuse_impossible({"other": 1.0, "seconds": [1.0, bad]}, {"model": "m", "price": None})
    refuse_impossible({"part": 0.0, "none": None}, {}, parts=True)


def test_a_command_stops_at_a_result_that_cannot_be(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "forward_flops", lambda *a, **k: {"model": float("nan"), "layers": 1.0})
    ran = cli("estimate", "gpt2", "t4-16gb", "--task", "decode")
    assert ran.code == 3 and not ran.out and "internal error: model_flops_per_step is nan" in ran.err


@pytest.mark.parametrize(("changes", "words"), [
    ([("fp16: {value: 989.4", "fp16: {value: 1978.8")], ""),  # twice bf16, as on CDNA1
    ([("fp16: {value: 989.4", "fp16: {value: 3000")], "fp16 is 3.03 times bf16"),
    ([("    capacity: {value: 79.20 GiB", "    # {value: 79.20 GiB")], "memory must begin with the device memory"),
    ([("79.20 GiB", "40 GiB")], "does not fit"),
    ([("79.20 GiB", "40 GiB"), ("    kind: device\n", "    kind: device\n    shared: true\n")], ""),
])  # fmt: skip
def test_real_chips_pass_and_slips_do_not(cli: Cli, tmp_path: Path, changes: list[tuple[str, str]], words: str) -> None:
    text = (loader.built_in() / "accelerators" / "nvidia" / "h100-sxm5-80gb.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "h100-sxm5-80gb.yaml").write_text(text)
    ran = cli("check", tmp_path)
    assert (ran.code, words in ran.err) == (2 if words else 0, True), ran.err


def _paths(value: object, prefix: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Where every field of a profile stands, sections and the fields in them."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if len(prefix) < 3 and prefix[:1] not in (("sources",), ("prices",), ("conflicts",)):
            yield (*prefix, key)
            yield from _paths(inner, (*prefix, key))


def test_a_profile_without_any_one_field_is_refused_or_read(tmp_path: Path) -> None:
    source = loader.built_in() / "accelerators" / "nvidia" / "h100-sxm5-80gb.yaml"
    whole = yaml.safe_load(source.read_text())
    seen = set()
    for path in _paths(whole):
        profile = yaml.safe_load(source.read_text())
        *above, last = path
        reduce(operator.getitem, above, profile).pop(last)
        (tmp_path / source.name).write_text(yaml.safe_dump(profile, sort_keys=False))
        try:
            accelerator, _ = loader.resolve_hardware(source.stem, [tmp_path])
            seen.add(bool(figure_rows(accelerator)))
        except CatalogueError:
            seen.add(False)
            assert check_hardware([tmp_path]), path
    assert seen == {True, False}


def test_every_assumed_efficiency_is_listed(cli: Cli) -> None:
    shown = cli("estimate", "mixtral-8x7b", "dgx-h100", "--devices", "16", "--tp", "8").out
    due = ("attention_backward reaches 45% of peak FLOP/s, 65% of bandwidth", "grouped_matmul reaches",
           "optimizer reaches", "collectives over scale_out links reach of the bandwidth: all_gather 80%")  # fmt: skip
    assert all(words in shown for words in due)
    assert "matmul reaches 75%" not in shown.replace("grouped_matmul", "")  # bf16 matmuls were measured


def test_two_names_of_the_hardware_that_differ_are_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("model,hardware,accelerator,task\n" + "".join(
        f"gpt2,dgx-h100,{a},decode\n" for a in ("A100-SXM4-80GB", "h100-sxm5-80gb", "our new box", "")))  # fmt: skip
    errors = [r["error"] for r in json.loads(cli("estimate", "--scenarios", path, "--format", "json").out)]
    assert "a100-sxm4-80gb given beside hardware dgx-h100, which is of h100-sxm5-80gb" in errors[0]
    assert not any(errors[1:])


@pytest.mark.parametrize(("old", "new"), [
    ("step_overhead: 250 us", "step_overhead: -250 us"), ("fraction: 0.92", "fraction: 92"),
    ("fraction: 0.92", "fraction: .nan"), ("share_of: device", "share_of: devices"),
    ("allocates: pool", "alocates: pool"), ("token_budget: 8192", "token_budget: 0"),
    ("workspace: 0.14 GiB", "workspace: 0.14"), ("slowdown: 1.15", "slowdown: 0.5"),
    ("request_overhead: 50 ms", "request_overhead: 50 min"), ("operator: 1.6 us", "operator: -1.6 us"),
    ("reserves: grows", "reserves: grow"), ("mixes: true", "mixes: maybe"), ("captures: none", "captures: all"),
    ("whole_prompts: ", "whole_prompts: -"), ("unbounded: true", "unbound: true"),
])  # fmt: skip
def test_an_engine_that_cannot_be_is_refused_with_its_line(tmp_path: Path, old: str, new: str) -> None:
    text = engines.FILE.read_text()
    assert old in text
    path = tmp_path / "engines.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CatalogueError, match=rf"engines.yaml:{text[: text.index(old)].count(chr(10)) + 1}: |missing"):
        engines.read_engines(path)


# Files


@pytest.mark.parametrize(("text", "words"), [
    ("model;devices\ngpt2;1\n", None), ("model\tdevices\ngpt2\t1\n", None), ("\ufeffmodel,devices\r\ngpt2,1\r\n", None),
    ("model,devices\rgpt2,1\r", None), ("model,devices,\ngpt2,1,\n", None), ("\nmodel,devices\n\ngpt2,1\n", None),
    ("model,devices\n\"gpt2,1\n", "x.csv:2: a quote is opened and never closed"),
    ("model,devices\n\"gpt2\"x,1\n", "x.csv:2: text follows a closing quote"),
    ("model,devices,model\ngpt2,1,gpt2\n", "x.csv:1: column 'model' stands twice"),
    ("model,,devices\ngpt2,,1\n", "x.csv:1: column 2 has no name"),
    ("model,devices\ngpt\r2,1\n", "x.csv:2: a carriage return stands outside quotes"),
])  # fmt: skip
def test_a_csv_is_read_right_or_refused_with_its_line(text: str, words: str | None) -> None:
    text = text.removeprefix("\ufeff")
    if words is None:
        header, rows = csv_rows(text, "x.csv", ("model", "devices"))
        assert header == ["model", "devices"] and [cells for _, cells in rows] == [["gpt2", "1"]]
        return
    with pytest.raises(BadInputError, match=words):
        csv_rows(text, "x.csv", ("model", "devices"))


@pytest.mark.parametrize("text", ["a: 1\nb: {c: 1, c: 2}\n", '{"a": 1,\n "a": 2}'])
def test_a_key_given_twice_is_refused_with_its_line(text: str) -> None:
    for read in (yaml_values, *([json_values] if text.startswith("{") else [])):
        with pytest.raises(BadInputError, match="x:2: duplicate key"):
            read(text, "x")


@pytest.mark.parametrize(("text", "words"), [
    ("model,hardware,task\ngpt2,t4-16gb,decode\n", ""), ('[{"model": "gpt2",\n\t"hardware": "t4-16gb"}]', ""),
    ("- {model: gpt2, hardware: t4-16gb}\n", ""), ("[{model: gpt2, hardware: t4-16gb}]", ""),
    ("- {model: gpt2, model: gpt2}\n", "-:1: duplicate key"), ('model,hardware\n"gpt2\n', "-:2: a quote is opened"),
    (b"model\n\xff", "--scenarios -:2: not UTF-8"), (b" " * (LARGEST_TABLE + 1), "too large"),
])  # fmt: skip
def test_standard_input_is_read_as_strictly_as_files(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, text: str | bytes, words: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode())))
    ran = cli("estimate", "--scenarios", "-")
    assert (ran.code, words in ran.err) == (2 if words else 0, True), ran.err


def test_a_row_with_too_few_cells_says_so_and_harms_no_other(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,model,hardware,task\n1,gpt2,t4-16gb\n2,"gpt2",t4-16gb,decode\n3,gpt2,t4-16gb,decode,more\n')
    rows = json.loads(cli("estimate", "--scenarios", path, "--format", "json").out)
    assert [bool(r["error"]) for r in rows] == [True, False, True]
    assert "in.csv:2: 3 cells, but the header has 4" in rows[0]["error"] and "in.csv:4: 5 cells" in rows[2]["error"]


def test_a_crash_stays_in_its_row_and_ends_with_3(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = planning.estimate_scenario

    def struck(keys: dict[str, object], **how: object) -> object:
        if keys["batch"] == "2":
            raise ZeroDivisionError("struck")
        return real(keys, **how)

    monkeypatch.setattr(planning, "estimate_scenario", struck)
    path = tmp_path / "in.csv"
    path.write_text("model,hardware,task,batch\n" + "".join(f"gpt2,t4-16gb,decode,{b}\n" for b in (1, 2, 3)))
    ran = cli("estimate", "--scenarios", path, "-o", tmp_path / "out.csv")
    assert ran.code == 3 and "internal error: in 1 rows" in ran.err
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == 4 and "internal error: ZeroDivisionError at" in lines[2] and lines[3].endswith(",")


def test_a_batch_that_was_cut_short_goes_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = planning.estimate_scenario, []

    def counted(keys: dict[str, object], **how: object) -> object:
        asked.append(keys["batch"])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(keys, **how)

    monkeypatch.setattr(planning, "estimate_scenario", counted)
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text("model,hardware,task,batch\n" + "".join(f"gpt2,t4-16gb,decode,{b}\n" for b in range(1, 6)))
    out.write_text("old\n")
    assert cli("estimate", "--scenarios", path, "-o", out).code == 130
    assert out.read_text() == "old\n" and (tmp_path / "out.csv.partial").is_file()
    with (tmp_path / "out.csv.partial").open("a") as partial:
        partial.write('{"key": "torn')
    asked[:] = ["", "", "", *asked][:3]
    assert cli("estimate", "--scenarios", path, "-o", out).code == 0
    assert asked[3:] == ["3", "4", "5"] and not (tmp_path / "out.csv.partial").exists()
    resumed = out.read_text()
    assert cli("estimate", "--scenarios", path, "-o", out).code == 0 and out.read_text() == resumed


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(BadInputError, match="No space"), replacing(path) as file:
        file.write(b"new")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(BadInputError, match="No space"), replacing("/dev/full") as file:
        file.write(b"new")


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "link", "/dev/null"):
        with replacing(path) as file:
            file.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640 and Path("/dev/null").is_char_device()


def test_what_no_terminal_should_obey_is_escaped(cli: Cli, tmp_path: Path) -> None:
    assert legible("a\x1b[31m\u202eb\ud800") == "a\\x1b[31m\\u202eb\\ud800"
    assert legible("x" * 5000, most=100) == "x" * 70 + " … " + "x" * 20
    config = {"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2}
    folder = tmp_path / "red\x1b[31m $x^{"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    ran = cli("estimate", folder, "t4-16gb", "--task", "decode", "--figure", tmp_path / "x.svg")
    assert ran.code == 0 and "\x1b" not in ran.out + ran.err and "red\\x1b[31m" in ran.out
    assert "red\\x1b[31m $x^{" in (tmp_path / "x.svg").read_text()


def test_formulas_are_data_unless_a_safe_csv_is_asked_for(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,model,hardware,task,note,@sum\n-1,gpt2,t4-16gb,decode,=1+1,\n")
    assert {"=1+1", "@sum"} <= set(re.split("[,\n]", cli("estimate", "--scenarios", path).out))
    assert {"'=1+1", "'@sum"} <= set(re.split("[,\n]", cli("estimate", "--scenarios", path, "--safe-csv").out))


@pytest.mark.parametrize("verb", ["estimate", "plan", "compare", "hardware"])
def test_every_verb_that_shows_a_users_text_honours_a_safe_csv(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "=x").mkdir()
    (tmp_path / "=x" / "config.json").write_text('{"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 2}')
    text = (loader.built_in() / "accelerators" / "nvidia" / "t4-16gb.yaml").read_text()
    (tmp_path / "t4-16gb.yaml").write_text(re.sub(r"(?m)^name: .*", 'name: "=1+1"', text))
    asked = ("hardware",) if verb == "hardware" else (verb, "=x", "t4-16gb", "--task", "decode", "--devices", "1")
    asked += ("l4-24gb",) if verb == "compare" else ()
    ran = [cli(*asked, "--hardware-dir", tmp_path, "--format", "csv", *more) for more in ((), ("--safe-csv",))]
    cells = [[c for row in csv.reader(io.StringIO(r.out)) for c in row if c.lstrip("'").startswith("=")] for r in ran]
    assert cells[0] and cells[1] == [f"'{c}" for c in cells[0]]


@pytest.mark.parametrize("make", ["folder", "loop", "large", "bytes"])
def test_what_is_no_text_file_is_refused_in_one_line(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.json"
    match make:
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "large":
            with path.open("wb") as file:
                file.truncate(2**30)
        case "bytes":
            path.write_bytes(b"a\n\xff")
    with pytest.raises(BadInputError) as error:
        read_text(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
