//! Charts as inline SVG: lines over linear, logarithmic and log-nines axes, and stacked bars.
//!
//! Nothing here knows what is drawn. Colours are the page's: `class="s0"` to `s7`.

use std::fmt::Write;

use super::html::escape;

const HEIGHT: f64 = 300.0;
/// Room for labels.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// About the width of a digit of the axes.
const GLYPH: f64 = 7.0;
/// Colours of the page.
pub const COLOURS: usize = 8;
/// About so many ticks on a linear axis.
const TICKS: f64 = 6.0;

/// How values become positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0 on.
    Linear,
    /// Whole decades.
    Log,
    /// Quantiles below 1, so that each further nine is as wide as the one before.
    Nines,
}

/// One axis of a chart.
#[derive(Clone, Copy)]
pub struct Axis {
    /// Below the axis; a vertical one has none, its chart's title says what it shows.
    pub title: &'static str,
    pub scale: Scale,
    pub text: fn(f64) -> String,
}

/// In the units of the axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// It rests on too few samples, and is drawn so.
    pub pale: bool,
}

pub struct Line {
    pub name: String,
    pub points: Vec<Point>,
    pub dashed: bool,
}

impl Line {
    /// Stretches of points that are drawn alike, and whether that is pale: as what leads from or to a pale
    /// point is.
    fn stretches(&self) -> Vec<(Vec<Point>, bool)> {
        let mut stretches: Vec<(Vec<Point>, bool)> = Vec::new();
        for pair in self.points.windows(2) {
            let pale = pair.iter().any(|point| point.pale);
            match stretches.last_mut().filter(|(_, as_before)| *as_before == pale) {
                Some((points, _)) => points.push(pair[1]),
                None => stretches.push((pair.to_vec(), pale)),
            }
        }
        stretches
    }
}

pub struct Chart {
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

/// A position between 0 and 1 along an axis.
struct Map {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Map {
    fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Map {
        let values = values.filter(|value| value.is_finite());
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            let value = Map::raw(scale, value);
            least = least.min(value);
            most = most.max(value);
        }
        if least > most {
            (least, most) = (0.0, 1.0);
        }
        let (from, to) = match scale {
            Scale::Linear => (0.0, most),
            Scale::Log => (least.floor(), most.ceil()),
            Scale::Nines => (0.0, most),
        };
        Map { scale, from, to: if to > from { to } else { from + 1.0 } }
    }

    fn raw(scale: Scale, value: f64) -> f64 {
        match scale {
            Scale::Linear => value,
            // Nothing on a logarithmic axis is below one of its unit: a nanosecond, a record.
            Scale::Log => value.max(1.0).log10(),
            Scale::Nines => -(1.0 - value.clamp(0.0, 0.999_999_9)).log10(),
        }
    }

    fn at(&self, value: f64) -> f64 {
        (Map::raw(self.scale, value) - self.from) / (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = round_step(self.to / TICKS);
                (0..)
                    .map(|index| f64::from(index) * step)
                    .take_while(|&tick| tick <= self.to * 1.001)
                    .collect()
            }
            Scale::Log => (self.from as i32..=self.to as i32).map(|decade| 10f64.powi(decade)).collect(),
            Scale::Nines => {
                let nines = (1..=(self.to + 1e-6) as i32).map(|nines| 1.0 - 10f64.powi(-nines));
                [0.0, 0.5].into_iter().chain(nines).collect()
            }
        }
    }
}

/// Room above the largest value: a line along the upper edge would be taken for the edge.
fn headroom(scale: Scale) -> f64 {
    if scale == Scale::Linear { 1.1 } else { 1.0 }
}

/// The nearest of 1, 2, 5 and their decades that is not below `step`.
fn round_step(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    let rounded = [1.0, 2.0, 5.0, 10.0].into_iter().find(|&factor| factor * decade >= step * 0.999);
    rounded.unwrap_or(10.0) * decade
}

impl Chart {
    /// The chart with its legend, so many units wide.
    pub fn svg(&self, width: f64) -> String {
        let all = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = Map::new(self.x.scale, all().map(|point| point.x));
        let y = Map::new(self.y.scale, all().map(|point| point.y * headroom(self.y.scale)));
        let place_x = |value: f64| LEFT + x.at(value) * (width - LEFT - RIGHT);
        let place_y = |value: f64| HEIGHT - BOTTOM - y.at(value) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(r#"<svg viewBox="0 0 {width} {HEIGHT}" role="img">"#);
        for tick in y.ticks() {
            let at = place_y(tick);
            put(
                &mut out,
                format_args!(
                    r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}"/>"#,
                    width - RIGHT
                ),
            );
            put(
                &mut out,
                format_args!(
                    r#"<text class="ty" x="{}" y="{:.1}">{}</text>"#,
                    LEFT - 8.0,
                    at + 4.0,
                    escape(&(self.y.text)(tick))
                ),
            );
        }
        for tick in x.ticks() {
            let at = place_x(tick);
            put(
                &mut out,
                format_args!(
                    r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{}"/>"#,
                    HEIGHT - BOTTOM
                ),
            );
            let text = (self.x.text)(tick);
            // One that would go beyond the edge ends there.
            let (at, anchor) = match at + text.chars().count() as f64 * GLYPH / 2.0 > width {
                true => (width, r#" style="text-anchor:end""#),
                false => (at, ""),
            };
            put(
                &mut out,
                format_args!(
                    r#"<text class="tx" x="{at:.1}"{anchor} y="{}">{}</text>"#,
                    HEIGHT - BOTTOM + 16.0,
                    escape(&text)
                ),
            );
        }
        put(
            &mut out,
            format_args!(
                r#"<text class="tx title" x="{}" y="{}">{}</text>"#,
                (LEFT + width - RIGHT) / 2.0,
                HEIGHT - 6.0,
                escape(self.x.title)
            ),
        );
        for (index, line) in self.lines.iter().enumerate() {
            let class = format!("s{}{}", index % COLOURS, if line.dashed { " dashed" } else { "" });
            for (points, pale) in line.stretches() {
                let path: Vec<String> = points
                    .iter()
                    .map(|point| format!("{:.1},{:.1}", place_x(point.x), place_y(point.y)))
                    .collect();
                let pale = if pale { " pale" } else { "" };
                put(
                    &mut out,
                    format_args!(r#"<polyline class="line {class}{pale}" points="{}"/>"#, path.join(" ")),
                );
            }
            for point in &line.points {
                let (px, py) = (place_x(point.x), place_y(point.y));
                let lone = match (line.points.len(), point.pale) {
                    (1, true) => " lone pale",
                    (1, false) => " lone",
                    _ => "",
                };
                let tip = format!("{}: {} at {}", line.name, (self.y.text)(point.y), (self.x.text)(point.x));
                put(
                    &mut out,
                    format_args!(
                        r#"<circle class="dot {class}{lone}" cx="{px:.1}" cy="{py:.1}" r="5"><title>{}</title></circle>"#,
                        escape(&tip)
                    ),
                );
            }
        }
        out.push_str("</svg>");
        out.push_str(&legend(self.lines.iter().map(|line| (line.name.as_str(), line.dashed))));
        out
    }
}

/// Horizontal bars of stacked parts, each as long as its share of the longest.
pub fn bars(
    width_all: f64,
    names: &[String],
    rows: &[(String, Vec<f64>)],
    text: fn(f64) -> String,
) -> String {
    const ROW: f64 = 34.0;
    const LABEL: f64 = 120.0;
    const SUM: f64 = 80.0;
    let longest = rows.iter().map(|(_, parts)| parts.iter().sum::<f64>()).fold(f64::MIN_POSITIVE, f64::max);
    let height = ROW * rows.len() as f64;
    let mut out = format!(r#"<svg viewBox="0 0 {width_all} {height}" role="img">"#);
    for (index, (label, parts)) in rows.iter().enumerate() {
        let top = ROW * index as f64 + 5.0;
        let middle = top + 16.0;
        put(
            &mut out,
            format_args!(r#"<text class="ty" x="{}" y="{middle}">{}</text>"#, LABEL - 8.0, escape(label)),
        );
        let sum: f64 = parts.iter().sum();
        let mut x = LABEL;
        for (part, (value, name)) in parts.iter().zip(names).enumerate() {
            let width = value / longest * (width_all - LABEL - SUM);
            let share = value / sum.max(f64::MIN_POSITIVE) * 100.0;
            let tip = format!("{name}: {} ({share:.0} %)", text(*value));
            put(
                &mut out,
                format_args!(
                    r#"<rect class="bar s{}" x="{x:.1}" y="{top}" width="{width:.1}" height="24"><title>{}</title></rect>"#,
                    part % COLOURS,
                    escape(&tip)
                ),
            );
            if width > 36.0 {
                put(
                    &mut out,
                    format_args!(
                        r#"<text class="share" x="{:.1}" y="{middle}">{share:.0} %</text>"#,
                        x + width / 2.0
                    ),
                );
            }
            x += width;
        }
        put(&mut out, format_args!(r#"<text x="{:.1}" y="{middle}">{}</text>"#, x + 8.0, escape(&text(sum))));
    }
    out.push_str("</svg>");
    out.push_str(&legend(names.iter().map(|name| (name.as_str(), false))));
    out
}

fn legend<'a>(names: impl Iterator<Item = (&'a str, bool)>) -> String {
    let mut out = String::from(r#"<p class="legend">"#);
    for (index, (name, dashed)) in names.enumerate() {
        let dashed = if dashed { " dashed" } else { "" };
        put(
            &mut out,
            format_args!(r#"<span><i class="s{}{dashed}"></i>{}</span>"#, index % COLOURS, escape(name)),
        );
    }
    out.push_str("</p>");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_nine_is_as_wide_as_the_one_before() {
        let map = Map::new(Scale::Nines, [0.0, 0.9, 0.999].into_iter());
        let places = [0.0, 0.9, 0.99, 0.999].map(|quantile| (map.at(quantile) * 3.0).round());
        assert_eq!(places, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(map.ticks().len(), 5);
    }

    #[test]
    fn axes_have_round_ticks() {
        let linear = Map::new(Scale::Linear, [3.0, 97.0].into_iter());
        assert_eq!(linear.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
        let log = Map::new(Scale::Log, [120.0, 45_000.0].into_iter());
        assert_eq!(log.ticks(), [100.0, 1000.0, 10_000.0, 100_000.0]);
        assert_eq!(Map::new(Scale::Linear, [].into_iter()).at(1.0), 1.0, "an empty chart has an axis");
    }

    #[test]
    fn the_last_label_of_an_axis_is_not_cut_off() {
        let text =
            |quantile: f64| format!("p{:.7}", quantile * 100.0).trim_end_matches(['0', '.']).to_owned();
        let x = Axis { title: "t", scale: Scale::Nines, text };
        let y = Axis { title: "t", scale: Scale::Linear, text: |value| format!("{value}") };
        let points = [(0.0, 1.0), (0.99999, 2.0)].map(|(x, y)| Point { x, y, pale: false }).to_vec();
        let line = Line { name: "a".to_owned(), points, dashed: false };
        let svg = Chart { x, y, lines: vec![line] }.svg(500.0);
        let label = r#"<text class="tx" x="500.0" style="text-anchor:end" y="276">p99.999</text>"#;
        assert!(svg.contains(label), "{svg}");
        assert_eq!(svg.matches("text-anchor:end").count(), 1, "{svg}");
    }

    #[test]
    fn a_chart_has_a_line_and_a_tip_for_every_point_and_pale_parts() {
        let axis = Axis { title: "t", scale: Scale::Linear, text: |value| format!("{value}") };
        let points = [(0.0, false), (1.0, false), (2.0, true), (3.0, false), (4.0, false)];
        let line = Line {
            name: "a<b".to_owned(),
            points: points.map(|(x, pale)| Point { x, y: if x == 2.0 { 9.0 } else { 1.0 }, pale }).to_vec(),
            dashed: false,
        };
        let stretches: Vec<(usize, bool)> =
            line.stretches().iter().map(|(points, pale)| (points.len(), *pale)).collect();
        assert_eq!(stretches, [(2, false), (3, true), (2, false)]);
        let svg = Chart { x: axis, y: axis, lines: vec![line] }.svg(500.0);
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert_eq!(svg.matches("<circle").count(), 5);
        assert!(
            svg.matches(" pale").count() == 1 && svg.contains("a&lt;b: 9 at 2") && !svg.contains("NaN"),
            "{svg}"
        );
    }
}
