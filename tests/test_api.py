"""Python: short displays, frames, scenarios in any shape, errors with their parts, progress."""

from __future__ import annotations

import inspect
import pydoc
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import planner
from planner.planning.columns import FIXED

KEYS = {"model": "gpt2", "hardware": "dgx-h100", "devices": 4, "task": "decode"}


@dataclass(frozen=True)
class Asked:
    model: str = "gpt2"
    hardware: str = "dgx-h100"
    devices: int = 4
    task: str = "decode"


@dataclass(slots=True)
class Slotted:
    model: str = "gpt2"
    hardware: str = "dgx-h100"
    devices: int = 4
    task: str = "decode"


SHAPES = [KEYS, Asked(), Slotted(), SimpleNamespace(**KEYS), namedtuple("Row", KEYS)(**KEYS), pd.Series(KEYS).to_dict()]


@pytest.mark.parametrize("scenario", SHAPES, ids=lambda s: type(s).__name__)
def test_a_scenario_in_any_shape_is_the_same(scenario: object) -> None:
    assert planner.estimate(scenario).row == planner.estimate(**KEYS).row
    assert planner.estimate(scenario, batch=8).row["batch"] == 8


@pytest.mark.parametrize("scenario", [3, "gpt2", Asked, [1]])
def test_what_is_no_scenario_is_refused(scenario: object) -> None:
    with pytest.raises(planner.BadInputError, match="scenario"):
        planner.estimate(scenario)


@pytest.mark.parametrize(
    ("change", "key", "given", "allowed"),
    [
        ({"hardware": "dgx-h10"}, "hardware", "dgx-h10", ()),
        ({"hardware": "h101-sxm5-80gb"}, "hardware", "h101-sxm5-80gb", ()),
        ({"hardware": "gh200"}, "hardware", "gh200", ("gh200-144gb", "gh200-96gb")),
        ({"model": "gpt-9"}, "model", "gpt-9", ()),
        ({"task": "dream"}, "task", "dream", ("train", "prefill", "decode", "serve", "forward")),
        ({"devices": -1}, "devices", -1, ()),
        ({"sparsity": "2:4", "compute_dtype": "fp32"}, "sparsity", "2:4", ()),
    ],
)
def test_errors_have_their_parts(change: dict[str, object], key: str, given: object, allowed: tuple[str, ...]) -> None:
    for call in (planner.estimate, planner.plan):
        with pytest.raises(planner.BadInputError) as error:
            call({**KEYS, **change})
        assert (error.value.key, error.value.given) == (key, given)
        assert not allowed or set(error.value.allowed) == set(allowed)


def test_displays_are_short() -> None:
    e, p = planner.estimate(KEYS), planner.plan(KEYS)
    assert len(repr(e)) < 250 and "gpt2" in repr(e) and "\n" not in repr(e)
    assert len(repr(p)) < 350 and "considered" in repr(p)
    assert e._repr_html_().startswith("<table>") and len(e._repr_html_()) < 20_000
    assert p._repr_html_().count("<tr>") == len(p.rows) + 1


def test_html_is_escaped(tmp_path: Path) -> None:
    from planner.planning.shown import html_table

    assert "<b>" not in html_table([{"<b>": "<b>"}], ["<b>"], caption="<b>")


def test_a_plan_as_a_frame() -> None:
    found = planner.plan(KEYS)
    table = found.to_frame()
    assert list(table.columns) == list(FIXED) and len(table) == len(found.rows)
    assert found.best is not None and table["step_time_s"][0] == found.best.row["step_time_s"]
    again = planner.plan(KEYS, model="GPT2", hardware="DGX H100").to_frame()
    assert set(again["model"]) == {"GPT2"} and set(again["resolved_hardware"]) == {"dgx-h100"}
    beside = planner.compare("DGX H100", KEYS, model="GPT2")
    assert (beside["id"][0], beside["model"][0], beside["resolved_model"][0]) == ("DGX H100", "GPT2", "gpt2")


def test_estimates_keep_the_index_and_the_columns_of_a_frame() -> None:
    asked = pd.DataFrame([KEYS, {**KEYS, "model": "nobody"}], index=["a", "b"]).assign(site=["x", "y"])
    with pytest.warns(UserWarning, match="site"):
        table = planner.estimates(asked)
    assert list(table.index) == ["a", "b"] and list(table.columns) == ["site", *FIXED]
    assert list(table["error"] != "") == [False, True]
    with pytest.raises(planner.BadInputError, match="site"):
        planner.estimates(asked, strict=True)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    planner.estimates([KEYS, {**KEYS, "model": "nobody"}], progress=lambda done, good: told.append((done, good)))
    assert told == [(1, 1), (2, 1)]
    planner.plan(KEYS, progress=lambda considered, fit: told.append((considered, fit)))
    planner.compare(
        ["dgx-h100"], {k: v for k, v in KEYS.items() if k != "hardware"}, progress=lambda a, b: told.append((a, b))
    )
    assert len(told) >= 4 and told[-1] == told[-2]


def test_hardware_of_ones_own_everywhere(tmp_path: Path) -> None:
    from planner.catalogue.loader import built_in

    text = (built_in() / "accelerators" / "nvidia" / "h100-sxm5-80gb.yaml").read_text()
    text = text.replace("id: h100-sxm5-80gb", "id: my-own-80gb").replace("aliases:", "aliases: [] #")
    (tmp_path / "my-own-80gb.yaml").write_text(text)
    mine = {**KEYS, "hardware": "my-own-80gb"}
    for dirs in (tmp_path, str(tmp_path), [tmp_path]):
        assert planner.estimate(mine, hardware_dirs=dirs).row["accelerator"] == "my-own-80gb"
    assert planner.plan(mine, hardware_dirs=tmp_path).best is not None
    assert planner.estimates([mine], hardware_dirs=tmp_path)["error"][0] == ""
    assert (
        planner.compare("my-own-80gb", task="decode", model="gpt2", devices=4, hardware_dirs=tmp_path)["error"][0] == ""
    )
    assert planner.roofline(mine, hardware_dirs=tmp_path)[0]
    assert "my-own-80gb" in set(planner.hardware(hardware_dirs=tmp_path)["id"])


def test_help_shows_the_functions() -> None:
    for name in planner.__all__:
        if name != "__version__" and not name.endswith("Error"):
            function = getattr(planner, name)
            assert inspect.isfunction(function)
            assert function.__doc__.splitlines()[0] in pydoc.render_doc(function)
    assert (Path(planner.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    "name", ["roofline", "waterfall", "memory", "roofs", "heatmap", "pareto", "scaling", "tornado"]
)
@pytest.mark.parametrize("own", [False, True])
def test_figures_draw_into_axes(name: str, own: bool) -> None:
    from matplotlib.figure import Figure

    from planner import figures
    from planner.planning.sensitivity import sensitivity

    keys = {"model": "gpt2", "hardware": "dgx-h100", "devices": 8, "global_batch": 32}
    e = planner.estimate(keys)
    drawn = {
        "roofs": {"mine": e}, "tornado": sensitivity(e) if name == "tornado" else (),
        "heatmap": planner.plan(keys, top=50).to_frame() if name in ("heatmap", "pareto") else (),
        "scaling": [{"devices": 8, "tokens_per_s": 1e5}, {"devices": 16, "tokens_per_s": 1.8e5}],
    }  # fmt: skip
    drawn["pareto"] = drawn["heatmap"]
    ax = Figure(figsize=(6, 4)).subplots() if own else None
    figure, axes = getattr(figures, name)(drawn.get(name, e), ax=ax)
    assert (isinstance(figure, Figure) and axes.has_data()) or axes.texts
    if ax is not None:
        assert axes is ax and figure is ax.figure and len(figure.axes) == 1 and not figure.texts
        assert ax.get_title(loc="left")
