#!/usr/bin/env python3
"""Checks a run of `traffic demo --json` with readers that share no code with the writers.

    check_demo.py SUMMARY.json DIRECTORY

SUMMARY.json holds what the command printed; its last line is the summary. DIRECTORY is where it ran; the
Parquet files are somewhere below. Nothing that was sent may be unaccounted for, and DuckDB, PyArrow and the
summary must agree on the rows of the raw archive.
"""

import json
import pathlib
import sys

import duckdb
import pyarrow.parquet


def check(summary: dict, directory: pathlib.Path) -> list[str]:
    """What does not hold, as text."""
    names = ["events", "counted", "duplicates", "invalid", "late", "raw_rows"]
    missing = [name for name in names if not isinstance(summary.get(name), int)]
    if missing:
        return [f"the summary lacks numbers: {', '.join(missing)}; it has {', '.join(summary)}"]
    events, counted, duplicates, invalid, late, raw_rows = (summary[name] for name in names)
    files = sorted(path for path in directory.rglob("*.parquet") if is_archived(path.relative_to(directory), "raw"))
    if not files:
        return [f"no Parquet file of the raw archive below {directory}"]

    by_pyarrow = sum(pyarrow.parquet.read_table(file, partitioning=None).num_rows for file in files)
    by_duckdb = duckdb.sql(
        "select count(*) from read_parquet(?, union_by_name = true, hive_partitioning = false)",
        params=[[str(file) for file in files]],
    ).fetchall()[0][0]
    found = []
    if events <= 0:
        found.append("no events were sent")
    if counted + duplicates + invalid + late != events:
        found.append(f"{events} events, but {counted} counted + {duplicates} duplicates + {invalid} invalid + {late} late")
    for reader, rows in [("the summary", raw_rows), ("PyArrow", by_pyarrow), ("DuckDB", by_duckdb)]:
        if rows != events:
            found.append(f"{events} events, but {rows} raw rows according to {reader}")
    return found


def is_archived(path: pathlib.Path, tree: str) -> bool:
    """Whether a reader of the archive would see the file: it is not one that is being written."""
    return tree in path.parts and not any(part.startswith(("_", ".")) for part in path.parts)


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    lines = pathlib.Path(sys.argv[1]).read_text().strip()
    try:
        summary = json.loads(lines)
    except json.JSONDecodeError:
        summary = json.loads(lines.splitlines()[-1] if lines else "{}")
    found = check(summary, pathlib.Path(sys.argv[2]))
    for problem in found:
        print(f"check_demo: {problem}", file=sys.stderr)
    if not found:
        print(f"check_demo: {summary['events']} events, all accounted for; PyArrow and DuckDB agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
