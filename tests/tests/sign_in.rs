//! People sign in through a real provider of OpenID Connect: `oidc-provider` of npm, which checks PKCE, the client's secret and
//! where browsers are sent back to.

use crate::support::{self, node_packages, not_run, scratch};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::LazyLock,
};
use ureq::Agent;
use waymark_tests::{World, host::Host, root};

const SECRET: &str = "a secret of the client, 32 bytes";
/// Most answers on the way to the provider and back.
const HOPS_MAX: usize = 10;

/// The provider's packages, set up where they are not yet.
static PACKAGES: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let (sources, work) = (root().join("tests/openid"), scratch("openid"));
    for name in ["package.json", "package-lock.json", "provider.js"] {
        fs::copy(sources.join(name), work.join(name)).map_err(|error| error.to_string())?;
    }
    node_packages(&work)?;
    Ok(work)
});

/// A provider. It ends with the test.
struct Provider {
    issuer: String,
    child: Child,
    /// Kept open for whatever else it says.
    _said: BufReader<ChildStdout>,
}

impl Provider {
    /// `None` where its packages cannot be had.
    fn start(redirect: &str) -> Option<Self> {
        let folder = match &*PACKAGES {
            Ok(folder) => folder,
            Err(error) => {
                not_run(&format!("sign-in through a provider, whose packages cannot be had: {error}"));
                return None;
            }
        };
        let mut command = Command::new("node");
        command.args(["provider.js", SECRET, redirect]).current_dir(folder);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("node starts");
        let mut issuer = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("an output"));
        said.read_line(&mut issuer).expect("it says where it listens");
        let provider = Self { issuer: issuer.trim().to_owned(), child, _said: said };
        assert!(provider.issuer.starts_with("http://"), "the provider does not start");
        Some(provider)
    }

    /// Says who sits before the browser, or which new key there is.
    fn control(&self, query: &str) {
        assert_eq!(Browser::new().get(&format!("{}/control?{query}", self.issuer)).status, 200);
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.end();
    }
}

struct Page {
    status: u16,
    location: String,
    cookies: Vec<String>,
    text: String,
}

/// Keeps cookies and follows nothing by itself.
struct Browser {
    agent: Agent,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None);
        Self { agent: config.build().into(), cookies: BTreeMap::new() }
    }

    fn get(&mut self, url: &str) -> Page {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.agent.get(url).header("accept", "text/html").header("cookie", cookies.join("; "));
        let mut answer = request.call().unwrap_or_else(|error| panic!("{url}: {error}"));
        let text = |name: &str| {
            let values = answer.headers().get_all(name).iter();
            values.map(|value| value.to_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        let (cookies, location) = (text("set-cookie"), text("location").concat());
        for cookie in &cookies {
            let (name, value) =
                cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            match value {
                "" => self.cookies.remove(name),
                _ => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        let (status, text) = (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"));
        Page { status, location, cookies, text }
    }

    /// Begins at the host and goes through the provider, up to the address that this sends the browser back to.
    fn comes_back(&mut self, host: &Host, next: &str) -> String {
        let mut at = format!("{}/login/oidc?next={next}", host.url);
        for _ in 0..HOPS_MAX {
            let page = self.get(&at);
            assert!(page.status == 302 || page.status == 303, "{at}: {} {}", page.status, page.text);
            if page.location.contains("/login/oidc/callback") {
                return page.location;
            }
            // Within the provider, addresses may be short.
            let base = at.split('/').take(3).collect::<Vec<_>>().join("/");
            at = if page.location.starts_with('/') { base + &page.location } else { page.location };
        }
        panic!("it goes in circles: {at}")
    }

    fn signs_in(&mut self, host: &Host) -> Page {
        let back = self.comes_back(host, "%2Fjobs");
        self.get(&back)
    }

    /// What the session may do, as the pages of this host ask for it.
    fn asks(&self, host: &Host, method: &str, path: &str) -> (u16, Value) {
        let session = format!("__Host-waymark={}", self.cookies["__Host-waymark"]);
        let headers = [("cookie", session.as_str()), ("origin", host.url.as_str())];
        let answer = host.request(method, path, &headers, b"");
        (answer.status, answer.body)
    }
}

/// A host, and the provider through which people sign in.
fn host_and_provider(world: &World) -> Option<(Host, Provider)> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let redirect = format!("http://127.0.0.1:{port}/login/oidc/callback");
    let provider = Provider::start(&redirect)?;
    let mut host = another(world, &provider, &redirect);
    host.listen = format!("127.0.0.1:{port}");
    host.start();
    Some((host, provider))
}

/// A host that is not started yet.
fn another(world: &World, provider: &Provider, redirect: &str) -> Host {
    let mut host = world.empty_host();
    let secret = host.plugins.with_file_name("client-secret");
    fs::write(&secret, format!("{SECRET}\n")).expect("a file");
    support::configure(&host, |text| {
        let text = text.replace("[worker]", "[worker]\nprocesses = 0");
        format!(
            "{text}\n[api.oidc]\nname = \"Example & Sons\"\nissuer = {:?}\nclient_id = \"waymark\"\n\
             client_secret_file = {secret:?}\nredirect_url = {redirect:?}\nscopes = [\"openid\", \"email\", \"groups\"]\n\
             roles = {{ ops = \"operator\", owners = \"admin\" }}\nallowed_domains = [\"example.com\"]\n",
            provider.issuer
        )
    });
    host.environment.push(("NO_PROXY".into(), "127.0.0.1".into()));
    host
}

#[test]
fn somebody_signs_in_through_a_provider_with_the_role_of_a_group() {
    let world = World::new("[worker]\n");
    let Some((host, provider)) = host_and_provider(&world) else { return };
    let mut anna = Browser::new();
    let page = anna.get(&format!("{}/sign-in?next=%2Fhosts", host.url));
    assert!(page.text.contains("href=\"/login/oidc?next=%2Fhosts\""), "{}", page.text);
    assert!(page.text.contains("Sign in with Example &amp; Sons"), "{}", page.text);
    assert!(!page.text.contains("<form"), "there are neither users nor tokens: {}", page.text);
    assert_eq!(host.get("/api/v1/jobs").code(), "unauthorized");

    let begun = anna.get(&format!("{}/login/oidc", host.url));
    assert_eq!(begun.status, 303);
    for part in ["code_challenge_method=S256", "&state=", "&nonce=", "response_type=code"] {
        assert!(begun.location.contains(part), "{}", begun.location);
    }
    for part in ["__Host-waymark-oidc=", "HttpOnly", "SameSite=Lax", "Secure", "Path=/", "Max-Age=600"] {
        assert!(begun.cookies[0].contains(part), "{}", begun.cookies[0]);
    }
    let back = anna.comes_back(&host, "%2Fjobs%3Fstatus%3Dfailed");
    let stranger = Browser::new().get(&back);
    assert!(stranger.status == 400 && stranger.text.contains("begin again"), "{}", stranger.text);
    let there = anna.get(&back);
    assert_eq!((there.status, there.location.as_str()), (303, "/jobs?status=failed"), "{}", there.text);
    let session =
        there.cookies.iter().find(|cookie| cookie.starts_with("__Host-waymark=")).expect("a session");
    for part in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(session.contains(part), "{session}");
    }
    assert!(!anna.cookies.contains_key("__Host-waymark-oidc"), "the ticket is used up");
    let again = anna.get(&back);
    assert!(again.status == 400 && again.text.contains("begin again"), "{}", again.text);
    let page = anna.get(&format!("{}/jobs", host.url));
    assert!(page.status == 200 && page.text.contains("anna@example.com"), "{}", page.text);
    assert_eq!(anna.asks(&host, "GET", "/api/v1/jobs").0, 200);
    assert_eq!(anna.asks(&host, "POST", "/api/v1/queues/q/pause").0, 202);
    assert_eq!(anna.asks(&host, "POST", "/api/v1/hosts/x/drain").1["code"], "scope-missing");

    // What the provider does not let pass, or the host does not, is a page, and says nothing in the provider's own words.
    for (person, status, words) in [
        ("nobody", 401, "declined at Example &amp; Sons"),
        ("vera", 403, "you have no role on this host"),
        ("evan", 403, "of no domain that may sign in here"),
    ] {
        provider.control(&format!("person={person}"));
        let mut browser = Browser::new();
        let page = browser.signs_in(&host);
        assert_eq!(page.status, status, "{person}: {}", page.text);
        assert!(page.text.contains(words), "{person}: {}", page.text);
        assert!(!page.text.contains("alert(1)") && page.text.contains("Sign in with"), "{}", page.text);
        assert!(
            browser.cookies.keys().all(|name| !name.starts_with("__Host-waymark")),
            "{person} has a session"
        );
    }
    // A state that is not the ticket's, and a code that the provider does not know.
    let mut browser = Browser::new();
    let back = browser.comes_back(&host, "%2F");
    let page = browser.get(&back.replace("state=", "state=x"));
    assert!(page.status == 400 && page.text.contains("begin again"), "{}", page.text);
    let page = browser.get(&back.replace("code=", "code=x"));
    assert!(page.status == 401 && page.text.contains("did not answer as it should"), "{}", page.text);

    // Another host of the deployment finishes what this one began, and takes the session of either.
    provider.control("person=boss");
    let redirect = format!("{}/login/oidc/callback", host.url);
    let mut other = another(&world, &provider, &redirect);
    other.start();
    let mut boss = Browser::new();
    let back = boss.comes_back(&host, "%2F").replace(&host.url, &other.url);
    assert_eq!(boss.get(&back).status, 303);
    let (status, log) = boss.asks(&host, "GET", "/api/v1/audit");
    assert_eq!(status, 200, "{log}");
    let told: Vec<_> = log["entries"].as_array().expect("entries").iter().collect();
    let of = |entry: &Value| {
        json!([entry["actor"], entry["status"], entry["path"], entry["from"], entry["body"]["sub"]])
    };
    let callback = "/login/oidc/callback";
    let expected = [
        json!(["boss@example.com", 303, callback, "127.0.0.1", "boss"]),
        json!(["evan@elsewhere.example", 403, callback, "127.0.0.1", "evan"]),
        json!(["vera@example.com", 403, callback, "127.0.0.1", "vera"]),
        json!(["anna@example.com", 403, "/api/v1/hosts/x/drain", "127.0.0.1", null]),
        json!(["anna@example.com", 202, "/api/v1/queues/q/pause", "127.0.0.1", null]),
        json!(["anna@example.com", 303, callback, "127.0.0.1", "anna"]),
    ];
    assert_eq!(told.iter().map(|entry| of(entry)).collect::<Vec<_>>(), expected, "{log}");
    assert_eq!(told[5]["body"]["groups"], json!(["ops"]), "groups without a role are not kept");
    assert!(!host.log().contains(SECRET) && !other.log().contains(SECRET));
}

#[test]
fn new_keys_are_fetched_once_a_minute_and_a_provider_that_is_away_is_said_to_be() {
    let world = World::new("[worker]\n");
    let Some((host, mut provider)) = host_and_provider(&world) else { return };
    assert_eq!(Browser::new().signs_in(&host).status, 303, "RS256");
    provider.control("alg=EdDSA");
    assert_eq!(Browser::new().signs_in(&host).status, 303, "EdDSA, by a key that is new");
    provider.control("alg=ES256");
    let page = Browser::new().signs_in(&host);
    assert!(page.status == 401 && page.text.contains("could not be verified"), "{}", page.text);
    assert!(host.log().contains("the provider has no key"), "{}", host.log());
    // A host that knows none yet has no reason to wait.
    let redirect = format!("{}/login/oidc/callback", host.url);
    let mut other = another(&world, &provider, &redirect);
    other.start();
    let mut browser = Browser::new();
    let back = browser.comes_back(&other, "%2F").replace(&host.url, &other.url);
    assert_eq!(browser.get(&back).status, 303, "ES256");

    let mut browser = Browser::new();
    let back = browser.comes_back(&host, "%2F");
    provider.end();
    let page = browser.get(&back);
    assert!(page.status == 401 && page.text.contains("does not answer"), "{}", page.text);
    other.kill();
    other.start();
    for _ in 0..2 {
        let page = Browser::new().get(&format!("{}/login/oidc", other.url));
        assert!(page.status == 401 && page.text.contains("does not answer"), "{}", page.text);
    }
    assert!(other.log().contains("the provider does not answer"), "{}", other.log());
}
