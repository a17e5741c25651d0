//! Whether a client of `/push` wants JSON: what its `Accept` says (RFC 9110, section 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

use crate::reply::Format;

/// JSON for a client that asks for it by name, or as `application/*`. Clients of version 1 send
/// `*/*` without meaning it. A client that names text and does not prefer JSON gets text: HTTP
/// libraries offer both by default, and the programs that use them compare the text.
pub(crate) fn format(headers: &HeaderMap) -> Format {
    let (mut json, mut text) = (0, 0);
    for range in headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok()) {
        for range in range.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let weight = match parts.next().map(str::to_ascii_lowercase).as_deref() {
                Some("application/json" | "application/*") => &mut json,
                Some("text/plain" | "text/*") => &mut text,
                _ => continue,
            };
            *weight = quality(parts).max(*weight);
        }
    }
    if json > text { Format::Json } else { Format::Text }
}

/// A quality in thousandths; an unreadable one counts as missing.
fn quality<'a>(parameters: impl Iterator<Item = &'a str>) -> u16 {
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("q") {
            let quality: f32 = value.trim().parse().unwrap_or(1.0);
            // `clamp` keeps NaN, which the cast turns into zero.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 1000"
            )]
            return (quality.clamp(0.0, 1.0) * 1000.0) as u16;
        }
    }
    1000
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        for (accept, expected) in [
            (&[][..], Format::Text),
            (&["*/*"], Format::Text),
            (&["text/plain"], Format::Text),
            (&["text/html,*/*;q=0.8"], Format::Text),
            (&["application/json"], Format::Json),
            (&["APPLICATION/JSON"], Format::Json),
            (&["application/json; charset=utf-8"], Format::Json),
            (&["application/json;q=0"], Format::Text),
            (&["application/json;q=0.001"], Format::Json),
            (&["application/json;q=nonsense"], Format::Json),
            (&["application/json;q=NaN"], Format::Text),
            (&["application/*"], Format::Json),
            (&["application/jsonx"], Format::Text),
            (&["text/html", "application/json"], Format::Json),
            // HTTPie, jQuery and fetch wrappers.
            (&["application/json, */*;q=0.5"], Format::Json),
            (&["application/json, text/javascript, */*; q=0.01"], Format::Json),
            // axios and Spring's RestTemplate, whatever the program wants.
            (&["application/json, text/plain, */*"], Format::Text),
            (&["text/plain, application/json, application/*+json, */*"], Format::Text),
            (&["application/json, text/plain;q=0.9"], Format::Json),
            (&["application/json;q=0.5, text/*"], Format::Text),
            // No quality is above 1.
            (&["application/json;q=9, text/plain"], Format::Text),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(format(&headers), expected, "{accept:?}");
        }
    }
}
