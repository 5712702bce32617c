//! A picture of one corridor: speed over time and space, as SVG.

use std::fmt::{self, Write};

use super::calendar::{ZONE, local};
use super::faults::FaultKind;
use super::field::{Field, SAMPLE_MS};
use super::generator::GeneratorConfig;
use super::network::{Corridor, Network};
use super::simulation;
use crate::picture::{self, Area};

const HOUR_MS: i64 = 3_600_000;
const BIN_KMH: usize = 5;
const BINS: usize = 24;
const MOST_COLUMNS: i64 = 480;
const LEFT: f64 = 80.0;
const TOP: f64 = 60.0;
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 480.0;
const AREA: Area = Area { left: LEFT, top: TOP, width: WIDTH, height: HEIGHT };

/// Colours at every 20 km/h: red where traffic stands, green where it is free.
const COLOURS: [(f64, f64, f64); 7] = [
    (90.0, 0.0, 20.0),
    (203.0, 24.0, 29.0),
    (244.0, 109.0, 40.0),
    (254.0, 217.0, 80.0),
    (166.0, 217.0, 106.0),
    (60.0, 165.0, 90.0),
    (0.0, 104.0, 55.0),
];

/// Draws the corridor from the configuration's start until `until_ms`.
pub fn draw(config: &GeneratorConfig, corridor: &Corridor, until_ms: i64) -> String {
    let frame = Frame::new(config, corridor, until_ms);
    let mut svg = String::new();
    let written = frame.write(&mut svg, config);
    written.expect("a string takes everything");
    svg
}

struct Frame<'a> {
    corridor: &'a Corridor,
    network: Network,
    from_ms: i64,
    until_ms: i64,
    length_km: f64,
}

impl<'a> Frame<'a> {
    fn new(config: &GeneratorConfig, corridor: &'a Corridor, until_ms: i64) -> Self {
        let network = Network::new(config.seed, config.segments);
        let length_km = network.along(corridor).iter().map(|s| s.length_km).sum();
        Self {
            corridor,
            network,
            from_ms: config.start_ms,
            until_ms: until_ms.max(config.start_ms + 60_000),
            length_km,
        }
    }

    fn x(&self, at_ms: i64) -> f64 {
        let at_ms = at_ms.clamp(self.from_ms, self.until_ms);
        LEFT + WIDTH * to_f64(at_ms - self.from_ms) / to_f64(self.until_ms - self.from_ms)
    }

    /// Downstream is up.
    fn y(&self, km: f64) -> f64 {
        TOP + HEIGHT * (1.0 - km / self.length_km)
    }

    fn write(&self, out: &mut String, config: &GeneratorConfig) -> fmt::Result {
        let (width, height) = (LEFT + WIDTH + 150.0, TOP + HEIGHT + 70.0);
        let title = format!(
            "Speed on {}, simulated (seed {}); incidents outlined blue, silent sensors white",
            self.corridor.name, config.seed
        );
        picture::begin(out, (width, height), LEFT, &title)?;
        self.speeds(out, config)?;
        self.lanes(out)?;
        self.incidents(out, config)?;
        self.silences(out, config)?;
        AREA.border(out)?;
        self.axes(out)?;
        legend(out)?;
        picture::end(out)
    }

    /// One path for each colour.
    fn speeds(&self, out: &mut String, config: &GeneratorConfig) -> fmt::Result {
        let mut paths = vec![String::new(); BINS];
        for (segment, row) in self.network.along(self.corridor).iter().zip(self.bins(config)) {
            let (top, bottom) = (self.y(segment.position_km + segment.length_km), self.y(segment.position_km));
            let mut runs = row.chunk_by(|a, b| a.1 == b.1);
            let mut begin = runs.next();
            while let Some(run) = begin {
                begin = runs.next();
                let end_ms = begin.map_or(self.until_ms, |next| next[0].0);
                let (left, right) = (self.x(run[0].0), self.x(end_ms));
                write!(paths[run[0].1], "M{left:.1} {top:.1}H{right:.1}V{bottom:.1}H{left:.1}z")?;
            }
        }
        for (bin, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            let colour = colour(bin);
            writeln!(out, r#"<path fill="{colour}" stroke="{colour}" stroke-width="0.3" d="{path}"/>"#)?;
        }
        Ok(())
    }

    /// For each segment, (begin of a column, colour).
    fn bins(&self, config: &GeneratorConfig) -> Vec<Vec<(i64, usize)>> {
        let columns_ms = (self.until_ms - self.from_ms) / MOST_COLUMNS;
        let column_ms = (columns_ms / SAMPLE_MS + 1).max(2) * SAMPLE_MS;
        let (seed, rate) = (config.seed, config.incidents);
        let mut field = Field::new(self.network.clone(), seed, rate, self.from_ms, column_ms + SAMPLE_MS);
        let mut rows = vec![Vec::new(); self.corridor.segments.len()];
        let mut at_ms = self.from_ms;
        while at_ms < self.until_ms {
            field.cover(at_ms + column_ms);
            for (row, segment) in rows.iter_mut().zip(self.corridor.segments.clone()) {
                row.push((at_ms, bin(field.truth(segment, at_ms + column_ms - 1, column_ms).speed_kmh)));
            }
            at_ms += column_ms;
        }
        rows
    }

    /// A dashed line where a lane ends.
    fn lanes(&self, out: &mut String) -> fmt::Result {
        for pair in self.network.along(self.corridor).windows(2).filter(|pair| pair[0].lanes != pair[1].lanes) {
            let (y, right) = (self.y(pair[1].position_km), LEFT + WIDTH);
            writeln!(
                out,
                r#"<path d="M{LEFT} {y:.1}H{right}" stroke="white" stroke-dasharray="6 4"/><text x="{}" y="{}" fill="white" text-anchor="end">{} to {} lanes</text>"#,
                right - 6.0,
                y - 4.0,
                pair[0].lanes,
                pair[1].lanes
            )?;
        }
        Ok(())
    }

    fn incidents(&self, out: &mut String, config: &GeneratorConfig) -> fmt::Result {
        let here = |i: &super::Incident| self.corridor.segments.contains(&i.segment);
        for incident in super::incidents(config, self.until_ms).iter().filter(|i| here(i)) {
            let lost = (incident.capacity_lost * 100.0).round();
            let title = format!("{}: {lost} % of the capacity lost", incident.id);
            let style = r##"fill="none" stroke="#0b1f8f" stroke-width="2.5""##;
            self.outline(out, incident.segment, (incident.begin_ms, incident.end_ms), style, &title)?;
        }
        Ok(())
    }

    fn silences(&self, out: &mut String, config: &GeneratorConfig) -> fmt::Result {
        let silent = simulation::faults(config, self.until_ms).into_iter();
        let silent = silent.filter(|(s, f)| f.kind == FaultKind::Silent && self.corridor.segments.contains(s));
        for (segment, fault) in silent {
            let style = r##"fill="white" fill-opacity="0.75" stroke="#777""##;
            self.outline(out, segment, (fault.begin_ms, fault.end_ms), style, "the sensor is silent")?;
        }
        Ok(())
    }

    fn outline(
        &self,
        out: &mut String,
        segment: usize,
        (begin_ms, end_ms): (i64, i64),
        style: &str,
        title: &str,
    ) -> fmt::Result {
        let place = &self.network.segments[segment];
        let (left, top) = (self.x(begin_ms), self.y(place.position_km + place.length_km));
        let (width, height) = (self.x(end_ms) - left, self.y(place.position_km) - top);
        writeln!(
            out,
            r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" {style}><title>{title}</title></rect>"#
        )
    }

    fn axes(&self, out: &mut String) -> fmt::Result {
        let hours = (self.until_ms - self.from_ms).div_euclid(HOUR_MS) + 1;
        let step_ms =
            [1, 2, 3, 6, 12, 24].into_iter().find(|step| hours / step <= 13).unwrap_or(24 * (hours / 312 + 1));
        let step_ms = step_ms * HOUR_MS;
        let begin = local(self.from_ms);
        let since_midnight_ms =
            i64::from(begin.hour()) * HOUR_MS + i64::from(begin.minute()) * 60_000 + i64::from(begin.second()) * 1_000;
        let mut at_ms = self.from_ms - since_midnight_ms + -(-since_midnight_ms).div_euclid(step_ms) * step_ms;
        while at_ms <= self.until_ms {
            AREA.mark_x(out, self.x(at_ms), &local(at_ms).strftime("%H:%M").to_string())?;
            at_ms += step_ms;
        }
        let from = begin.strftime("%A %Y-%m-%d");
        AREA.name_x(out, &format!("local time (hh:mm, {ZONE}) from {from}"))?;
        let mut km = 0.0;
        while km <= self.length_km {
            AREA.mark_y(out, self.y(km), &km.to_string())?;
            km += if self.length_km > 12.0 { 5.0 } else { 1.0 };
        }
        AREA.name_y(out, "position (km; traffic moves up)")
    }
}

fn legend(out: &mut String) -> fmt::Result {
    let (left, each) = (LEFT + WIDTH + 30.0, HEIGHT / to_f64(BINS as i64));
    for bin in 0..BINS {
        let y = TOP + HEIGHT - to_f64(bin as i64 + 1) * each;
        writeln!(out, r#"<rect x="{left}" y="{y}" width="22" height="{:.1}" fill="{}"/>"#, each + 0.3, colour(bin))?;
        if bin % 4 == 0 {
            writeln!(out, r#"<text x="{}" y="{:.1}">{}</text>"#, left + 28.0, y + each + 4.5, bin * BIN_KMH)?;
        }
    }
    writeln!(out, r#"<text x="{left}" y="{}">speed (km/h)</text>"#, TOP - 12.0)
}

fn bin(speed_kmh: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed")]
    let bin = speed_kmh as usize / BIN_KMH;
    bin.min(BINS - 1)
}

/// The colour of a bin, from its middle.
fn colour(bin: usize) -> String {
    let at = (to_f64(bin as i64) + 0.5) * 5.0 / 20.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0-5")]
    let low = (at as usize).min(COLOURS.len() - 2);
    let (from, to, part) = (COLOURS[low], COLOURS[low + 1], at - at.floor());
    let mix = |a: f64, b: f64| a + (b - a) * part;
    format!("rgb({:.0},{:.0},{:.0})", mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

fn to_f64(n: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a stretch of time in milliseconds, or a few")]
    let n = n as f64;
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_names_what_it_shows() {
        let config = GeneratorConfig { segments: 60, incidents: 2.0, dropouts: 2.0, ..GeneratorConfig::default() };
        let network = Network::new(config.seed, config.segments);
        let corridor = network.corridor("I405_S").expect("a corridor");
        let svg = draw(&config, corridor, config.start_ms + 12 * HOUR_MS);
        for part in
            ["I405_S", "speed (km/h)", "position (km", "local time", "12:00", "lanes</text>", "% of the capacity"]
        {
            assert!(svg.contains(part), "{part}");
        }
        assert!(svg.contains("the sensor is silent") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<rect").count() + svg.matches("<path").count() + svg.matches("<text").count() + 1, {
            let closed = svg.matches("/>").count() + svg.matches("</rect>").count() + svg.matches("</text>").count();
            closed + 1
        });
        let numbers = svg.split([' ', '"', 'M', 'H', 'V']).filter_map(|n| n.parse::<f64>().ok());
        assert!(numbers.into_iter().all(f64::is_finite));
    }

    #[test]
    fn colours_go_from_red_to_green() {
        assert_eq!((bin(0.0), bin(4.9), bin(5.0), bin(500.0)), (0, 0, 1, BINS - 1));
        let colours: std::collections::HashSet<String> = (0..BINS).map(colour).collect();
        assert_eq!(colours.len(), BINS);
    }
}
