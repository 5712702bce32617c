//! LightGBM on the same matrix, through Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use predictor::forecast::boosting::Settings;

const SCRIPT: &str = include_str!("lightgbm.py");

/// What it took, and what it said of each later row.
pub struct Other {
    pub version: String,
    pub fit_cpu_s: f64,
    pub fit_s: f64,
    /// 2,000 rows on one thread.
    pub frame_ms: f64,
    pub forecasts: Vec<f32>,
}

/// The Python that has LightGBM, or why there is none.
#[expect(clippy::disallowed_methods, reason = "where Python is")]
pub fn python() -> Result<PathBuf, &'static str> {
    let python = std::env::var_os("TRAFFIC_TEST_PYTHON").ok_or("TRAFFIC_TEST_PYTHON is not set")?;
    let has = Command::new(&python).args(["-c", "import lightgbm, numpy"]).output();
    match has {
        Ok(output) if output.status.success() => Ok(python.into()),
        _ => Err("the Python of TRAFFIC_TEST_PYTHON has no lightgbm: pip install lightgbm numpy"),
    }
}

/// Fits to rows of `columns` features as `settings` say, and forecasts the rows of `later`.
pub fn fit(
    python: &Path,
    (rows, targets): (&[f32], &[f32]),
    later: &[f32],
    columns: usize,
    settings: &Settings,
    threads: usize,
) -> Other {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, numbers: &[f32]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        std::fs::write(folder.path().join(name), bytes).expect("room");
    };
    write("fit.f32", rows);
    write("targets.f32", targets);
    write("later.f32", later);
    let parameters = serde_json::json!({
        "columns": columns,
        "trees": settings.trees,
        "objective": "regression_l1",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.leaf_rows,
        "max_bin": 127,
        "bagging_fraction": settings.row_share,
        "bagging_freq": 1,
        "feature_fraction": settings.column_share,
        "seed": settings.seed,
        "num_threads": threads,
        "verbosity": -1,
    });
    let run = Command::new(python).args(["-c", SCRIPT]).arg(folder.path()).arg(parameters.to_string()).output();
    let run = run.expect("Python");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    let number = |name: &str| said[name].as_f64().expect("a number");
    let bytes = std::fs::read(folder.path().join("forecasts.f32")).expect("forecasts");
    let forecasts = bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
    Other {
        version: said["version"].as_str().expect("a version").to_owned(),
        fit_cpu_s: number("fit_cpu_s"),
        fit_s: number("fit_s"),
        frame_ms: number("frame_ms"),
        forecasts,
    }
}
