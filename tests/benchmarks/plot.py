"""Plots of what was measured, for docs/performance.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot, ticker

mpl.use("agg")
OURS, OTHERS = "#0f766e", "#94a3b8"


def lanes(figures: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Claims a second and CPU a claim of each lane, beside each other."""
    names = sorted(figures, key=lambda name: figures[name]["accepted: a second"])
    colours = [OURS if name in ("gate", "DRF") else OTHERS for name in names]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for axis, of, title in (
        (axes[0], "accepted: a second", "claims a second, one core"),
        (axes[1], "accepted: server CPU, µs", "CPU of the server, µs a claim"),
    ):
        bars = axis.barh(names, [figures[name][of] for name in names], color=colours)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.set_title(title, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def latency(lanes: Mapping[str, Sequence[Mapping[str, float]]], aim: float, path: Path) -> None:
    """The median and the slowest hundredth of each lane, by how much is asked of it; `aim` in milliseconds."""
    figure, axis = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    for (name, points), colour in zip(lanes.items(), (OURS, OTHERS), strict=True):
        for of, line, place in (("p99 ms", "o-", "bottom"), ("p50 ms", "o:", "top")):
            axis.plot([one["a second"] for one in points], [one[of] for one in points], line, color=colour)
            at = points[-1]["a second"], points[-1][of]
            axis.annotate(f"{name}, {of[:3]}", at, (6, 0), textcoords="offset points", va=place)
    axis.axhline(aim, color=OTHERS, linewidth=0.8, linestyle="--")
    axis.set_yscale("log")
    axis.set_yticks([0.2, 0.5, 1, 2, 5, 10, 20, 50])
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(ticker.NullLocator())
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_title("ms until the answer, by requests a second", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.12)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
