"""Plots of what was measured, for docs/performance.md."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

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
