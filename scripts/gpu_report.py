"""The reports of scripts/gpu-check: rows become Markdown, and files are replaced at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def markdown(content: dict[str, Any]) -> str:
    """The report for people: card and date, one line per step, then a table per step."""
    lines = [
        f"# medseg on {content['card']}",
        "",
        f"{content['date']}, {content['seconds']:.0f} s in all.",
        "",
    ]
    states = [{k: step[k] for k in ("name", "status", "seconds", "reason")} for step in content["steps"]]
    lines += [*table(states), ""]
    for step in content["steps"]:
        if step["rows"] or step["tail"]:
            lines += [f"## {step['title']}", ""]
            lines += [*tests_in_short(step["rows"]), *table(step["rows"]), ""] if step["rows"] else []
            lines += ["```", *step["tail"], "```", ""] if step["tail"] else []
    return "\n".join(lines)


def tests_in_short(rows: Rows) -> list[str]:
    """How many tests had which result, for rows of tests."""
    results = [row["result"] for row in rows if "result" in row]
    counts = [f"{results.count(result)} {result}" for result in sorted(set(results))]
    return [f"{', '.join(counts)}.", ""] if counts else []


def table(rows: Rows) -> list[str]:
    """Rows as a Markdown table."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(head)) for head in heads] for row in rows]
    return ["| " + " | ".join(words) + " |" for words in (heads, ["---"] * len(heads), *cells)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
