"""The plot of a comparison. It needs matplotlib, which the product does not."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from coupons.comparing.report import Figures
from events.models import DATABASE_WAYS, SCRIPT_WAYS

mpl.use("agg")
DATABASE, REDIS, SCRIPT = "#64748b", "#38bdf8", "#0f766e"


def draw(figures: Sequence[Figures], path: Path) -> None:
    """Claims a second, and the slowest answers, of each strategy beside each other."""
    ordered = sorted(figures, key=lambda one: one.claims_per_second)
    names = [one.strategy for one in ordered]
    colours = [DATABASE if name in DATABASE_WAYS else SCRIPT if name in SCRIPT_WAYS else REDIS for name in names]
    panels = (
        ("claims a second", "{:,.0f}", [one.claims_per_second for one in ordered]),
        ("99 of 100 are answered within, ms", "{:,.0f}", [one.p99 for one in ordered]),
        ("transactions a claim", "{:.1f}", [one.transactions for one in ordered]),
    )
    figure, axes = pyplot.subplots(1, len(panels), figsize=(12, 4), sharey=True, layout="constrained")
    for axis, (title, form, values) in zip(axes, panels, strict=True):
        axis.bar_label(axis.barh(names, values, color=colours), fmt=form, padding=3)
        axis.set_title(title, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.2)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
