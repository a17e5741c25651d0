//! One publisher, a table `[[publisher]]` of the settings file.

use super::define::settings;
use super::kind::{Count, KeyHash, List, Moment, Switch, Text};

settings! {
    /// A publisher: its key, and what it may push.
    struct Publisher

    "Publisher" {
        /// Name in logs: letters, digits, `-`, `_` and `.`
        name: Text;
        /// Hash of its key, as `wserver key` prints it
        key_hash: KeyHash;
        /// Users that it may push to, as patterns; all if not set
        users: Option<List>;
        /// Events that it may push, as patterns; all if not set
        events: Option<List>;
        /// Pushes that it may send per second in the long run; no limit if not set
        pushes_per_second: Option<Count<u32>>;
        /// Pushes that it may send at once; as many as in one second if not set
        burst: Option<Count<u32>>;
        /// Whether it may also administer the server: see and close connections, explain, trace
        admin: Switch = "false";
        /// Time at which its key expires; never if not set
        expires_at: Option<Moment>;
    }
}
