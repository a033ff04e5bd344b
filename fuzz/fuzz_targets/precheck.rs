#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_kube_auth_fuzz::precheck::check(data));
