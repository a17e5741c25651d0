//! A refusal with all its details, and its two formats: the text of version 1, and JSON (RFC 9457).

use std::borrow::Cow;

use http::StatusCode;
use http::header::{
    ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use wserver_protocol::v2::{self, Problem};

use super::kind::ProblemKind;
use super::{Format, Reply, json_as, text};

/// Always states what exactly was wrong, next to the bodies that older clients know.
pub(crate) const WSERVER_ERROR: HeaderName = HeaderName::from_static("wserver-error");

/// One line of the table in `reply`.
#[derive(Debug)]
pub struct ProblemDetails {
    /// The kind of problem, which determines the status.
    pub kind: ProblemKind,
    /// The problem in words.
    title: &'static str,
    /// What exactly was wrong.
    detail: Cow<'static, str>,
    field: Option<String>,
    limit: Option<(&'static str, u64)>,
    setting: Option<&'static str>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    /// The rest of the request stays unread, and would be read as the next request.
    is_closing: bool,
}

impl ProblemDetails {
    /// The problem in words, the same for all of its kind.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// After how many seconds it makes sense to try again, if it does.
    #[must_use]
    pub const fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// What exactly was wrong. It may repeat what the client sent, but no secret.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A refusal of this kind, with title and detail.
    #[must_use]
    pub fn new(
        kind: ProblemKind,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            title,
            detail: detail.into(),
            field: None,
            limit: None,
            setting: None,
            retry_after: None,
            allow: None,
            is_closing: false,
        }
    }

    /// The field that is wrong.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The limit that was exceeded, by the name of its setting.
    #[must_use]
    pub fn limit(self, setting: &'static str, limit: usize) -> Self {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        Self { limit: Some((setting, limit)), setting: Some(setting), ..self }
    }

    /// The setting concerned.
    #[must_use]
    pub fn setting(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }

    /// The number of seconds after which the client may try again.
    #[must_use]
    pub fn retry(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The methods that the path allows.
    #[must_use]
    pub fn allow(self, methods: &'static str) -> Self {
        Self { allow: Some(methods), ..self }
    }

    /// The connection must end after this reply.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { is_closing: true, ..self }
    }

    /// The refusal as an item of a batch.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let (limit_name, limit) = self.limit.unzip();
        Problem {
            kind: format!("{}{}", Problem::TYPE_PREFIX, self.kind),
            title: self.title.to_owned(),
            status: self.kind.status().as_u16(),
            detail: Some(self.detail.clone().into_owned()),
            field: self.field.clone(),
            limit,
            limit_name: limit_name.map(str::to_owned),
            setting: self.setting.map(str::to_owned),
            retry_after: self.retry_after,
        }
    }

    /// The body in text. Version 1 fixes the bodies of status 400; the others give the reason, for
    /// clients that do not look at headers.
    fn text(&self) -> Cow<'static, str> {
        match self.kind.status() {
            StatusCode::BAD_REQUEST => self.title.into(),
            _ => format!("{}: {}", self.title, self.detail).into(),
        }
    }

    /// The whole reply.
    #[must_use]
    pub fn reply(&self, format: Format) -> Reply {
        let mut reply = match format {
            Format::Text => text(self.kind.status(), self.text()),
            Format::Json => {
                json_as(self.kind.status(), Problem::CONTENT_TYPE, v2::encode(&self.problem()))
            }
        };
        let headers = reply.headers_mut();
        // Details are our own words and numbers. If one ever does not fit into a header, the status
        // still tells.
        if let Ok(why) = HeaderValue::from_str(&self.detail) {
            headers.insert(WSERVER_ERROR, why);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.kind.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.is_closing {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.kind.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade, close"));
        }
        reply
    }
}

/// A problem that another node found.
pub(crate) fn problem(problem: &Problem) -> Reply {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_as(status, Problem::CONTENT_TYPE, v2::encode(problem))
}
