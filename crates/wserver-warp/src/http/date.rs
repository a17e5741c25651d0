//! The `Date` of answers (RFC 9110, section 6.6.1).
//!
//! hyper has a clock of its own, which stops when the system's clock is set back, until that has
//! caught up. Only answers that hyper makes itself still use it (400 and 431 for a head that it
//! cannot read): the RFC requires a `Date`, and there a late one is better than none.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use hyper::header::HeaderValue;

thread_local! {
    /// The last second, and its text.
    static LAST: RefCell<(u64, HeaderValue)> =
        const { RefCell::new((u64::MAX, HeaderValue::from_static(""))) };
}

/// The time of day, formatted again only once per second.
pub(crate) fn now() -> HeaderValue {
    with_now(HeaderValue::clone)
}

/// Lends the same value.
pub(crate) fn with_now<T>(take: impl FnOnce(&HeaderValue) -> T) -> T {
    with(SystemTime::now(), take)
}

fn with<T>(now: SystemTime, take: impl FnOnce(&HeaderValue) -> T) -> T {
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second
            && let Ok(new) = HeaderValue::try_from(HttpDate::from(now).to_string())
        {
            (*last, *text) = (second, new);
        }
        take(text)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_date_follows_a_clock_that_is_set_back() {
        let noon = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (now, expected) in [
            (noon, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (noon + Duration::from_millis(900), "Sun, 06 Nov 1994 08:49:37 GMT"),
            (noon + Duration::from_secs(1), "Sun, 06 Nov 1994 08:49:38 GMT"),
            (noon - Duration::from_secs(3 * 86_400), "Thu, 03 Nov 1994 08:49:37 GMT"),
            (noon, "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            assert_eq!(with(now, HeaderValue::clone), expected);
        }
    }
}
