//! The page of metrics, in Prometheus' text format.

use std::fmt::{self, Display, Write as _};

use wserver_node::Histogram;

/// The part that carries requests and connections, as far as answers need it.
pub trait Carrier: Send + Sync + 'static {
    /// Adds the carrier's counters to the page of metrics. Any thread may call it.
    fn write_metrics(&self, page: &mut Page);
}

/// The page, family by family: a head with the help text, then the samples.
#[derive(Debug)]
pub struct Page(String);

impl Default for Page {
    fn default() -> Self {
        Self(String::with_capacity(16 * 1024))
    }
}

impl Page {
    /// The page as text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// Begins a family of gauges.
    pub fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    /// Begins a family of counters.
    pub fn counter(&mut self, name: &str, help: &str) {
        self.head(name, "counter", help);
    }

    /// A family that is one gauge.
    pub fn one_gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    /// A family that is one counter.
    pub fn one_counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.counter(name, help);
        self.sample(name, &[], value);
    }

    /// A family of counters; one label distinguishes them.
    pub fn labelled<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, u64)>,
    ) {
        self.counter(name, help);
        for (value, count) in values {
            self.sample(name, &[(label, value)], count);
        }
    }

    /// A family that is a histogram, in seconds.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let bounds = Histogram::BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(histogram.counts()) {
            below += count;
            self.sample(&bucket, &[("le", bound.as_str())], below);
        }
        self.sample(&format!("{name}_sum"), &[], histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), &[], below);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Adds a sample to the family that was begun last.
    ///
    /// Labels are our own words, in which nothing needs an escape.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{value}\"");
        }
        self.line(format_args!("{} {value}", if labels.is_empty() { "" } else { "}" }));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.one_gauge("a", "What a is.", 1);
        page.counter("b_total", "What b is.");
        page.sample("b_total", &[("reason", "x"), ("code", "1000")], 2);
        assert_eq!(
            page.0,
            "# HELP a What a is.\n# TYPE a gauge\na 1\n\
             # HELP b_total What b is.\n# TYPE b_total counter\nb_total{reason=\"x\",code=\"1000\"} 2\n"
        );
    }

    #[test]
    fn buckets_hold_what_smaller_ones_hold() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(20), 2);
        histogram.observe(Duration::from_secs(9), 1);
        let mut page = Page::default();
        page.histogram("h_seconds", "Help.", &histogram);
        for line in [
            "h_seconds_bucket{le=\"0.00001\"} 0",
            "h_seconds_bucket{le=\"0.000025\"} 2",
            "h_seconds_bucket{le=\"2.5\"} 2",
            "h_seconds_bucket{le=\"+Inf\"} 3",
            "h_seconds_sum 9.00004",
            "h_seconds_count 3",
        ] {
            assert!(page.0.lines().any(|it| it == line), "{line} in {}", page.0);
        }
    }
}
