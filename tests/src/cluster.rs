//! A Redis Cluster on the loopback.

use crate::{
    PATIENCE, eventually,
    redis::{Redis, free_port},
};
use std::{path::Path, process::Command};

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
        Self::create(with_replicas, &[], &[], |server, _| server.port).0
    }

    /// Three masters that take TLS, among each other too, with the certificates of a folder: `ca.crt`, `server.crt`,
    /// `server.key`. Answers its address as well. Tests reach the servers without TLS.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn over_tls(folder: &Path) -> (Self, String) {
        let file = |name: &str| folder.join(name).display().to_string();
        let (ca, crt, key) = (file("ca.crt"), file("server.crt"), file("server.key"));
        let server = [
            "--tls-cert-file",
            &crt,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-cluster",
            "yes",
            "--tls-replication",
            "yes",
        ];
        let client = ["--tls", "--cacert", &ca, "--cert", &crt, "--key", &key];
        let (cluster, ports) = Self::create(false, &server, &client, |_, tls_port| tls_port);
        (cluster, format!("rediss-cluster://127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]))
    }

    /// Answers the ports by which the servers know each other.
    fn create(
        with_replicas: bool,
        tls: &[&str],
        cli: &[&str],
        port_of: impl Fn(&Redis, u16) -> u16,
    ) -> (Self, Vec<u16>) {
        let number = if with_replicas { 6 } else { 3 };
        let bus_ports: Vec<_> = (0..number).map(|_| free_port()).collect();
        let mut ports = Vec::new();
        let mut masters: Vec<_> = bus_ports
            .iter()
            .map(|bus_port| {
                let tls_port = free_port();
                let text = tls_port.to_string();
                let more = if tls.is_empty() { Vec::new() } else { [&["--tls-port", &text], tls].concat() };
                let server = server(*bus_port, &more);
                ports.push(port_of(&server, tls_port));
                server
            })
            .collect();
        let addresses = ports.iter().zip(&bus_ports);
        let addresses = addresses.map(|(port, bus_port)| format!("127.0.0.1:{port}@{bus_port}"));
        let output = Command::new("redis-cli")
            .args(cli)
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
        (Self { masters, replicas }, ports)
    }

    /// Its address for hosts: one of the servers must do, and one that does not answer must not hurt.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", free_port(), self.masters[1].port)
    }
}

fn server(bus_port: u16, more: &[&str]) -> Redis {
    let bus_port = bus_port.to_string();
    let own = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus_port,
        "--cluster-node-timeout",
        "1000",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ];
    Redis::with(&[&own, more].concat())
}
