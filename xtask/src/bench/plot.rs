//! Charts as SVG: panels side by side with the same x, dots with their spread, and a line through
//! them.
//!
//! Drawn by hand, because the charts are a few dots on a logarithmic axis, in colours that follow
//! the reader's light or dark page; the drawing crates write their colours into each element.

use std::fmt::Write as _;

use super::runs::{Series, figure};

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
/// Space for the label below a dot.
const LABEL: f64 = 36.0;

const STYLE: &str = "text{font:11px sans-serif;fill:#444}.title{font-weight:bold}\
    .grid{stroke:#888;stroke-opacity:.25}.line{fill:none;stroke:#2a7de1;stroke-width:2}\
    .spread{stroke:#2a7de1;stroke-opacity:.5}.dot{fill:#2a7de1}\
    @media(prefers-color-scheme:dark){text{fill:#ccc}}";

/// One figure over all x.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// Whether the axis is logarithmic; otherwise it starts at zero.
    pub(super) is_log: bool,
    pub(super) dots: Vec<Dot>,
}

#[derive(Debug, Clone)]
pub(super) struct Dot {
    pub(super) x: f64,
    /// The text for this x.
    pub(super) label: String,
    pub(super) y: Series,
}

/// Maps values to positions on a line of this many pixels.
struct Scale {
    is_log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(is_log: bool, values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::MIN, f64::max);
        let (from, to) = if is_log { (least / 1.25, most * 1.25) } else { (0.0, most * 1.15) };
        Self { is_log, from, to }
    }

    /// Between 0 and 1.
    fn place(&self, value: f64) -> f64 {
        match self.is_log {
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        }
    }

    /// Three to ten round values in the range.
    fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let powers = (-9..=12).map(|power| 10_f64.powi(power));
            let ticks = |digits: &'static [f64]| -> Vec<f64> {
                let values =
                    powers.clone().flat_map(|it| digits.iter().map(move |digit| it * digit));
                values.filter(|it| (self.from..=self.to).contains(it)).collect()
            };
            let fine: [&[f64]; 3] =
                [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]];
            return fine.into_iter().map(ticks).find(|it| it.len() > 2).unwrap_or_default();
        }
        let step = 10_f64.powf((self.to / 4.0).log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|it| it * step).into_iter().find(|it| self.to / it <= 6.0);
        let step = step.unwrap_or(self.to);
        (0..10).map(|at| f64::from(at) * step).take_while(|it| *it <= self.to).collect()
    }
}

/// The complete picture; `x_label` names the x of all panels.
pub(super) fn svg(x_label: &str, panels: &[Panel]) -> String {
    let width = WIDTH * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
         height=\"{HEIGHT}\" role=\"img\">\n<style>{STYLE}</style>\n"
    );
    for (at, panel) in panels.iter().enumerate().filter(|(_, it)| !it.dots.is_empty()) {
        let _ = writeln!(out, "<g transform=\"translate({} 0)\">", WIDTH * at as f64);
        draw(&mut out, x_label, panel);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, x_label: &str, panel: &Panel) {
    let dots = panel.dots.iter();
    let xs = Scale::new(true, dots.clone().map(|dot| dot.x));
    let ys = Scale::new(panel.is_log, dots.flat_map(|dot| [dot.y.low, dot.y.high]));
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let x_at = |x| LEFT + xs.place(x) * (right - LEFT);
    let y_at = |y| bottom - ys.place(y) * (bottom - TOP);
    let _ = writeln!(out, "<text class=\"title\" x=\"{LEFT}\" y=\"18\">{}</text>", panel.title);
    for y in ys.ticks() {
        let at = y_at(y);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            tick(y)
        );
    }
    let mut line = String::new();
    let mut marks = String::new();
    let (mut before, mut is_lower) = (f64::NEG_INFINITY, false);
    for Dot { x, label, y } in &panel.dots {
        let (at, middle) = (x_at(*x), y_at(y.median));
        // If labels would touch, every other one is placed lower.
        is_lower = !is_lower && at - before < LABEL;
        before = at;
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            bottom + if is_lower { 26.0 } else { 14.0 }
        );
        let _ = write!(line, "{}{at:.1} {middle:.1}", if line.is_empty() { 'M' } else { 'L' });
        let _ = writeln!(
            marks,
            "<path class=\"spread\" d=\"M{at:.1} {:.1}V{:.1}\"/>\
             <circle class=\"dot\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"3.5\"><title>{y}</title></circle>",
            y_at(y.low),
            y_at(y.high)
        );
    }
    let _ = writeln!(out, "<path class=\"line\" d=\"{line}\"/>\n{marks}");
    let middle = f64::midpoint(LEFT, right);
    let y = HEIGHT - 10.0;
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\">{x_label}</text>");
}

/// A round value, as short as possible.
fn tick(value: f64) -> String {
    let short = |value: f64, unit: &str| {
        let text = format!("{value:.3}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value.abs() {
        it if it >= 1e6 => short(value / 1e6, " M"),
        it if it >= 1e3 => short(value / 1e3, " k"),
        it if it >= 0.01 || it == 0.0 => short(value, ""),
        _ => figure(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_has_a_handful_of_round_ticks() {
        for (is_log, least, most, ticks) in [
            (true, 1.0, 4096.0, "1 10 100 1 k"),
            (true, 20.0, 70.0, "20 30 40 50 70"),
            (true, 1000.0, 1300.0, "1 k 1.2 k 1.5 k"),
            (false, 900.0, 1200.0, "0 500 1 k"),
            (false, 3.0, 9.0, "0 2 4 6 8 10"),
            (false, 1000.0, 3086.0, "0 1 k 2 k 3 k"),
        ] {
            let scale = Scale::new(is_log, [least, most].into_iter());
            let found: Vec<String> = scale.ticks().into_iter().map(tick).collect();
            assert_eq!(found.join(" "), ticks, "{least} to {most}");
            assert!((0.0..0.8).contains(&scale.place(least)));
            assert!((0.0..1.0).contains(&scale.place(most)));
        }
    }

    #[test]
    fn labels_that_would_touch_stand_in_two_rows() {
        let dot = |x: f64| Dot { x, label: tick(x), y: Series::of(vec![1.0]).unwrap() };
        let dots = [1e3, 6e4, 12e4, 24e4, 48e4].map(dot).to_vec();
        let svg = svg("connections", &[Panel { title: "a", is_log: true, dots }]);
        let row = |label: &str| {
            let end = svg.find(&format!(" text-anchor=\"middle\">{label}<")).unwrap();
            let from = svg[..end].rfind("y=").unwrap();
            svg[from..end].to_owned()
        };
        let [high, low] = ["1 k", "120 k"].map(row);
        assert_ne!(high, low);
        assert_eq!(["60 k", "240 k", "480 k"].map(row), [high.clone(), high, low]);
    }

    #[test]
    fn every_dot_is_drawn() {
        let dot = |x: f64, y| Dot { x, label: tick(x), y: Series::of(vec![y]).unwrap() };
        let dots = vec![dot(1.0, 5.0), dot(10.0, 50.0), dot(1000.0, 70.0)];
        let panels = [
            Panel { title: "a", is_log: true, dots: dots.clone() },
            Panel { title: "b", is_log: false, dots },
            Panel { title: "empty", is_log: false, dots: Vec::new() },
        ];
        let svg = svg("connections", &panels);
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
