//! Any bytes as a payload of `traffic-events`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| traffic_fuzz::properties::check(payload));
