//! The functional suite on a Cluster: `cargo xtask cluster`.

use std::{env, process::Command};
use waymark_tests::{cluster::Cluster, root};

#[test]
#[ignore = "it takes as long as the suites that it runs: cargo xtask cluster"]
fn the_functional_suite_passes_on_a_cluster_of_three_masters_and_three_replicas() {
    let cluster = Cluster::start(true);
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--profile", "quick", "--workspace", "--test", "system", "--"])
        .args(["life::", "controls::", "bulk::", "plugins::", "parked::"])
        .current_dir(root())
        .env("WAYMARK_TEST_STORE", cluster.url())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "{status}");
}
