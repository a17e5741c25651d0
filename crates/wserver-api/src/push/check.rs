//! Checks that apply to every push, of either API.

use wserver_auth::Publisher;
use wserver_core::{EventName, Limits};

use crate::reply::refused::Refused;

/// Finds what is wrong with a push whose publisher may push to its user.
pub(super) fn check(
    limits: &Limits,
    publisher: &Publisher,
    event: &EventName,
    message: &str,
) -> Result<(), Refused> {
    let (bytes, bytes_max) = (message.len(), limits.message_bytes_max);
    if bytes > bytes_max {
        return Err(Refused::MessageTooLarge { bytes, bytes_max });
    }
    if publisher.scope.permits_event(event.as_str()) {
        return Ok(());
    }
    let why = "this push key may not push this event";
    Err(Refused::Forbidden { field: "event".into(), why })
}
