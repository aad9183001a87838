//! A Redis Cluster on the loopback.

use crate::{
    PATIENCE, eventually,
    redis::{Redis, free_port},
};
use std::process::Command;

/// A Cluster of three masters.
pub struct Cluster {
    /// The masters.
    pub masters: Vec<Redis>,
    /// A replica of each, or none.
    pub replicas: Vec<Redis>,
}

impl Cluster {
    /// Starts three masters, and three replicas if asked for.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start(with_replicas: bool) -> Self {
        let number = if with_replicas { 6 } else { 3 };
        let bus_ports: Vec<_> = (0..number).map(|_| free_port()).collect();
        let mut masters: Vec<_> = bus_ports.iter().map(|port| server(*port)).collect();
        let addresses = masters.iter().zip(&bus_ports);
        let addresses = addresses.map(|(server, bus_port)| format!("127.0.0.1:{}@{bus_port}", server.port));
        let output = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", if with_replicas { "1" } else { "0" }, "--cluster-yes"])
            .output()
            .expect("redis-cli is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let known = format!("cluster_known_nodes:{number}");
        for server in &masters {
            eventually(&format!("the cluster stands: {said}"), PATIENCE, || {
                let info = server.command(&["CLUSTER", "INFO"]);
                (info.contains("cluster_state:ok") && info.contains(&known)).then_some(())
            });
        }
        // `redis-cli` makes the first ones masters.
        let replicas = masters.split_off(3);
        for replica in &replicas {
            eventually("the replica has its master's data", PATIENCE, || {
                let info = replica.command(&["INFO", "replication"]);
                info.contains("master_link_status:up").then_some(())
            });
        }
        Self { masters, replicas }
    }

    /// Its address for hosts: one of the servers must do, and one that does not answer must not hurt.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", free_port(), self.masters[1].port)
    }
}

fn server(bus_port: u16) -> Redis {
    Redis::with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus_port.to_string(),
        "--cluster-node-timeout",
        "1000",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ])
}
