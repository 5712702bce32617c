//! The files beside the events: what the network is, and the truth that nobody tells the sensors.

use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::faults::FaultKind;
use super::generator::GeneratorConfig;
use super::network::Network;
use super::simulation;

/// Writes `segments.csv`, `edges.csv`, `incidents.csv` and `dropouts.csv` of the time until `until_ms`.
///
/// # Errors
/// If the directory can not be made or written.
pub fn write(dir: &Path, network: &Network, config: &GeneratorConfig, until_ms: i64) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("--reference {}", dir.display()))?;
    let file = |name: &str, header: &[&str], rows: Vec<Vec<String>>| {
        let path = dir.join(name);
        table(&path, header, &rows).with_context(|| format!("--reference: {}", path.display()))
    };
    let columns = [
        "segment_id",
        "corridor",
        "direction",
        "latitude",
        "longitude",
        "length_km",
        "lanes",
        "free_flow_kmh",
        "position_km",
    ];
    file("segments.csv", &columns, segments(network))?;
    file("edges.csv", &["from", "to", "distance_km"], edges(network))?;
    let columns = ["incident_id", "segment_id", "begin", "end", "capacity_lost", "lanes_blocked", "lanes"];
    file("incidents.csv", &columns, incidents(config, until_ms))?;
    file("dropouts.csv", &["segment_id", "kind", "begin", "end"], dropouts(network, config, until_ms))
}

/// RFC 3339 in UTC.
pub fn time(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |t| t.to_string())
}

fn table(path: &Path, header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let mut out = csv::Writer::from_path(path)?;
    out.write_record(header)?;
    rows.iter().try_for_each(|row| out.write_record(row))?;
    Ok(out.flush()?)
}

fn segments(network: &Network) -> Vec<Vec<String>> {
    let row = |s: &super::network::Segment| {
        let corridor = &network.corridors[s.corridor];
        vec![
            s.id.clone(),
            corridor.name.clone(),
            corridor.direction.to_owned(),
            format!("{:.6}", s.latitude),
            format!("{:.6}", s.longitude),
            format!("{:.2}", s.length_km),
            s.lanes.to_string(),
            format!("{:.0}", corridor.diagram.free_flow_kmh),
            format!("{:.2}", s.position_km),
        ]
    };
    network.segments.iter().map(row).collect()
}

/// From each segment to the next one downstream, from middle to middle.
fn edges(network: &Network) -> Vec<Vec<String>> {
    let pairs = network.corridors.iter().flat_map(|corridor| network.along(corridor).windows(2));
    let row = |pair: &[super::network::Segment]| {
        let distance_km = f64::midpoint(pair[0].length_km, pair[1].length_km);
        vec![pair[0].id.clone(), pair[1].id.clone(), format!("{distance_km:.3}")]
    };
    pairs.map(row).collect()
}

fn incidents(config: &GeneratorConfig, until_ms: i64) -> Vec<Vec<String>> {
    let row = |i: super::Incident| {
        vec![
            i.id,
            i.segment_id,
            time(i.begin_ms),
            time(i.end_ms),
            i.capacity_lost.to_string(),
            i.lanes_blocked.to_string(),
            i.lanes.to_string(),
        ]
    };
    super::incidents(config, until_ms).into_iter().map(row).collect()
}

fn dropouts(network: &Network, config: &GeneratorConfig, until_ms: i64) -> Vec<Vec<String>> {
    let row = |(sensor, fault): (usize, super::faults::Fault)| {
        let kind = match fault.kind {
            FaultKind::Silent => "SILENT",
            FaultKind::Stuck => "STUCK",
        };
        vec![network.segments[sensor].id.clone(), kind.to_owned(), time(fault.begin_ms), time(fault.end_ms)]
    };
    simulation::faults(config, until_ms).into_iter().map(row).collect()
}
