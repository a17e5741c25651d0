//! One read buffer per thread, lent for one read at a time: idle connections own none.

use std::cell::Cell;

/// Large enough for the largest default inbound message in one read.
const BYTES: usize = 64 * 1024;

/// Reads per poll, before other tasks get their turn.
pub(crate) const READS_MAX: usize = 4;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's buffer to `read`. A nested call gets a second buffer.
pub(crate) fn with<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = BUFFER.take();
    buffer.resize(BYTES, 0);
    let result = read(&mut buffer);
    BUFFER.set(buffer);
    result
}
