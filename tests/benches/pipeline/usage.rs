//! What a process has used, from `/proc` (Linux).

use std::time::{Duration, Instant};

use tests::Worker;

/// Ticks of `/proc/*/stat` in a second: `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux there is.
const TICKS: f64 = 100.0;

/// What a process used until its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub wall_s: f64,
    /// User and system time of all its threads.
    pub cpu_s: f64,
    /// The most it had resident, MiB.
    pub peak_mib: f64,
}

/// User and system time of a process, s; it may have exited as long as nobody has waited for it.
pub fn cpu_s(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok());
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

fn is_over(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

fn peak_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

/// Watches a process until it ends.
///
/// # Panics
/// If it fails, or runs longer than `deadline`.
pub fn watch(worker: &mut Worker, deadline: Duration) -> Usage {
    let (began, pid, mut peak) = (Instant::now(), worker.pid(), 0.0_f64);
    while !is_over(pid) {
        assert!(began.elapsed() < deadline, "it still runs: {}", worker.log());
        peak = peak.max(peak_mib(pid).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (wall_s, cpu_s) = (began.elapsed().as_secs_f64(), cpu_s(pid).unwrap_or_default());
    let status = worker.wait(deadline);
    assert!(status.success(), "{status}: {}", worker.log());
    Usage { wall_s, cpu_s, peak_mib: peak }
}
