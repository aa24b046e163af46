"""Ledgers drawn: what fills a device's memory, and where the time of a step goes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from planner.planning.estimate import Estimate
from planner.present.figures.style import (
    BODY,
    FAINT,
    HALO,
    INK,
    OKABE_ITO,
    SMALL,
    WARNING,
    axes_size,
    axis_labels,
    bare_rows,
    folded,
    ink_on,
    label,
    legend_row,
    percent,
    room_for,
    seconds,
    sheet,
    text_width,
)

GIB = 2.0**30
PART_COLOURS: Mapping[str, str] = {
    "weights": OKABE_ITO["blue"],
    "gradients": OKABE_ITO["sky"],
    "optimizer": OKABE_ITO["vermillion"],
    "activations": OKABE_ITO["orange"],
    "working": OKABE_ITO["yellow"],
    "kv_cache": OKABE_ITO["green"],
    "logits": OKABE_ITO["purple"],
    "fragmentation": "#bdbdbd",
    "context": "#7f7f7f",
}
FAMILY_COLOURS: Mapping[str, str] = {
    "forward": OKABE_ITO["sky"],
    "backward": OKABE_ITO["blue"],
    "recompute": OKABE_ITO["yellow"],
    "communication": OKABE_ITO["green"],
    "engine": OKABE_ITO["purple"],
    "idle": "#bdbdbd",
    "optimizer": OKABE_ITO["orange"],
    "other": "#7f7f7f",
}
_FAMILIES = {
    "comm": "communication",
    "pipeline": "idle",
    "host": "idle",
    "prefill of arriving requests": "forward",
}
MERGED_SHARE = 0.01


def memory_figure(
    ledgers: Mapping[str, Mapping[str, float]],
    *,
    capacity: float,
    title: str,
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Memory ledgers as stacked bars beside the capacity of a device.

    Parameters
    ----------
    ledgers : mapping               label of a bar to its ledger (``Estimate.memory``) [byte]
    capacity : float                what a program can allocate [byte]
    title, subtitle : str

    Returns
    -------
    Figure                          a value in each segment that has room for it; the total after the bar, or after
                                    the capacity where that would run through it
    """
    rows = len(ledgers)
    left = min(max((text_width(name, BODY) for name in ledgers), default=40.0) / 72 + 0.35, 3.2)
    figure, axes = sheet(8.6, 1.95 + 0.46 * rows, title=title, subtitle=subtitle, left=left, bottom=1.0, ax=ax)
    totals = [sum(v.values()) for v in ledgers.values()]
    names = [folded(name, BODY, (left - 0.35) * 72) for name in ledgers]
    said = [f"{t / GIB:,.1f} GiB" + (f", {t / capacity:.2f} × capacity" if t > capacity else "") for t in totals]
    wide = axes_size(axes)[0]
    mark = f"capacity {capacity / GIB:.1f} GiB"
    limit = room_for([*(max(t, capacity) for t in totals), capacity], [*said, mark], width=wide) / GIB
    axes.set_xlim(0, limit)
    axes.set_ylim(rows - 0.45, -0.8)
    for y, (ledger, total, text) in enumerate(zip(ledgers.values(), totals, said, strict=True)):
        _stack(axes, ledger, y, points_per_gib=wide / limit)
        ink = WARNING if total > capacity else INK
        reach = (total / GIB + (1.15 * text_width(text, SMALL) + 10.0) * limit / wide) * GIB
        at = capacity if total <= capacity < reach else total
        label(axes, text, (at / GIB, y), color=ink, fontweight="bold", zorder=6, bbox=HALO)
    axes.axvline(capacity / GIB, color=INK, linewidth=1.4, linestyle=(0, (4, 3)), zorder=4)
    label(axes, mark, (capacity / GIB, -0.8), shift=(4.0, -2.0), va="top")
    axes.set_yticks(range(rows), names, fontsize=BODY)
    bare_rows(axes)
    axis_labels(axes, "memory of the fullest device [GiB]", "")
    present = [p for p in PART_COLOURS if any(ledger.get(p, 0.0) > 0 for ledger in ledgers.values())]
    legend_row(figure, [Patch(facecolor=PART_COLOURS[p], label=p.replace("_", " ")) for p in present], ax=ax)
    return figure


def _stack(axes: Axes, ledger: Mapping[str, float], y: float, *, points_per_gib: float) -> None:
    start = 0.0
    ordered = [p for p in PART_COLOURS if p in ledger] + [p for p in ledger if p not in PART_COLOURS]
    for part in ordered:
        size = ledger[part] / GIB
        colour = PART_COLOURS.get(part, FAINT)
        axes.barh(y, size, left=start, height=0.62, color=colour, edgecolor="white", linewidth=0.6, label=f"_{part}")
        text = f"{size:.1f}" if size < 99.95 else f"{size:,.0f}"
        if size * points_per_gib > text_width(text, SMALL) + 5:
            axes.text(
                start + size / 2,
                y,
                text,
                ha="center",
                va="center_baseline",
                fontsize=SMALL,
                color=ink_on(colour),
            )
        start += size


def waterfall_figure(estimate: Estimate, *, title: str = "", subtitle: str = "", ax: Axes | None = None) -> Figure:
    """Step time as a waterfall of the terms of its ledger, ending in the total with its 90 % interval.

    Parameters
    ----------
    estimate : Estimate             its ``time`` ledger, interval and inputs are drawn
    title, subtitle : str           made from the inputs where empty

    Returns
    -------
    Figure                          terms under 1 % of the total are drawn together as ``other``
    """
    total = sum(estimate.time.values())
    terms = merged_terms(estimate.time)
    labels = [*(name for name, _ in terms), "total"]
    left = max(text_width(label, BODY) for label in labels) / 72 + 0.35
    height = 2.0 + 0.31 * len(labels)
    figure, axes = sheet(
        8.6,
        height,
        title=title or _asked(estimate),
        subtitle=subtitle or _layout(estimate),
        left=left,
        bottom=1.0,
        ax=ax,
    )
    scale, unit = (1.0, "s") if total >= 1 else (1e3, "ms") if total >= 1e-3 else (1e6, "µs")
    low, high = total * estimate.interval.low, total * estimate.interval.high
    said = [f"{seconds(v)}  {percent(v / total)}" for _, v in terms]
    basis = "assumed" if "assumed" in estimate.interval.basis else "90 %"
    whole = f"{seconds(total)}\n{basis}: {seconds(low)} to {seconds(high)}"
    ends = list(accumulate(v for _, v in terms))
    wide = axes_size(axes)[0]
    axes.set_xlim(0, room_for([*ends, max(high, total)], [*said, whole.split("\n")[1]], width=wide) * scale)
    axes.set_ylim(len(labels) - 0.45, -0.6)
    for y, ((name, value), end, text) in enumerate(zip(terms, ends, said, strict=True)):
        left_edge = (end - value) * scale
        axes.barh(y, value * scale, left=left_edge, height=0.66, color=_family_colour(name), label=f"_{name}")
        axes.plot([end * scale] * 2, [y + 0.33, y + 0.67], color=FAINT, linewidth=0.7)
        label(axes, text, (end * scale, y), bbox=HALO)
    _total_bar(axes, len(terms), total * scale, low * scale, high * scale)
    label(axes, whole, (max(high, total) * scale, len(terms)), shift=(7.0, 0.0), fontweight="bold", bbox=HALO)
    axes.set_yticks(range(len(labels)), labels, fontsize=BODY)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    bare_rows(axes)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis_labels(axes, f"time of a step [{unit}]", "")
    used = dict.fromkeys(_family(name) for name, _ in terms)
    legend_row(figure, [Patch(facecolor=FAMILY_COLOURS[f], label=f) for f in FAMILY_COLOURS if f in used], ax=ax)
    return figure


def _total_bar(axes: Axes, y: float, total: float, low: float, high: float) -> None:
    axes.barh(y, total, height=0.66, color=FAINT, label="_total")
    axes.errorbar(
        [total],
        [y],
        xerr=[[total - low], [high - total]],
        fmt="none",
        ecolor=INK,
        elinewidth=1.3,
        capsize=4,
        capthick=1.3,
        zorder=5,
    )


def merged_terms(time: Mapping[str, float]) -> list[tuple[str, float]]:
    """Terms of a time ledger in order, those under 1 % of the total added up as ``other (n)`` at the end."""
    total = sum(time.values())
    large = [(k, v) for k, v in time.items() if v >= MERGED_SHARE * total]
    small = [v for v in time.values() if 0 < v < MERGED_SHARE * total]
    if len(small) == 1:
        return [*large, *((k, v) for k, v in time.items() if v in small)]
    return [*large, (f"other ({len(small)} terms)", sum(small))] if small else large


def _family(name: str) -> str:
    head = name.split(".")[0]
    return head if head in FAMILY_COLOURS else _FAMILIES.get(head, "other")


def _family_colour(name: str) -> str:
    return FAMILY_COLOURS[_family(name)]


def _asked(estimate: Estimate) -> str:
    """Who runs what on what, in a line."""
    found = estimate.resolved
    return f"{found.model.name}: {found.task} on {found.cluster.devices} × {found.cluster.accelerator.name}"


def _layout(estimate: Estimate) -> str:
    keys = estimate.inputs
    sizes = [f"{k} {keys[k]}" for k in ("dp", "tp", "pp", "cp", "ep", "etp", "vpp") if keys.get(k, 1) != 1]
    sizes += [
        f"{k.replace('_', ' ')} {keys[k]}"
        for k in (
            "zero_stage",
            "recompute",
            "micro_batch",
            "global_batch",
            "seq_len",
            "batch",
            "concurrency",
            "input_len",
            "output_len",
        )
        if k in keys
    ]
    return ", ".join(sizes)
