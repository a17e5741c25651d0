//! Tests whether the clock of the server, or of the proxy in front, agrees with this machine's
//! clock.

use std::io;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;

use super::report::Report;

/// The difference that tokens may have by default (`jwt.leeway`).
const APART_MAX: Duration = Duration::from_secs(30);

const ADVICE: &str = "one of the two clocks is wrong, so tokens will expire too early or too late; \
                      run chrony or systemd-timesyncd on both machines";

pub(super) fn check(headers: &HeaderMap, now: SystemTime, report: &mut Report) -> io::Result<()> {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return report.skipped("clock", "the answer has no Date");
    };
    let apart = apart(date, now);
    let what = format!("{} s apart from this machine's clock", apart.as_secs());
    if apart > APART_MAX { report.warning("clock", what, ADVICE) } else { report.ok("clock", what) }
}

/// `Date` is truncated to whole seconds.
fn apart(date: SystemTime, now: SystemTime) -> Duration {
    match now.duration_since(date) {
        Ok(behind) => behind.saturating_sub(Duration::from_secs(1)),
        Err(ahead) => ahead.duration(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_no_difference() {
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        for (now, seconds) in [(100_000, 0), (100_999, 0), (132_500, 31), (90_000, 10)] {
            assert_eq!(apart(date, at(now)).as_secs(), seconds, "{now}");
        }
    }
}
