//! A refusal in full, and its two renderings: the text of version 1, and JSON (RFC 9457).

use std::borrow::Cow;

use http::StatusCode;
use http::header::{
    ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use wserver_protocol::v2::{self, Problem};

use super::kind::ProblemKind;
use super::{Format, Reply, json_as, text};

/// Says in a fixed place what exactly was wrong, beside bodies that older clients know.
pub(crate) const WSERVER_ERROR: HeaderName = HeaderName::from_static("wserver-error");

/// One line of the table in `reply`.
#[derive(Debug)]
pub struct ProblemDetails {
    /// Which problem it is, and so the status.
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
    /// What is not read of the request would be taken for the next one.
    is_closing: bool,
}

impl ProblemDetails {
    /// A refusal with this status, name, title and detail.
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

    /// The limit that was passed, by the name of its setting.
    #[must_use]
    pub fn limit(self, setting: &'static str, limit: usize) -> Self {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        Self { limit: Some((setting, limit)), setting: Some(setting), ..self }
    }

    /// The setting that it is about.
    #[must_use]
    pub fn setting(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }

    /// After how many seconds it may be tried again.
    #[must_use]
    pub fn retry(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Which methods are allowed.
    #[must_use]
    pub fn allow(self, methods: &'static str) -> Self {
        Self { allow: Some(methods), ..self }
    }

    /// The connection is to end behind it.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { is_closing: true, ..self }
    }

    /// The same as an item of a batch has it.
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

    /// The body for who reads text. Version 1 has promised those of 400; the others say why, for
    /// whoever sees no header.
    fn text(&self) -> Cow<'static, str> {
        match self.kind.status() {
            StatusCode::BAD_REQUEST => self.title.into(),
            _ => format!("{}: {}", self.title, self.detail).into(),
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn reply(&self, format: Format) -> Reply {
        let mut reply = match format {
            Format::Text => text(self.kind.status(), self.text()),
            Format::Json => {
                json_as(self.kind.status(), Problem::CONTENT_TYPE, v2::encode(&self.problem()))
            }
        };
        let headers = reply.headers_mut();
        // Reasons are our own words and numbers; should one ever not fit a header, the status still tells.
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

/// A problem that another node has found.
pub(crate) fn problem(problem: &Problem) -> Reply {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_as(status, Problem::CONTENT_TYPE, v2::encode(problem))
}
