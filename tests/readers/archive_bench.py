"""What PyArrow and DuckDB make of the same rows: size, CPU time for writing and for reading, on one thread.

Usage: archive_bench.py FILE SEGMENT

FILE is one that the archive wrote; the others are written beside it. Prints a JSON object.
"""

import json
import os
import pathlib
import sys
import time

import duckdb
import pyarrow
import pyarrow.parquet

ours, segment = pathlib.Path(sys.argv[1]), sys.argv[2]
pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)
duckdb.sql("set threads = 1")
ROUNDS = 3


def cpu(work):
    """The least CPU seconds of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


class Counting:
    """A file that counts what is read of it."""

    closed = False

    def __init__(self, path):
        self.file, self.bytes = open(path, "rb"), 0

    def read(self, size=-1):
        found = self.file.read(size)
        self.bytes += len(found)
        return found

    def seek(self, *where):
        return self.file.seek(*where)

    def tell(self):
        return self.file.tell()

    def close(self):
        self.closed = True
        self.file.close()


rows = pyarrow.parquet.read_table(ours, partitioning=None, use_threads=False)
written = {
    "pyarrow, zstd 1": (
        ours.with_suffix(".pyarrow"),
        lambda path: pyarrow.parquet.write_table(rows, path, compression="zstd", compression_level=1),
    ),
    "DuckDB, zstd 1": (
        ours.with_suffix(".duckdb"),
        lambda path: duckdb.sql(f"copy t to '{path}' (format parquet, compression zstd, compression_level 1)"),
    ),
}
duckdb.sql("create table t as select * from rows")
report = {"rows": rows.num_rows, "files": []}
sizes = [("this archive", ours, None)]
for name, (path, write) in written.items():
    sizes.append((name, path, cpu(lambda: write(path))))
for name, path, seconds in sizes:
    scan = cpu(
        lambda: duckdb.sql(
            f"select segment_id, avg(speed_kmh), count(*) from read_parquet('{path}') group by all"
        ).fetchall()
    )
    whole = cpu(lambda: pyarrow.parquet.read_table(path, partitioning=None, use_threads=False))
    counting = Counting(path)
    found = pyarrow.parquet.read_table(
        pyarrow.PythonFile(counting, mode="r"), filters=[("segment_id", "=", segment)], use_threads=False, pre_buffer=False
    )
    point = cpu(
        lambda: duckdb.sql(f"select * from read_parquet('{path}') where segment_id = '{segment}'").fetchall()
    )
    report["files"].append(
        {
            "writer": name,
            "bytes": os.path.getsize(path),
            "write_cpu_s": seconds,
            "duckdb_scan_cpu_s": scan,
            "pyarrow_read_cpu_s": whole,
            "duckdb_point_cpu_s": point,
            "point_rows": found.num_rows,
            "point_bytes": counting.bytes,
        }
    )
print(json.dumps(report))
