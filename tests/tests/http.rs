//! `wasi:http`: requests go where the operator allows, and nowhere else.

use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};
use waymark_tests::{
    World,
    client::Client,
    endpoint::{Endpoint, Reply},
    eventually,
};

/// A grant of targets, TOML, each in a line of its own; more keys may follow.
fn config(targets: &[String], keys: &str) -> String {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "t0p-s3cret").expect("the secret");
    // The file lives as long as the process: hosts read it again when they start.
    let (_, path) = secret.keep().expect("a file");
    format!(
        "[secrets]\napi = {{ file = {:?} }}\nother = {{ file = {:?} }}\n\
         [plugins.fetcher.grants.http]\nallow = [{}]\n{keys}\n",
        path.display().to_string(),
        path.display().to_string(),
        targets.join(", ")
    )
}

fn here(endpoint: &Endpoint, more: &str) -> String {
    let port = endpoint.address.port();
    format!("{{ host = \"127.0.0.1\", schemes = [\"http\"], ports = [{port}], private = true{more} }}")
}

fn named(host: &str, port: u16) -> String {
    format!("{{ host = {host:?}, schemes = [\"http\"], ports = [{port}] }}")
}

/// What came of each request.
fn fetch(host: &Client, requests: &Value) -> Vec<Value> {
    let id = host.submit(&json!({"type": "fetcher", "input": requests}));
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    host.outputs(&id)
}

fn error(output: &Value) -> &str {
    output["error"].as_str().unwrap_or_else(|| panic!("no error: {output}"))
}

#[test]
fn a_request_goes_to_where_it_is_allowed_with_the_secret_the_host_fills_in() {
    let endpoint = Endpoint::start(|asked| Reply::new(200, asked.body.clone()));
    let world = World::new(&config(&[here(&endpoint, ", secrets = [\"api\"]")], ""));
    let host = world.host(&["fetcher"]);
    let url = format!("http://{}/a?b=c", endpoint.address);
    let outputs = fetch(
        &host,
        &json!([
            {"url": url, "headers": [["authorization", "Bearer {{secret:api}}"], ["x-plain", "yes"]]},
            {"url": url, "method": "POST", "body_bytes": 100_000},
            {"url": url, "headers": [["authorization", "Bearer {{secret:other}}"]]},
            {"url": url.replace("/a", "/elsewhere").replace("http", "https")},
        ]),
    );
    assert_eq!(outputs[0], json!({"status": 200, "bytes": 0}));
    assert_eq!(outputs[1], json!({"status": 200, "bytes": 100_000}));
    assert!(error(&outputs[2]).contains("not allowed"), "a secret of another target: {outputs:?}");
    assert!(error(&outputs[3]).contains("not allowed"), "another scheme: {outputs:?}");
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 2, "what is refused is not sent");
    assert_eq!(asked[0].line, "GET /a?b=c");
    assert_eq!(asked[0].header("authorization"), "Bearer t0p-s3cret");
    assert_eq!(asked[0].header("host"), endpoint.address.to_string());
    assert_eq!(asked[0].header("x-plain"), "yes");
    assert!(!host.log().contains("t0p-s3cret"), "the secret is in a log");
    eventually("the metrics count", Duration::from_secs(5), || {
        let sent = host.metric("waymark_http_request_seconds_count{outcome=\"2xx\",type=\"fetcher\"");
        let denied = host.metric("waymark_http_request_seconds_count{outcome=\"denied\",type=\"fetcher\"");
        ((sent, denied) == (2.0, 2.0)).then_some(())
    });
}

#[test]
fn private_addresses_are_refused_in_every_notation() {
    let endpoint = Endpoint::start(|_| Reply::new(200, "inside"));
    let port = endpoint.address.port();
    // All of these are on the list, and none of them may be private.
    let names = [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "169.254.169.254",
        "10.0.0.1",
        "fe80::1",
        "fd00::1",
    ];
    let targets: Vec<_> = names.iter().map(|name| named(name, port)).collect();
    let world = World::new(&config(&targets, "timeout_ms = 2000"));
    let host = world.host(&["fetcher"]);
    let url = |name: &str| {
        let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        json!({"url": format!("http://{name}:{port}/")})
    };
    let requests: Vec<_> = names.iter().map(|name| url(name)).collect();
    let outputs = fetch(&host, &json!(requests));
    for (name, output) in names.iter().zip(&outputs) {
        // What this machine's resolver does not take for an address is no address.
        let refused = error(output).contains("not allowed") || error(output).contains("Dns");
        assert!(refused, "{name}: {output}");
    }
    assert!(error(&outputs[0]).contains("DestinationIpProhibited"), "{}", outputs[0]);
    let unknown =
        fetch(&host, &json!([{"url": format!("http://user@127.0.0.1:{port}/")}, {"url": "http://other/"}]));
    assert!(unknown.iter().all(|output| output["error"].is_string()), "{unknown:?}");
    assert_eq!(endpoint.asked().len(), 0, "nobody was reached");
}

#[test]
fn a_redirect_inward_leads_nowhere() {
    let inside = Endpoint::start(|_| Reply::new(200, "inside"));
    let location = format!("http://{}/metadata", inside.address);
    let outside = Endpoint::start(move |_| Reply {
        headers: vec![("location", location.clone())],
        ..Reply::new(302, "")
    });
    let world = World::new(&config(&[here(&outside, "")], ""));
    let host = world.host(&["fetcher"]);
    let url = format!("http://{}/", outside.address);
    let outputs = fetch(&host, &json!([{"url": url}, {"url": url, "redirects": 3}]));
    assert_eq!(outputs[0]["status"], 302, "the host follows none");
    assert!(
        error(&outputs[1]).contains("not allowed"),
        "and the guest's own next request is checked: {outputs:?}"
    );
    assert_eq!((inside.asked().len(), outside.asked().len()), (0, 2));
}

#[test]
fn a_smuggled_request_is_not_sent() {
    let endpoint = Endpoint::start(|_| Reply::new(200, ""));
    let world = World::new(&config(&[here(&endpoint, "")], ""));
    let host = world.host(&["fetcher"]);
    let url = format!("http://{}/", endpoint.address);
    let headers: [&[(&str, &str)]; 10] = [
        &[("transfer-encoding", "chunked")],
        &[("Transfer-Encoding", "chunked"), ("content-length", "4")],
        &[("content-length", "4"), ("content-length", "5")],
        &[("content-length", "+4")],
        &[("connection", "close, x")],
        &[("host", "elsewhere")],
        &[("upgrade", "h2c")],
        &[("te", "trailers")],
        &[("x", "a\r\nGET /smuggled HTTP/1.1")],
        &[("x\r\ny", "a")],
    ];
    let mut requests: Vec<_> =
        headers.iter().map(|headers| json!({"url": url, "headers": headers})).collect();
    requests.push(json!({"url": format!("{url} HTTP/1.1\r\nx: y")}));
    requests.push(json!({"url": url, "method": "GET /smuggled HTTP/1.1\r\n"}));
    requests.push(json!({"url": url, "method": "CONNECT"}));
    let number = requests.len();
    let outputs = fetch(&host, &json!(requests));
    assert_eq!(outputs.len(), number);
    for (request, output) in requests.iter().zip(&outputs) {
        assert!(output["error"].is_string(), "{request}: {output}");
    }
    assert_eq!(endpoint.asked().len(), 0, "{:?}", endpoint.asked());
}

#[test]
fn long_bodies_and_slow_servers_are_errors_and_never_traps() {
    let endpoint = Endpoint::start(|asked| match asked.line.as_str() {
        "GET /slow" => {
            thread::sleep(Duration::from_secs(3));
            Reply::new(200, "")
        }
        "GET /long" => Reply::new(200, vec![b'x'; 50_000]),
        _ => Reply::new(200, asked.body.clone()),
    });
    // Says the head of an answer, and then nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent_port = silent.local_addr().expect("an address").port();
    thread::spawn(move || {
        let kept: Vec<_> = silent
            .incoming()
            .flatten()
            .map(|mut stream| {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx");
                stream
            })
            .collect();
        drop(kept);
    });
    let silent_target =
        format!("{{ host = \"127.0.0.1\", schemes = [\"http\"], ports = [{silent_port}], private = true }}");
    let limits = "timeout_ms = 500\nrequest_bytes_max = 20000\nresponse_bytes_max = 30000";
    let world = World::new(&config(&[here(&endpoint, ""), silent_target], limits));
    let host = world.host(&["fetcher"]);
    let url = |path: &str| format!("http://{}{path}", endpoint.address);
    let began = Instant::now();
    let outputs = fetch(
        &host,
        &json!([
            {"url": url("/long")},
            {"url": url("/"), "method": "POST", "body_bytes": 50_000},
            {"url": url("/slow")},
            {"url": format!("http://127.0.0.1:{silent_port}/")},
            {"url": url("/"), "method": "POST", "body_bytes": 20_000},
        ]),
    );
    assert!(error(&outputs[0]).contains("too long"), "{outputs:?}");
    assert!(error(&outputs[1]).contains("too long"), "{outputs:?}");
    assert!(error(&outputs[2]).contains("no answer"), "{outputs:?}");
    assert!(error(&outputs[3]).contains("no answer"), "{outputs:?}");
    assert_eq!(outputs[4]["bytes"], 20_000);
    assert!(began.elapsed() < Duration::from_secs(10));

    let world =
        World::new(&format!("[defaults]\nstep_limit_ms = 1000\n{}", config(&[here(&endpoint, "")], "")));
    let host = world.host(&["fetcher"]);
    let outputs = fetch(&host, &json!([{"url": url("/slow")}]));
    assert!(error(&outputs[0]).contains("no answer"), "the wait ends before the step: {outputs:?}");
}

/// An authority, and a server for `localhost` that it vouches for. The server is stopped when it is dropped.
struct Secured {
    folder: tempfile::TempDir,
    port: u16,
    server: std::process::Child,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let openssl = |arguments: &str| {
            let mut command = std::process::Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(folder.path());
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null());
            command
        };
        let made = |arguments: &str| {
            assert!(openssl(arguments).status().expect("openssl runs").success(), "{arguments}")
        };
        fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost\n").expect("a file");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        made(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority"));
        made(&format!("req {key} -keyout own.key -out own.csr -subj /CN=server"));
        made(
            "x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out own.crt -days 2 -extfile names",
        );
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let server =
            openssl(&format!("s_server -accept 127.0.0.1:{port} -cert own.crt -key own.key -www -quiet"));
        let server = { server }.spawn().expect("openssl runs");
        eventually("the server listens", Duration::from_secs(5), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(())
        });
        Self { folder, port, server }
    }

    /// A host that trusts the authority in this file, or what its machine trusts.
    fn host(&self, world: &World, authority: Option<&str>) -> waymark_tests::host::Host {
        let mut host = world.empty_host();
        if let Some(file) = authority {
            let file = self.folder.path().join(file).display().to_string();
            host.environment.push(("SSL_CERT_FILE".to_owned(), file));
        }
        waymark_tests::guest::copy("fetcher", &host.plugins);
        host.start();
        host.wait_for_plugins(&["fetcher"]);
        host
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_server_must_be_vouched_for_by_an_authority_that_the_host_trusts_and_for_its_name() {
    let secured = Secured::start();
    let port = secured.port;
    let target = |host: &str| format!("{{ host = {host:?}, ports = [{port}], private = true }}");
    let config = config(&[target("localhost"), target("127.0.0.1")], "");
    let urls =
        json!([{"url": format!("https://localhost:{port}/")}, {"url": format!("https://127.0.0.1:{port}/")}]);
    {
        let world = World::new(&config);
        let trusting = secured.host(&world, Some("ca.crt"));
        let outputs = fetch(&trusting, &urls);
        assert_eq!(outputs[0]["status"], 200, "{outputs:?}");
        assert!(
            error(&outputs[1]).to_lowercase().contains("tls"),
            "a name it was not vouched for: {outputs:?}"
        );
    }
    let world = World::new(&config);
    let outputs = fetch(&secured.host(&world, None), &urls);
    assert!(
        error(&outputs[0]).to_lowercase().contains("tls"),
        "an authority that nobody trusts: {outputs:?}"
    );
}
