//! The targets under libFuzzer. `HUSK_FUZZ_TARGET` names the one to run; `hack/fuzz` builds and starts it.
#![no_main]
// The macro exports C functions by their names, which is all that is unsafe about it.
#![allow(unsafe_code, missing_docs)]

use std::sync::LazyLock;

use husk_fuzz::{Target, check};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("HUSK_FUZZ_TARGET").unwrap_or_default();
    let target = Target::named(&name).unwrap_or_else(|| panic!("HUSK_FUZZ_TARGET={name:?} is no target"));
    // What is made once, such as another implementation's regular expressions, counts towards no input.
    if let Some(seed) = (target.seeds)().first() {
        (target.run)(seed);
    }
    target
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(*TARGET, bytes));
