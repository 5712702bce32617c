#!/usr/bin/env python3
"""week_oracle.py WIDE.csv AGGREGATES.ndjson RAW_DIR: the real week, checked by SQL.

The wide CSV (a row a 5-minute step from 2012-03-01 00:00 Los Angeles time, a column a sensor, mph) is
unpivoted and aggregated by DuckDB; the aggregates topic (as `traffic inspect topic` writes it) and the raw
Parquet files under RAW_DIR must hold the same, value by value.
"""
import sys

import duckdb

wide, aggregates, raw = sys.argv[1:4]
db = duckdb.connect()
db.execute("set threads = 2; set timezone = 'UTC'")
db.execute(
    """
    create table steps as
      select row_number() over () - 1 as step, * from read_csv(?, header = true, all_varchar = true);
    """,
    [wide],
)
db.execute(
    """
    create table expected as
      select 'SEG_' || sensor as segment, sensor,
             epoch_ms(timestamptz '2012-03-01 08:00:00+00') + step * 300000 as at_ms,
             mph::double * 1.609344 as kmh
      from (unpivot steps on columns(* exclude step) into name sensor value mph)
    """
)
db.execute(
    """
    create table oracle as
      select sensor, at_ms // 300000 * 300000 as window_start, count(*) as n, avg(kmh) as mean, min(kmh) as low, max(kmh) as high,
             case when avg(kmh) >= 80 then 'FREE_FLOW' when avg(kmh) >= 60 then 'LIGHT' when avg(kmh) >= 40 then 'MODERATE'
                  when avg(kmh) >= 20 then 'HEAVY' else 'SEVERE' end as level
      from expected group by 1, 2
    """
)
db.execute(
    """
    create table found as
      select value->>'segment_id' as segment, (value->>'window_start')::bigint as window_start, (value->>'window_end')::bigint as window_end,
             (value->>'event_count')::bigint as n, (value->>'avg_speed')::double as mean,
             (value->>'speed_min')::double as low, (value->>'speed_max')::double as high, value->>'congestion_level' as level
      from (select json_extract(json, '$.value') as value from read_ndjson_objects(?)) where json_type(value) = 'OBJECT'
    """,
    [aggregates],
)


def one(sql):
    return db.execute(sql).fetchone()[0]


failures = []


def check(what, found, expected):
    print(f"{what}: {found} (expected {expected})")
    if found != expected:
        failures.append(what)


rows = one("select count(*) from expected")
check("aggregates", one("select count(*) from found"), rows)
check("windows", one("select count(distinct window_start) from found"), one("select count(distinct step) from steps"))
check(
    "aggregates equal to the oracle",
    one(
        """
        select count(*) from found join oracle on replace(segment, 'SEG_', '') = sensor and found.window_start = oracle.window_start
        where found.n = oracle.n and abs(found.mean - oracle.mean) < 1e-6 and abs(found.low - oracle.low) < 1e-6
          and abs(found.high - oracle.high) < 1e-6 and found.level = oracle.level and window_end = found.window_start + 300000
        """
    ),
    rows,
)
db.execute(f"create view raw as select * from read_parquet('{raw}/**/*.parquet', hive_partitioning = false)")
check("raw rows", one("select count(*) from raw"), rows)
check("distinct raw offsets", one("select count(*) from (select distinct partition, \"offset\" from raw)"), rows)
check(
    "raw rows equal to the input",
    one(
        """
        select count(*) from raw join expected on replace(segment_id, 'SEG_', '') = sensor and epoch_ms("timestamp") = at_ms
        where abs(speed_kmh - kmh) < 1e-6
        """
    ),
    rows,
)
sys.exit(f"differs: {', '.join(failures)}" if failures else 0)
