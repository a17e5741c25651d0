//! Brokers as processes of a test's own: Redis in its three shapes, NATS alone and as two.
//!
//! For the tests of those who use a broker, and nobody else. It starts programs that are on this
//! machine and knows nothing of wserver.

pub mod process;
pub mod nats;
pub mod redis;
