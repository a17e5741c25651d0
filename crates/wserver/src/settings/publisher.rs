//! One publisher, as a `[[publisher]]` of the settings file.

use super::define::settings;
use super::kind::{Count, KeyHash, List, Moment, Switch, Text};

settings! {
    /// Who may push with which key, and what.
    struct Publisher

    "Publisher" {
        /// What logs call it: letters, digits, `-`, `_` and `.`
        name: Text;
        /// The hash of its key, as `wserver key` prints it
        key_hash: KeyHash;
        /// To which users it may push, as patterns; without it to all
        users: Option<List>;
        /// Which events it may push, as patterns; without it all
        events: Option<List>;
        /// How often it may push in the long run; without it as often as it likes
        pushes_per_second: Option<Count<u32>>;
        /// How many pushes may come at once; without it those of one second
        burst: Option<Count<u32>>;
        /// Whether it may administer the server too: see and close connections, explain, trace
        admin: Switch = "false";
        /// When its key stops to open anything; without it never
        expires_at: Option<Moment>;
    }
}
