#!/usr/bin/env python3
"""same_answers.py ANALYSTS.md DIRECTORY [METASTORE DATABASE JARS]: readers must agree on an archive in DIRECTORY.

Three queries (rows per hour, average speed by segment in one hour, the newest correction of each aggregate) go
through PyArrow and DuckDB, and the document's queries through DuckDB. With a metastore (thrift://host:port), the
database of the tables and the folder of the jars to speak to it with, all of them go through Spark too; and the three
a second time on tables made by the statements of hive.sql beside the document. Answers must be equal to the last bit.
Prints them as one JSON object; the document's are in `page`, by the heading above each.
"""
import datetime
import json
import os
import pathlib
import re
import sys
import time

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet

os.environ["TZ"] = "UTC"
time.tzset()
document, directory = pathlib.Path(sys.argv[1]).read_text(), pathlib.Path(sys.argv[2])
by_hand = pathlib.Path(sys.argv[1]).with_name("hive.sql").read_text()
metastore, database, jars = sys.argv[3:6] if len(sys.argv) > 3 else (None, None, None)
DATE, HOUR = "2024-05-06", "09"

QUERIES = {
    "hours": "select date, hour, count(*) from raw_events group by date, hour",
    "speeds": f"""select segment_id, avg(speed_kmh) from raw_events where date = '{DATE}' and hour = '{HOUR}'
                  group by segment_id""",
    "newest": """select segment_id, window_start, avg_speed, event_count from (
                     select *, row_number() over (partition by segment_id, window_start order by event_count desc) as nth
                     from aggregates) as numbered
                 where nth = 1""",
}


def plain(value):
    """A value as JSON has it; times as epoch ms."""
    if isinstance(value, datetime.datetime):
        value = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        return round(value.timestamp() * 1000)
    return bytes(value).decode() if isinstance(value, (bytes, bytearray)) else value


def rows(found):
    return [[plain(value) for value in row] for row in found]


def table(folder):
    """A table of the archive as PyArrow sees it; other tables lie beside its hours."""
    files = sorted(str(path) for path in (directory / "traffic-data" / folder).glob("date=*/hour=*/*.parquet"))
    text = pyarrow.schema([("date", pyarrow.string()), ("hour", pyarrow.string())])
    partitioning = pyarrow.dataset.partitioning(text, flavor="hive")
    return pyarrow.dataset.dataset(files, partitioning=partitioning).to_table()


def encodings():
    """What the files of the raw archive are encoded with, and who they say wrote them."""
    found, writers = set(), set()
    for file in (directory / "traffic-data/raw").glob("date=*/hour=*/*.parquet"):
        metadata = pyarrow.parquet.read_metadata(file)
        writers.add(metadata.created_by)
        for group in range(metadata.num_row_groups):
            columns = range(metadata.num_columns)
            found.update(*(metadata.row_group(group).column(column).encodings for column in columns))
    return {"encodings": sorted(found), "writers": sorted(writers)}


def by_pyarrow():
    raw, aggregates = table("raw"), table("processed/aggregates")
    hours = raw.group_by(["date", "hour"]).aggregate([([], "count_all")])
    hour = raw.filter(pc.and_(pc.equal(raw["date"], DATE), pc.equal(raw["hour"], HOUR)))
    speeds = hour.group_by("segment_id").aggregate([("speed_kmh", "mean")])
    window = ["segment_id", "window_start"]
    most = aggregates.group_by(window).aggregate([("event_count", "max")])
    newest = aggregates.select([*window, "avg_speed", "event_count"]).join(
        most, keys=[*window, "event_count"], right_keys=[*window, "event_count_max"], join_type="inner"
    )
    columns = {
        "hours": hours.select(["date", "hour", "count_all"]),
        "speeds": speeds.select(["segment_id", "speed_kmh_mean"]),
        "newest": newest.select([*window, "avg_speed", "event_count"]),
    }
    return {name: sorted(rows(zip(*found.to_pydict().values()))) for name, found in columns.items()}


def blocks(kind):
    """The document's SQL of this kind, by the heading above; `sql` alone is for every reader."""
    found, heading = [], None
    for line in re.finditer(r"^#+ ([^\n]*)$|^```sql ?(\w*)\n(.*?)^```$", document, re.DOTALL | re.MULTILINE):
        if line.group(1) is not None:
            heading = line.group(1).lower()
        elif line.group(2) in ("", kind):
            found.append((heading, line.group(3)))
    return found


def answers(kind, run):
    """The document's answers; a block of several statements prepares the ones after it."""
    page = {}
    for heading, block in blocks(kind):
        for statement in filter(str.strip, block.split(";")):
            answer = run(statement)
        if answer:
            page[heading] = rows(answer)
    return page


def by_duckdb():
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    run = lambda sql: db.execute(sql.replace("'/traffic-data/", f"'{directory}/traffic-data/")).fetchall()
    page = answers("duckdb", run)
    return {name: sorted(rows(run(query))) for name, query in QUERIES.items()}, page


def by_spark():
    from pyspark.sql import SparkSession

    settings = dict(re.findall(r"^(spark\.\S+)\s+(\S.*)$", document, re.MULTILINE))
    settings |= {
        "spark.hadoop.hive.metastore.uris": metastore,
        "spark.sql.hive.metastore.jars.path": f"file://{jars}/*.jar",
        "spark.sql.warehouse.dir": f"{directory}/spark-warehouse",
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -Dderby.system.home={directory}/derby",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark.sql(f"use {database}")
    # The document's tables are in the database that workers make if nothing else is set.
    run = lambda sql: spark.sql(re.sub(r"\buse traffic\b", f"use {database}", sql)).collect()
    page = answers("spark", run)
    found = {name: sorted(rows(run(query))) for name, query in QUERIES.items()}
    ddl = by_hand.replace("traffic;", f"{database}_by_hand;").replace("hdfs://namenode:9000", f"file://{directory}")
    for statement in filter(str.strip, re.sub(r"^--.*$", "", ddl, flags=re.MULTILINE).split(";")):
        spark.sql(statement)
    made = {name: sorted(rows(run(query))) for name, query in QUERIES.items()}
    spark.stop()
    return found, made, page


def main() -> int:
    problems = []
    arrow, (duck, page) = by_pyarrow(), by_duckdb()
    problems += [f"{name}: PyArrow {arrow[name]}, DuckDB {duck[name]}" for name in QUERIES if arrow[name] != duck[name]]
    if metastore:
        spark, made, spark_page = by_spark()
        problems += [f"{name}: Spark {spark[name]}, DuckDB {duck[name]}" for name in QUERIES if spark[name] != duck[name]]
        problems += [f"{name}: Spark by hive.sql {made[name]}" for name in QUERIES if made[name] != spark[name]]
        for name in page.keys() | spark_page.keys():
            if page.get(name) != spark_page.get(name):
                problems.append(f"{name}: Spark {spark_page.get(name)}, DuckDB {page.get(name)}")
    for problem in problems:
        print(f"same_answers: {problem}", file=sys.stderr)
    print(json.dumps({**duck, "page": page, "spark": bool(metastore), **encodings()}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
