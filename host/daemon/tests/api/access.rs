//! Tokens, scopes, foreign pages.

use crate::harness::Host;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use waymark::config::{Scope, Token};

async fn with_tokens() -> Host {
    let token = |name: &str, scope| Token {
        name: name.into(),
        sha256: hex::encode(Sha256::digest(format!("secret-{name}"))),
        scopes: vec![scope],
    };
    let tokens = vec![token("look", Scope::Read), token("run", Scope::Operate), token("own", Scope::Admin)];
    Host::with(|api| api.tokens = tokens).await
}

#[tokio::test]
async fn a_call_needs_a_token_of_its_scope() {
    let host = with_tokens().await;
    let ask = async |method: Method, path: &str, token: Option<&str>| {
        let mut request = host.request(method, path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = host.send(request).await;
        let code = if answer.status.is_success() { String::new() } else { answer.code() };
        (answer.status.as_u16(), code, answer.headers.contains_key("www-authenticate"))
    };
    let refused = |status, code: &str, asks| (status, code.to_owned(), asks);
    let jobs = "/api/v1/jobs";
    assert_eq!(ask(Method::GET, jobs, None).await, refused(401, "unauthorized", true));
    assert_eq!(ask(Method::GET, jobs, Some("wrong")).await, refused(401, "unauthorized", true));
    assert_eq!(ask(Method::GET, jobs, Some("secret-look")).await.0, 200);
    assert_eq!(ask(Method::POST, jobs, Some("secret-look")).await, refused(403, "scope-missing", false));
    assert_eq!(ask(Method::POST, jobs, Some("secret-run")).await, refused(400, "malformed-json", false));
    assert_eq!(
        ask(Method::PUT, "/api/v1/plugins/x", Some("secret-run")).await,
        refused(403, "scope-missing", false)
    );
    assert_eq!(ask(Method::POST, "/api/v1/hosts/x/drain", Some("secret-own")).await.1, "unknown-host");
    assert_eq!(ask(Method::GET, "/metrics", None).await.0, 401);
    assert_eq!(ask(Method::GET, "/metrics", Some("secret-look")).await.0, 200);
    for open in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
        assert_eq!(ask(Method::GET, open, None).await.0, 200, "{open}");
    }
}

#[tokio::test]
async fn a_web_page_of_another_site_gets_nothing_from_a_host_without_tokens() {
    let host = Host::start().await;
    let rebound = host.request(Method::GET, "/api/v1/jobs").header("host", "evil.example:7420");
    let answer = host.send(rebound).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "foreign-origin"));
    let page = host.request(Method::POST, "/api/v1/queues/q/purge").header("origin", "https://evil.example");
    let answer = host.send(page).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "foreign-origin"));
    let own = host.request(Method::GET, "/api/v1/jobs").header("origin", &host.base);
    let answer = host.send(own).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}
