"""Counts, again and again, the rows that a glob finds while files are exchanged below it, until a file `stop` appears.

Usage: count_while_compacting.py TOPIC STORE
"""

import json
import pathlib
import sys

import duckdb

topic, store = sys.argv[1], pathlib.Path(sys.argv[2])
query = f"""
    select count(*), count(distinct (partition, "offset"))
    from read_parquet('{store}/traffic-data/raw/date=*/hour=*/*.parquet') where topic = '{topic}'
"""
looks = doubled = vanished = fewer = most = 0
while not (store / "stop").exists():
    try:
        rows, distinct = duckdb.sql(query).fetchall()[0]
    except duckdb.Error:
        # A file that the glob had found was exchanged before it was opened.
        vanished += 1
        continue
    looks += 1
    doubled += rows != distinct
    fewer += rows < most
    most = max(most, rows)
print(json.dumps({"looks": looks, "doubled": doubled, "vanished": vanished, "fewer": fewer, "rows": most}))
