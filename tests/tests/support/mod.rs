//! What several test files share beyond the harness.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::{
    env, fs,
    process::id,
    time::{SystemTime, UNIX_EPOCH},
};
use waymark_tests::{World, guest, host::Host};

/// Numbers drawn from a seed. A test prints it, and draws the same again when `WAYMARK_SEED` names it.
pub struct Random(u64);

impl Random {
    /// A fresh seed, or the one that the environment names; printed.
    pub fn announced() -> Self {
        let fresh = || {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
            u64::from(time.subsec_nanos()) << 32 | u64::from(id())
        };
        let named = env::var("WAYMARK_SEED").ok();
        let seed = named.map_or_else(fresh, |text| text.parse().expect("WAYMARK_SEED is a number"));
        println!("WAYMARK_SEED={seed}");
        Self(seed)
    }

    /// Below `bound`, by SplitMix64.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("below a usize")
    }
}

/// Changes the configuration of a host that does not run.
pub fn configure(host: &Host, change: impl FnOnce(String) -> String) {
    let file = host.plugins.with_file_name("waymark.toml");
    let text = fs::read_to_string(&file).expect("the configuration is read");
    fs::write(file, change(text)).expect("the configuration is written");
}

/// A host that serves the API and runs no jobs, so that there is somebody to ask while others die.
pub fn observer(world: &World, plugins: &[&str]) -> Host {
    let mut host = world.empty_host();
    configure(&host, |text| {
        let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("processes =")).collect();
        let text = kept.join("\n");
        assert!(text.contains("[worker]"), "the configuration has a table for workers");
        text.replace("[worker]", "[worker]\nprocesses = 0")
    });
    for name in plugins {
        guest::copy(name, &host.plugins);
    }
    host.start();
    host.wait_for_plugins(plugins);
    host
}
