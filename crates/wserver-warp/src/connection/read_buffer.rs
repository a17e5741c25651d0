//! One read buffer per thread, lent for the time of one read: idle connections own none.

use std::cell::Cell;

/// Large enough for the largest default inbound message in one read.
const BYTES: usize = 64 * 1024;

/// Reads of one poll, before other tasks have their turn.
pub(crate) const READS_MAX: usize = 4;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's buffer to `read`. Called within itself it lends a second one.
pub(crate) fn with<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = BUFFER.take();
    buffer.resize(BYTES, 0);
    let result = read(&mut buffer);
    BUFFER.set(buffer);
    result
}
