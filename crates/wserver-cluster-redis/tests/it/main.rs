//! Against real servers, started by each test. Those that need them leave themselves out aloud where
//! `redis-server` is missing.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod broker;
mod broken;
mod refused;
