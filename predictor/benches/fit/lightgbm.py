"""Fits LightGBM to a matrix and forecasts another. Arguments: a folder and a JSON object of parameters, with `columns`.

The folder holds fit.f32, targets.f32 and later.f32 (little-endian, row by row); forecasts.f32 is written there.
"""

import json
import sys
import time

import lightgbm
import numpy

folder, parameters = sys.argv[1], json.loads(sys.argv[2])
columns = parameters.pop("columns")
trees = parameters.pop("trees")
fit = numpy.fromfile(f"{folder}/fit.f32", dtype="<f4").reshape(-1, columns)
targets = numpy.fromfile(f"{folder}/targets.f32", dtype="<f4")
later = numpy.fromfile(f"{folder}/later.f32", dtype="<f4").reshape(-1, columns)

began, began_cpu = time.perf_counter(), time.process_time()
data = lightgbm.Dataset(fit, targets, params={"max_bin": parameters["max_bin"], "verbosity": -1})
model = lightgbm.train(parameters, data, trees)
took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu

model.predict(later, num_threads=parameters["num_threads"]).astype("<f4").tofile(f"{folder}/forecasts.f32")
frame = numpy.resize(later, (2000, columns))
frames = []
for _ in range(15):
    began_frame = time.perf_counter()
    model.predict(frame, num_threads=1)
    frames.append(time.perf_counter() - began_frame)
print(
    json.dumps(
        {
            "version": lightgbm.__version__,
            "fit_cpu_s": took_cpu,
            "fit_s": took,
            "frame_ms": sorted(frames)[len(frames) // 2] * 1e3,
        }
    )
)
