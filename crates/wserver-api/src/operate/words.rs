//! The words of answers: what happened and why, for a tired operator.

use std::fmt;
use std::time::{Duration, SystemTime};

use wserver_core::{CloseReason, EventName, UserId};
use wserver_node::{GapReason, NoDelivery};
use wserver_protocol::DecodeError;
use wserver_protocol::v2::{Acks, Entry, ReplayNow};

use crate::registration::RegistrationRefusal;
use crate::reply::kind::ProblemKind;

/// The maximum number of characters of a name in a sentence.
const NAME_CHARS_MAX: usize = 80;

/// A name that somebody chose: escaped, because a terminal may show it, and cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a>(pub(crate) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(NAME_CHARS_MAX) {
            // Quotes and letters of all scripts stay as they are.
            if char.is_control() || is_invisible(char) {
                write!(f, "{}", char.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, char)?;
            }
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// Line separators, and characters that change the direction of text.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
    )
}

/// A number of things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count(pub(crate) usize, pub(crate) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(0, thing) => write!(f, "no {thing}"),
            Self(1, thing) => write!(f, "1 {thing}"),
            Self(count, thing) => write!(f, "{count} {thing}s"),
        }
    }
}

/// How long ago something was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ago(pub(crate) Duration);

impl Ago {
    pub(crate) fn since(at: SystemTime, now: SystemTime) -> Self {
        Self(now.duration_since(at).unwrap_or_default())
    }
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (count, unit) = match seconds {
            0 => return f.write_str("just now"),
            1..120 => (seconds, "s"),
            120..7200 => (seconds / 60, "min"),
            _ => (seconds / 3600, "h"),
        };
        write!(f, "{count} {unit} ago")
    }
}

/// Where a push of an event to a user would go: to `reached` of `count` connections, which are
/// registered for `events`.
pub(crate) fn verdict(
    user: &UserId,
    event: &EventName,
    reached: usize,
    count: usize,
    events: &[String],
) -> String {
    let (user, event) = (Name(user.as_str()), Name(event.as_str()));
    let connections = Count(count, "connection");
    match (reached, count) {
        (0, 0) => format!("user {user} has no connection, so a push of {event} goes to nobody"),
        (0, _) if events.is_empty() => format!(
            "user {user} has {connections}, no longer registered for anything, so a push of \
             {event} goes to nobody"
        ),
        (0, _) => {
            let events: Vec<String> = events.iter().map(|it| Name(it).to_string()).collect();
            let events = events.join(", ");
            format!("user {user} has {connections}, none registered for {event}, but for: {events}")
        }
        (reached, count) if reached >= count => {
            let reached = Count(reached, "connection");
            format!("a push of {event} to user {user} would go to {reached}, all there are")
        }
        (reached, _) => format!(
            "a push of {event} to user {user} would go to {reached} of the user's {connections}"
        ),
    }
}

/// Whether a push of an event to a user is kept for clients that come back, and what is.
pub(crate) fn of_replay(user: &UserId, event: &EventName, replay: &ReplayNow) -> String {
    let (user, event) = (Name(user.as_str()), Name(event.as_str()));
    let push = match (replay.is_kept, replay.logs.is_empty()) {
        (false, _) => {
            format!("a push of {event} is not kept for replay: the setting replay does not name it")
        }
        (true, true) => format!(
            "a push of {event} is not kept for replay yet: no client of version 2 has registered \
             an event that is kept as user {user} within replay_window"
        ),
        (true, false) => format!("a push of {event} is kept for replay"),
    };
    let logs = replay.logs.iter().map(|log| {
        let (messages, bytes) = (Count(log.messages, "message"), Count(log.bytes, "byte"));
        let node = log.node.as_deref().map(|node| format!(" on node {}", Name(node)));
        let log =
            if log.messages == 0 { messages.to_string() } else { format!("{messages} ({bytes})") };
        log + &node.unwrap_or_default()
    });
    let logs: Vec<String> = logs.collect();
    if logs.is_empty() {
        return push;
    }
    format!("{push}; kept for user {user}: {}", logs.join(", "))
}

/// Why a connection was closed.
pub(crate) fn of_close(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::PeerClosed => "the client closed it",
        CloseReason::PeerGone => {
            "its socket ended without a Close, so the client or something in between is gone"
        }
        CloseReason::Silent => {
            "no pong arrived in time, so the client or something in between is \
                                gone"
        }
        CloseReason::NotRegistered => "it registered nothing within register_timeout",
        CloseReason::Flood => "it sent more messages than inbound_messages_per_second allows",
        CloseReason::ProtocolError => "it broke the WebSocket protocol",
        CloseReason::InvalidPayload => "it sent text that is not UTF-8",
        CloseReason::Malformed => "it sent a message that is not a JSON object",
        CloseReason::TooBig => {
            "it sent a message that exceeds inbound_message_bytes_max or inbound_fragments_max"
        }
        CloseReason::InboundFull => {
            "it had sent a part of a message when all such parts reached inbound_bytes_max"
        }
        CloseReason::Slow => {
            "it read too slowly, so its queue reached outbox_bytes_max or all queues outboxes_bytes_max, or it read nothing for stall_timeout"
        }
        CloseReason::Disconnected => {
            "an operator, or the program that the server runs in, disconnected it"
        }
        CloseReason::Expired => "the token that it registered with has expired",
        CloseReason::UserFull => "the user had connections_per_user_max connections already",
        CloseReason::Replaced => {
            "a newer connection of the user replaced it (connections_per_user_policy)"
        }
        CloseReason::Shutdown => "the server was shutting down",
        CloseReason::CutOff => {
            "the server was cut off from its cluster for longer than cluster_lease"
        }
        CloseReason::Internal => "the server failed; see its log",
    }
}

/// Why a registration was refused; an unknown label is shown as it is.
fn of_refusal(label: &str) -> &str {
    if let Some(refusal) = RegistrationRefusal::from_word(label) {
        return match refusal {
            RegistrationRefusal::Unknown => "its token is unknown",
            RegistrationRefusal::Expired => "its token has expired",
            RegistrationRefusal::NotYetValid => "its token is not yet valid",
            RegistrationRefusal::Forbidden => "its token is valid, but not for this event",
            RegistrationRefusal::OtherUser => {
                "its token belongs to another user than its connection"
            }
            RegistrationRefusal::Unavailable => {
                "nobody could check its token: the authenticator did not answer"
            }
            RegistrationRefusal::UserId => {
                "the authenticator returned a user id that is empty or longer than name_bytes_max"
            }
            RegistrationRefusal::TooManyRegistrations => {
                "the connection has bindings_per_connection_max registrations already"
            }
            RegistrationRefusal::UserFull => {
                "the user had connections_per_user_max connections already"
            }
            RegistrationRefusal::NamesTooLong => {
                "the names of the connection's registrations would exceed \
                 names_per_connection_bytes_max"
            }
            RegistrationRefusal::NamesFull => {
                "the names of all registrations would exceed names_bytes_max"
            }
            RegistrationRefusal::ConnectionEnding => "the connection had already begun to close",
        };
    }
    // The fault of a token, which only the operator may know.
    match label {
        "jwt_malformed" => "its token is not a JSON Web Token, or cannot be read",
        "jwt_algorithm" => "its token is signed with an algorithm that the keys do not permit",
        "jwt_key_unknown" => "its token names a key (kid) that is not among the issuer's",
        "jwt_key_ambiguous" => "its token names no key (kid), and too many keys may be meant",
        "jwt_signature" => {
            "its token has a wrong signature: it was signed with another key or secret, or changed afterwards"
        }
        "jwt_exp_missing" => "its token has no exp, which is required",
        "jwt_claim_missing" => "its token lacks a claim that the settings require",
        "jwt_audience" => "the audience of its token (aud) is not in the settings",
        "jwt_issuer" => "the issuer of its token (iss) is not in the settings",
        "malformed" => "its register message was malformed",
        other => other,
    }
}

/// Why a push was refused, by the name of its problem; an unknown label is shown as it is.
fn of_push_refusal(label: &str) -> &str {
    let Some(kind) = ProblemKind::from_word(label) else { return label };
    match kind {
        ProblemKind::Unauthorized => "its key is missing, wrong or expired",
        ProblemKind::OutOfScope => "it is not within the scope of its key",
        ProblemKind::PushRate => "its key has reached its pushes_per_second",
        ProblemKind::PushNeedsKey => {
            "no push key is set, and it did not come from a program on this machine"
        }
        ProblemKind::MessageTooLarge => "its message was longer than message_bytes_max",
        ProblemKind::BodyTooLarge => "its body was longer than push_body_bytes_max",
        ProblemKind::BodyTooSlow => "its body took longer than push_body_timeout",
        ProblemKind::BodyInvalid => "its body was not valid",
        ProblemKind::NameTooLong => "its user or event was longer than name_bytes_max",
        ProblemKind::Busy => "the server had no room for it",
        ProblemKind::AuthorizerUnavailable => {
            "nobody could check its key: the authoriser did not answer"
        }
        // The name is enough, or no push is refused for it.
        ProblemKind::MethodNotAllowed
        | ProblemKind::ContentCoding
        | ProblemKind::BodyBroken
        | ProblemKind::TooManyItems
        | ProblemKind::ParameterInvalid
        | ProblemKind::IdempotencyKeyInUse
        | ProblemKind::IdempotencyKeyReused
        | ProblemKind::Internal
        | ProblemKind::NotAHandshake
        | ProblemKind::WebsocketVersion
        | ProblemKind::OriginNotAllowed
        | ProblemKind::TokenTooLong
        | ProblemKind::ConnectionsFull
        | ProblemKind::AddressFull
        | ProblemKind::HandshakeRate
        | ProblemKind::Draining
        | ProblemKind::CutOff
        | ProblemKind::NotFound
        | ProblemKind::LengthAmbiguous
        | ProblemKind::HostInvalid
        | ProblemKind::NotAdmin
        | ProblemKind::AdminNeedsKey
        | ProblemKind::ConnectionUnknown
        | ProblemKind::NodeMissing
        | ProblemKind::RegistrationRefused
        | ProblemKind::TracesFull
        | ProblemKind::ReplayOff => label,
    }
}

/// Why a client does not get what it has missed.
const fn of_gap(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Restarted => "the server was restarted, or the position is of another server",
        GapReason::Expired => {
            "they are older than replay_window, or nobody of the user was here for that long"
        }
        GapReason::Evicted => {
            "they made room: replay_bytes_per_user_max or replay_bytes_max was reached"
        }
        GapReason::TooFar => {
            "they do not fit into the connection's queue (outbox_bytes_max, outboxes_bytes_max)"
        }
        GapReason::Lost => "a push was lost between two nodes of the cluster",
        GapReason::NodeGone => "the node that kept them is gone or did not answer",
    }
}

/// The rule of RFC 6455 that was broken, or the limit that was exceeded.
const fn of_rule(rule: DecodeError) -> &'static str {
    match rule {
        DecodeError::ReservedBit => {
            "a reserved bit is set, for example by compression that was not negotiated"
        }
        DecodeError::ReservedOpcode => "an opcode is reserved",
        DecodeError::ControlFragmented => "a ping, pong or Close is fragmented",
        DecodeError::ControlTooLong => "a ping, pong or Close is longer than 125 bytes",
        DecodeError::ContinuationUnexpected => "a continuation came without a message",
        DecodeError::ContinuationExpected => "a new message came inside a fragmented one",
        DecodeError::NotMasked => "a frame is not masked, but clients must mask frames",
        DecodeError::LengthNotShortest => "a length is not in its shortest form",
        DecodeError::CloseTruncated => "a Close has half a code",
        DecodeError::CloseCodeInvalid(_) => "a Close has a code that must not be sent",
        DecodeError::NotUtf8 => "text is not UTF-8",
        DecodeError::MessageTooLong => "a message is longer than inbound_message_bytes_max",
        DecodeError::TooManyFragments => "a message has more fragments than inbound_fragments_max",
        DecodeError::Masked => "a frame is masked, but only clients mask frames",
    }
}

/// Who has acknowledged a push, and why others have not.
fn of_acks(acks: Acks) -> String {
    let Acks { acked, waiting, unable, lost } = acks;
    let mut words = format!("{} acknowledged it", Count(acked, "connection"));
    for (count, what) in [(waiting, "did not yet"), (unable, "cannot"), (lost, "ended first")] {
        if count > 0 {
            words.push_str(&format!(", {count} {what}"));
        }
    }
    words
}

/// An entry of the journal without its time. A kind that only a later release knows is shown by its
/// name.
pub(crate) fn of_entry(entry: &Entry) -> String {
    let connection = match &entry.connection {
        Some(id) => format!("connection {}", Name(id)),
        None => "a connection".to_owned(),
    };
    let event = match &entry.event {
        Some(event) => format!(" for {}", Name(event)),
        None => String::new(),
    };
    let reason = entry.reason.as_deref().unwrap_or("no reason is known");
    match &*entry.what {
        "registered" => format!("{connection} was registered{event}"),
        "unregistered" => format!("{connection} is no longer registered{event}"),
        "registration_refused" => {
            format!("{connection} was refused a registration{event}: {}", of_refusal(reason))
        }
        "dropped" => {
            let why = match NoDelivery::from_word(reason) {
                Some(NoDelivery::SlowConsumer) => "it read too slowly",
                Some(NoDelivery::ConnectionEnding) => "it had already begun to close",
                Some(NoDelivery::Expired) => "its time to live had passed",
                Some(
                    NoDelivery::UserOffline
                    | NoDelivery::NoRegistrationForEvent
                    | NoDelivery::Excluded,
                )
                | None => reason,
            };
            format!("a message{event} did not reach {connection}: {}", Name(why))
        }
        "protocol_broken" => {
            let rule: Option<&str> = DecodeError::from_word(reason).map(of_rule);
            let why = rule.unwrap_or(reason);
            format!("{connection} broke the WebSocket protocol: {}", Name(why))
        }
        "closed" => {
            let why: Option<&str> = CloseReason::from_word(reason).map(of_close);
            let why = why.unwrap_or(reason);
            format!("{connection} was closed: {why}")
        }
        "gap" => {
            let why: Option<&str> = GapReason::from_word(reason).map(of_gap);
            let why = why.unwrap_or(reason);
            format!("{connection} was told that messages are missing: {why}")
        }
        "resumed" => match entry.replayed.unwrap_or_default() {
            0 => format!("{connection} came back and had missed nothing"),
            count => format!(
                "{connection} came back and got {} that it had missed",
                Count(count, "message")
            ),
        },
        "pushed" => {
            let delivery = entry.delivery.clone().unwrap_or_default();
            let taken = Count(delivery.written.saturating_add(delivery.queued), "connection");
            match delivery.reason {
                None => format!("a push{event} went to {taken}"),
                Some(reason) => format!("nobody got a push{event}: {}", reason.as_str()),
            }
        }
        "waited" => {
            format!("a push{event} waited: {}", of_acks(entry.acks.unwrap_or_default()))
        }
        "push_refused" => format!("a push{event} was refused: {}", of_push_refusal(reason)),
        what => format!("{connection}{event}: {} ({})", Name(what), Name(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_visible_line_of_bounded_length() {
        for (name, shown) in [
            ("jack", "jack".to_owned()),
            ("Grüße 世界 \"a\"", "Grüße 世界 \"a\"".to_owned()),
            ("a\n\u{1b}[31m\u{202e}", "a\\u{a}\\u{1b}[31m\\u{202e}".to_owned()),
            (&"x".repeat(80), "x".repeat(80)),
            (&"x".repeat(81), format!("{}…", "x".repeat(80))),
        ] {
            assert_eq!(Name(name).to_string(), shown);
        }
    }

    #[test]
    fn counts_and_times_read_well() {
        let counts = [0, 1, 2].map(|count| Count(count, "connection").to_string());
        assert_eq!(counts, ["no connection", "1 connection", "2 connections"]);
        let times = [0, 1, 119, 120, 7199, 7200, 90_000]
            .map(|seconds| Ago(Duration::from_secs(seconds)).to_string());
        assert_eq!(
            times,
            ["just now", "1 s ago", "119 s ago", "2 min ago", "119 min ago", "2 h ago", "25 h ago"]
        );
        let now = SystemTime::now();
        assert_eq!(Ago::since(now + Duration::from_secs(5), now).to_string(), "just now");
    }
}
