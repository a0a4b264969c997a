"""All results in build/bench as one page, README.md beside them: the targets, then every table. Prints the targets."""

import json
from collections.abc import Sequence
from pathlib import Path

from common import cell, limit_of, out_folder, parse, table, verdict_of


def main(argv: list[str] | None = None) -> None:
    options = parse(__doc__, argv)
    folder = out_folder(options)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not results:
        print(f"no results in {folder}: make bench measures them")
        return
    targets = target_table(results)
    print(f"\n{targets}\n")
    path = folder / "README.md"
    path.write_text(page(targets, results, sorted(folder.glob("*.png"))), encoding="utf-8")
    print(f"all tables: {path}")


def target_table(results: Sequence[dict]) -> str:
    """One line a target."""
    rows = []
    for result in results:
        for row in result["targets"]:
            found = dict(benchmark=result["name"], what=row["what"], value=cell(row["value"]))
            rows.append(found | dict(target=limit_of(row), verdict=verdict_of(row)))
    return table(rows) if rows else "no targets were measured"


def page(targets: str, results: Sequence[dict], plots: Sequence[Path]) -> str:
    """The page in Markdown."""
    parts = ["# Benchmarks\n\nTargets never fail a build: they say what the course is meant to reach.", targets]
    for result in results:
        where = result["machine"]
        parts.append(f"## {result['title']}")
        quick = "A quick run, whose numbers mean nothing. " if result["quick"] else ""
        parts.append(
            f"{quick}{where['device']}, {where['threads']} threads, torch {where['torch']}, load {where['load']}, "
            f"{where['date'][:10]}."
        )
        parts.append(table(result["rows"]))
        parts += result["notes"]
        parts += [f"![{result['title']}]({plot.name})" for plot in plots if plot.stem == result["name"]]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
