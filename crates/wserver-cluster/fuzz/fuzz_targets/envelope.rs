//! What a broker brings: no bytes are a panic, and what is read can be written and read as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| wserver_cluster::fuzz(input));
