//! What the pictures look like.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use common::model::QUANTILES;
use predictor::forecast::calendar::Slot;
use predictor::forecast::series::Series;

use super::super::Report;
use super::{Day, Sums};
use crate::picture::{Area, Axis, Chart, Pen, begin, end, escaped, pen};

/// A picture, or why it can not be written down.
type Svg = Result<String, fmt::Error>;

const AREA: Area = Area { left: 80.0, top: 60.0, width: 820.0, height: 400.0 };
const WHOLE: (f64, f64) = (1_100.0, 530.0);
/// Colours that the colour-blind tell apart (Okabe and Ito 2008).
const COLOURS: [&str; 4] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];
const NAMES: [&str; 4] = ["model", "last value", "historical average", "linear regression"];
/// Best and worst segments shown, of each.
const EXTREMES: usize = 12;
/// Fewer forecasts than this say nothing of a probability.
const ENOUGH: u64 = 50;

fn mean((sum, n): (f64, f64)) -> f64 {
    if n > 0.0 { sum / n } else { f64::NAN }
}

fn largest(numbers: impl IntoIterator<Item = f64>) -> f64 {
    numbers.into_iter().filter(|number| number.is_finite()).fold(0.0, f64::max)
}

/// Mean absolute error by hour of the local day: model and last value, a colour a horizon.
pub fn by_hour(hours: &BTreeMap<u32, [Sums; 24]>, unit: &str, kmh: f64) -> Svg {
    let mut out = String::new();
    begin(&mut out, WHOLE, AREA.left, "Error by the hour of the day that is forecast")?;
    let highest = largest(hours.values().flatten().flat_map(|sums| [mean(sums[0]), mean(sums[1])])) / kmh;
    let marks = (0..=24).step_by(3).map(|hour| (f64::from(hour), format!("{hour:02}:00"))).collect();
    let x = Axis::new("local time", 0.0, 24.0).marked(marks);
    let mut chart = Chart::new(&mut out, AREA, x, Axis::new(&error_in(unit), 0.0, highest * 1.05))?;
    for ((minutes, hours), colour) in hours.iter().zip(COLOURS) {
        for (maker, dashed) in [(1, true), (0, false)] {
            let points = (0..24_u8).zip(hours).map(|(hour, sums)| (f64::from(hour) + 0.5, mean(sums[maker]) / kmh));
            chart.line(points, Pen { colour, dashed })?;
            chart.legend(&format!("{minutes} min, {}", NAMES[maker]), Pen { colour, dashed })?;
        }
    }
    end(&mut out)?;
    Ok(out)
}

/// Mean absolute error by horizon, beside the baselines. The report is in its own unit.
pub fn by_horizon(report: &Report) -> Svg {
    let mut out = String::new();
    begin(&mut out, WHOLE, AREA.left, "Error by horizon")?;
    let errors = |maker: usize| {
        report.horizons.iter().map(move |report| {
            let of = [Some(report.model), Some(report.last_value), Some(report.historical_average), report.linear];
            (f64::from(report.horizon), of[maker].filter(|errors| errors.n > 0).map_or(f64::NAN, |errors| errors.mae))
        })
    };
    let highest = largest((0..NAMES.len()).flat_map(errors).map(|(_, error)| error));
    let longest = largest(report.horizons.iter().map(|report| f64::from(report.horizon)));
    let marks = report.horizons.iter().map(|report| (f64::from(report.horizon), report.horizon.to_string())).collect();
    let x = Axis::new("minutes ahead", 0.0, longest * 1.05).marked(marks);
    let mut chart = Chart::new(&mut out, AREA, x, Axis::new(&error_in(report.unit), 0.0, highest * 1.05))?;
    for maker in (0..NAMES.len()).filter(|maker| errors(*maker).any(|(_, error)| !error.is_nan())) {
        let pen = Pen { colour: COLOURS[maker], dashed: maker > 0 };
        chart.line(errors(maker), pen)?;
        chart.dots(errors(maker), pen.colour)?;
        chart.legend(NAMES[maker], pen)?;
    }
    end(&mut out)?;
    Ok(out)
}

/// How often what was said came true: quantiles on the left, confidence on the right.
pub fn calibration(quantiles: &BTreeMap<u32, ([u64; QUANTILES], u64)>, report: &Report) -> Svg {
    let mut out = String::new();
    begin(&mut out, WHOLE, AREA.left, "Calibration: what was said, and how often it came true")?;
    let left = Area { width: 380.0, ..AREA };
    let share = |name: &str| Axis::new(name, 0.0, 1.0);
    let mut chart = Chart::new(&mut out, left, share("quantile said"), share("share of speeds not above it"))?;
    chart.line([(0.0, 0.0), (1.0, 1.0)], Pen { colour: "#888", dashed: true })?;
    for ((counts, n), colour) in quantiles.values().zip(COLOURS) {
        #[expect(clippy::cast_precision_loss, reason = "numbers of forecasts")]
        let held =
            |(i, count): (u16, &u64)| (f64::from(i) / (QUANTILES as f64 + 1.0), *count as f64 / (*n).max(1) as f64);
        let points: Vec<(f64, f64)> = (1..).zip(counts).map(held).collect();
        chart.line(points.iter().copied(), pen(colour))?;
        chart.dots(points, colour)?;
    }
    let right = Area { left: left.right() + 110.0, ..left };
    let (x, y) = (share("confidence said"), share("share of forecasts within 10 km/h"));
    let mut chart = Chart::new(&mut out, right, x, y)?;
    chart.line([(0.0, 0.0), (1.0, 1.0)], Pen { colour: "#888", dashed: true })?;
    for (minutes, colour) in quantiles.keys().zip(COLOURS) {
        let of = report.horizons.iter().find(|report| report.horizon == *minutes);
        let bins = of.iter().flat_map(|report| &report.confidence.bins).filter(|bin| bin.n >= ENOUGH);
        let points: Vec<(f64, f64)> = bins.map(|bin| (bin.said, bin.held)).collect();
        chart.line(points.iter().copied(), pen(colour))?;
        chart.dots(points, colour)?;
        chart.legend(&format!("{minutes} min"), pen(colour))?;
    }
    chart.legend("ideal", Pen { colour: "#888", dashed: true })?;
    end(&mut out)?;
    Ok(out)
}

/// The segments with the least and the greatest error over all horizons, and the last value's there.
pub fn segments(ids: &[Box<str>], segments: &[Sums], unit: &str, kmh: f64) -> Svg {
    let mut order: Vec<(&str, f64, f64)> = ids
        .iter()
        .zip(segments)
        .map(|(id, sums)| (&**id, mean(sums[0]) / kmh, mean(sums[1]) / kmh))
        .filter(|(_, error, _)| error.is_finite())
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(b.0)));
    if order.len() > 2 * EXTREMES {
        order.drain(EXTREMES..order.len() - EXTREMES);
    }
    let each = 22.0;
    let longest = order.iter().map(|(id, ..)| id.chars().count()).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let (height, left) = (order.len().max(1) as f64 * each, 40.0 + 7.5 * longest.clamp(4, 40) as f64);
    let area = Area { left, top: 60.0, width: 820.0, height };
    let mut out = String::new();
    let whole = (area.right() + 180.0, area.bottom() + 70.0);
    begin(&mut out, whole, area.left, "Segments with the least and the greatest error, all horizons together")?;
    let highest = largest(order.iter().flat_map(|(_, error, last)| [*error, *last]));
    let x = Axis::new(&error_in(unit), 0.0, highest * 1.05);
    let mut chart = Chart::new(&mut out, area, x, Axis::new("", 0.0, 1.0).marked(Vec::new()))?;
    chart.legend(NAMES[0], pen(COLOURS[0]))?;
    chart.legend(NAMES[1], pen(COLOURS[1]))?;
    let mut bars = String::new();
    for (i, (id, error, last)) in (0_u32..).zip(&order) {
        let y = area.top + f64::from(i) * each;
        let (own, last) = (chart.place(*error, 0.0).0, chart.place(*last, 0.0).0);
        area.mark_y(&mut bars, y + each / 2.0, &shortened(id))?;
        writeln!(
            bars,
            r#"<rect x="{left}" y="{:.1}" width="{:.1}" height="{}" fill="{}"><title>{}: {error:.2} {unit}</title></rect>"#,
            y + 4.0,
            own - left,
            each - 8.0,
            COLOURS[0],
            escaped(id)
        )?;
        writeln!(bars, r#"<path d="M{last:.1} {:.1}v{each}" stroke="{}" stroke-width="3"/>"#, y, COLOURS[1])?;
    }
    out.push_str(&bars);
    end(&mut out)?;
    Ok(out)
}

fn shortened(id: &str) -> String {
    if id.chars().count() <= 40 { id.to_owned() } else { id.chars().take(39).chain(['…']).collect() }
}

/// A day of one segment: what was measured, what had been forecast, and the 90 % interval.
pub fn day(day: &Day, series: &Series, slots: &[Slot], unit: &str, kmh: f64) -> Svg {
    let Day { segment, windows, horizon, forecasts } = day;
    let id = &series.segments[*segment];
    let epoch = jiff::civil::date(1970, 1, 1);
    let date = epoch.saturating_add(jiff::Span::new().days(slots[windows.start].date)).strftime("%A %Y-%m-%d");
    let mut out = String::new();
    begin(&mut out, WHOLE, AREA.left, &format!("{id} on {date}, as it was forecast {horizon} minutes before"))?;
    let hour = |window: usize| (f64::from(slots[window].bin) + 0.5) / 12.0;
    let measured = || windows.clone().map(|window| (hour(window), f64::from(series.speeds[*segment][window]) / kmh));
    let forecast = || windows.clone().zip(forecasts).map(|(window, (speed, ..))| (hour(window), speed / kmh));
    let band: Vec<(f64, f64, f64)> =
        windows.clone().zip(forecasts).map(|(window, (_, low, high))| (hour(window), low / kmh, high / kmh)).collect();
    let highest = largest(measured().map(|(_, speed)| speed).chain(band.iter().map(|(_, _, high)| *high)));
    let marks = (0..=24).step_by(3).map(|hour| (f64::from(hour), format!("{hour:02}:00"))).collect();
    let x = Axis::new("local time", 0.0, 24.0).marked(marks);
    let mut chart = Chart::new(&mut out, AREA, x, Axis::new(&format!("speed ({unit})"), 0.0, highest * 1.05))?;
    chart.band(&band, COLOURS[0])?;
    chart.line(forecast(), pen(COLOURS[0]))?;
    chart.line(measured(), pen("black"))?;
    chart.legend("measured", pen("black"))?;
    chart.legend("forecast", pen(COLOURS[0]))?;
    chart.legend("90 % interval", pen("#b8d3e8"))?;
    end(&mut out)?;
    Ok(out)
}

fn error_in(unit: &str) -> String {
    format!("mean absolute error ({unit})")
}
