#!/usr/bin/env python3
"""documented_queries.py STORAGE_LAYOUT.md DIRECTORY: the document's queries, on an archive in DIRECTORY.

Prints a JSON object: `queries`, a list of rows for each SQL block of the document, in order, and `features`, the
lists of `features_used` as PyArrow reads them.
"""
import json
import pathlib
import re
import sys

import duckdb
import pyarrow.parquet

document, directory = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
blocks = re.findall(r"```sql\n(.*?)```", document.read_text(), re.DOTALL)
queries = [db.execute(block.replace("'/traffic-data/", f"'{directory}/traffic-data/")).fetchall() for block in blocks]
files = sorted(directory.glob("traffic-data/processed/predictions/**/*.parquet"))
tables = [pyarrow.parquet.read_table(file, columns=["features_used"], partitioning=None) for file in files]
features = [features for table in tables for features in table.column("features_used").to_pylist()]
print(json.dumps({"queries": queries, "features": features}, default=str))
