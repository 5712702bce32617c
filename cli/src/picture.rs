//! Pictures as SVG, made by hand: what they all have, and charts with lines, bands and dots.

use std::fmt::{self, Write};

/// The part of a picture that is drawn into.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub fn border(&self, out: &mut String) -> fmt::Result {
        let Self { left, top, width, height } = self;
        writeln!(out, r#"<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="black"/>"#)
    }

    /// A mark below, at `x` of the picture.
    pub fn mark_x(&self, out: &mut String, x: f64, label: &str) -> fmt::Result {
        let bottom = self.bottom();
        writeln!(
            out,
            r#"<path d="M{x:.1} {bottom}v6" stroke="black"/><text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
            bottom + 21.0,
            escaped(label)
        )
    }

    /// A mark on the left, at `y` of the picture.
    pub fn mark_y(&self, out: &mut String, y: f64, label: &str) -> fmt::Result {
        let left = self.left;
        writeln!(
            out,
            r#"<path d="M{left} {y:.1}h-6" stroke="black"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            left - 10.0,
            y + 4.5,
            escaped(label)
        )
    }

    /// What is told from left to right.
    pub fn name_x(&self, out: &mut String, name: &str) -> fmt::Result {
        let (x, y) = (self.left + self.width / 2.0, self.bottom() + 46.0);
        writeln!(out, r#"<text x="{x}" y="{y}" text-anchor="middle">{}</text>"#, escaped(name))
    }

    /// What is told upwards.
    pub fn name_y(&self, out: &mut String, name: &str) -> fmt::Result {
        let (x, y) = (self.left - 52.0, self.top + self.height / 2.0);
        writeln!(
            out,
            r#"<text transform="translate({x} {y}) rotate(-90)" text-anchor="middle">{}</text>"#,
            escaped(name)
        )
    }
}

/// Begins a picture, white but for its title.
pub fn begin(out: &mut String, (width, height): (f64, f64), left: f64, title: &str) -> fmt::Result {
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(out, r#"<rect width="{width}" height="{height}" fill="white"/>"#)?;
    writeln!(out, r#"<text x="{left}" y="30" font-size="18">{}</text>"#, escaped(title))
}

pub fn end(out: &mut String) -> fmt::Result {
    writeln!(out, "</svg>")
}

/// A text as it may stand in XML.
pub fn escaped(text: &str) -> String {
    // Control characters have no place in XML, not even escaped.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What an axis tells, from and to which number, and what is marked.
#[derive(Debug, Clone)]
pub struct Axis {
    name: String,
    from: f64,
    to: f64,
    marks: Vec<(f64, String)>,
}

impl Axis {
    /// Marked at round numbers.
    pub fn new(name: &str, from: f64, to: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let rough = (to - from) / 8.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|k| k * power).into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let digits = if step >= 1.0 { 0.0 } else { (-step.log10()).ceil().max(0.0) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few digits")]
        let digits = digits as usize;
        let first = (from / step).ceil() * step;
        let numbers = (0..40).map(|i| first + step * f64::from(i)).take_while(|at| *at <= to + step * 1e-6);
        Self { name: name.to_owned(), from, to, marks: numbers.map(|at| (at, format!("{at:.digits$}"))).collect() }
    }

    /// With other marks.
    pub fn marked(mut self, marks: Vec<(f64, String)>) -> Self {
        self.marks = marks;
        self
    }
}

/// How something is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Pen {
    pub colour: &'static str,
    pub dashed: bool,
}

pub const fn pen(colour: &'static str) -> Pen {
    Pen { colour, dashed: false }
}

/// Points over two axes, and a legend beside them.
pub struct Chart<'o> {
    out: &'o mut String,
    area: Area,
    x: Axis,
    y: Axis,
    legend: f64,
}

impl<'o> Chart<'o> {
    pub fn new(out: &'o mut String, area: Area, x: Axis, y: Axis) -> Result<Self, fmt::Error> {
        let chart = Self { out, area, x, y, legend: 0.0 };
        for (at, label) in &chart.x.marks {
            area.mark_x(chart.out, chart.place(*at, 0.0).0, label)?;
        }
        for (at, label) in &chart.y.marks {
            let y = chart.place(0.0, *at).1;
            area.mark_y(chart.out, y, label)?;
            writeln!(chart.out, r##"<path d="M{} {y:.1}h{}" stroke="#e4e4e4"/>"##, area.left, area.width)?;
        }
        area.name_x(chart.out, &chart.x.name)?;
        area.name_y(chart.out, &chart.y.name)?;
        area.border(chart.out)?;
        Ok(chart)
    }

    /// Where a point stands in the picture; what lies outside is put on the edge.
    pub fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |axis: &Axis, at: f64| ((at - axis.from) / (axis.to - axis.from)).clamp(0.0, 1.0);
        (
            self.area.left + self.area.width * share(&self.x, x),
            self.area.bottom() - self.area.height * share(&self.y, y),
        )
    }

    /// A line from point to point; NaN interrupts it.
    pub fn line(&mut self, points: impl IntoIterator<Item = (f64, f64)>, pen: Pen) -> fmt::Result {
        let (mut path, mut move_to) = (String::new(), true);
        for (x, y) in points {
            if y.is_nan() {
                move_to = true;
                continue;
            }
            let (x, y) = self.place(x, y);
            write!(path, "{}{x:.1} {y:.1}", if move_to { 'M' } else { 'L' })?;
            move_to = false;
        }
        if path.is_empty() {
            return Ok(());
        }
        let dashes = if pen.dashed { r#" stroke-dasharray="6 4""# } else { "" };
        writeln!(self.out, r#"<path d="{path}" fill="none" stroke="{}" stroke-width="2"{dashes}/>"#, pen.colour)
    }

    /// What lies between two lines: (x, lower, upper).
    pub fn band(&mut self, points: &[(f64, f64, f64)], colour: &str) -> fmt::Result {
        for run in points.split(|(_, low, high)| low.is_nan() || high.is_nan()).filter(|run| !run.is_empty()) {
            let lower = run.iter().map(|(x, low, _)| self.place(*x, *low));
            let upper = run.iter().rev().map(|(x, _, high)| self.place(*x, *high));
            let mut path = String::new();
            for (i, (x, y)) in lower.chain(upper).enumerate() {
                write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' })?;
            }
            writeln!(self.out, r#"<path d="{path}z" fill="{colour}" fill-opacity="0.22"/>"#)?;
        }
        Ok(())
    }

    pub fn dots(&mut self, points: impl IntoIterator<Item = (f64, f64)>, colour: &str) -> fmt::Result {
        for (x, y) in points.into_iter().filter(|(_, y)| !y.is_nan()) {
            let (x, y) = self.place(x, y);
            writeln!(self.out, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4" fill="{colour}"/>"#)?;
        }
        Ok(())
    }

    /// The next line of the legend.
    pub fn legend(&mut self, name: &str, pen: Pen) -> fmt::Result {
        let (x, y) = (self.area.right() + 16.0, self.area.top + 12.0 + self.legend);
        self.legend += 22.0;
        let dashes = if pen.dashed { r#" stroke-dasharray="6 4""# } else { "" };
        writeln!(
            self.out,
            r#"<path d="M{x} {y}h26" stroke="{}" stroke-width="3"{dashes}/><text x="{}" y="{}">{}</text>"#,
            pen.colour,
            x + 34.0,
            y + 4.5,
            escaped(name)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_marked_at_round_numbers() {
        let labels =
            |from, to| -> Vec<String> { Axis::new("", from, to).marks.into_iter().map(|(_, label)| label).collect() };
        assert_eq!(labels(0.0, 60.0), ["0", "10", "20", "30", "40", "50", "60"]);
        assert_eq!(labels(0.3, 1.0), ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]);
        assert_eq!(labels(3.0, 3.0).first().map(String::as_str), Some("3.0"));
    }

    #[test]
    fn lines_stop_at_gaps_and_texts_are_escaped() {
        let mut out = String::new();
        let area = Area { left: 0.0, top: 0.0, width: 100.0, height: 100.0 };
        let mut chart =
            Chart::new(&mut out, area, Axis::new("a<b", 0.0, 10.0), Axis::new("c", 0.0, 10.0)).expect("text");
        let points = [(0.0, 0.0), (5.0, 5.0), (6.0, f64::NAN), (10.0, 20.0)];
        chart.line(points, pen("red")).expect("text");
        assert!(out.contains(r#"d="M0.0 100.0L50.0 50.0M100.0 0.0""#), "{out}");
        assert!(out.contains("a&lt;b") && !out.contains("NaN"));
    }
}
