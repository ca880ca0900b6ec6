"""What the scenarios of a run have cost: as a table in Markdown, and as JSON in the local folder."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.playing import Played

COLUMNS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "fault": lambda row: row["fault"],
    "load": lambda row: row["load"],
    "issued": lambda row: f"{row['issued']:,}",
    "refused": lambda row: f"{row['refused']:,}",
    "unknown": lambda row: f"{row['unknown']:,}",
    "lost": lambda row: f"{row['lost']:,}",
    "rejected": lambda row: f"{row['rejected']:,}",
    "over-issued": lambda row: f"{row['over_issued']:,}",
    "p99 of refusals": lambda row: _or_none(row["refusals_p99_ms"], "{:,} ms"),
    "nobody served for": lambda row: f"{row['unserved']:.1f} s",
    "answered again": lambda row: _or_none(row["recovery"], "{:.1f} s"),
    "issued again": lambda row: _or_none(row["first_coupon"], "{:.1f} s"),
    "verdict": lambda row: f"broken: {', '.join(row['broken'])}" if row["broken"] else "kept",
}


class Table:
    """The rows of a run, in the order in which they were played."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, played: Played) -> None:
        """Add what came of a scenario."""
        self.rows.append(played.as_row())

    def markdown(self) -> str:
        """For people, and for docs/reliability.md."""
        lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
        lines += [" | ".join(cell(row) for cell in COLUMNS.values()) for row in self.rows]
        return "\n".join(f"| {line} |" for line in lines)

    def write(self, path: Path) -> None:
        """For programs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.rows, indent=2, ensure_ascii=False) + "\n")


def _or_none(value: float | None, form: str) -> str:
    return "—" if value is None else form.format(value)
