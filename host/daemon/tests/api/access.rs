//! Tokens, roles, sessions, foreign pages, and the log of who did what.

use crate::harness::Host;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use waymark::{
    api::password::Password,
    config::{Scope, Token, User},
};

async fn with_tokens() -> Host {
    let token = |name: &str, scope| Token {
        name: name.into(),
        sha256: hex::encode(Sha256::digest(format!("secret-{name}"))),
        scopes: vec![scope],
        rate: None,
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
    assert_eq!(host.get("/login/oidc").await.code(), "unknown-path", "there is no provider");
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

#[tokio::test]
async fn a_viewer_may_change_nothing_of_all_that_the_description_lists() {
    let host = with_tokens().await;
    let description = host.get("/api/v1/openapi.json").await.json();
    let mut changes = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in ["post", "put", "patch", "delete"] {
            if item.get(method).is_none() {
                continue;
            }
            let path = path.replace(['{', '}'], "");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = host.request(method.clone(), &path).header("authorization", "Bearer secret-look");
            let answer = host.send(request).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (403, "scope-missing"),
                "{method} {path}"
            );
            changes += 1;
        }
    }
    assert!(changes >= 25, "only {changes} calls change anything");
    let log = host.request(Method::GET, "/api/v1/audit").header("authorization", "Bearer secret-look");
    assert_eq!(host.send(log).await.status, 403, "the audit log is for admins");
}

#[tokio::test]
async fn a_person_signs_in_works_and_signs_out() {
    let user = |name: &str, role| User {
        name: name.into(),
        password: Password::new(&format!("password of {name}")).unwrap().text(),
        role,
    };
    let users = vec![user("anna", Scope::Operate), user("vera", Scope::Read)];
    let host = Host::with(|api| api.users = users).await;
    let page = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let sign_in = async |name: &str, password: &str, next: &str| {
        let form = [("name", name), ("password", password), ("next", next)];
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = page.post(format!("{}/sign-in", host.base)).header("origin", &host.base);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        request.send().await.unwrap()
    };

    let asked = page.get(format!("{}/jobs?state=failed", host.base)).header("accept", "text/html");
    let asked = asked.send().await.unwrap();
    assert_eq!(
        (asked.status().as_u16(), &asked.headers()["location"]),
        (303, &"/sign-in?next=%2Fjobs%3Fstate%3Dfailed".parse().unwrap())
    );
    assert_eq!(sign_in("anna", "wrong", "/").await.status(), 401);
    assert_eq!(sign_in("nobody", "password of anna", "/").await.status(), 401);
    let signed_in = sign_in("anna", "password of anna", "//evil.example").await;
    assert_eq!((signed_in.status().as_u16(), &signed_in.headers()["location"]), (303, &"/".parse().unwrap()));
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["__Host-waymark=", "HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let session = cookie.split(';').next().unwrap().to_owned();
    let with = |method: Method, path: &str, origin: Option<&str>| {
        let request = host.request(method, path).header("cookie", &session);
        match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        }
    };
    let pause = "/api/v1/queues/q/pause";
    assert_eq!(host.send(with(Method::GET, "/api/v1/jobs", None)).await.status, 200);
    assert!(host.send(with(Method::POST, pause, Some(&host.base))).await.status.is_success());
    for foreign in [Some("https://evil.example"), Some("null"), None] {
        assert_eq!(
            host.send(with(Method::POST, pause, foreign)).await.code(),
            "foreign-origin",
            "{foreign:?}"
        );
    }
    assert_eq!(
        host.send(with(Method::PUT, "/api/v1/plugins/x", Some(&host.base))).await.code(),
        "scope-missing"
    );
    let out =
        page.post(format!("{}/sign-out", host.base)).header("cookie", &session).header("origin", &host.base);
    assert_eq!(out.send().await.unwrap().status(), 303);
    assert_eq!(host.send(with(Method::GET, "/api/v1/jobs", None)).await.code(), "unauthorized");
    for _ in 0..12 {
        sign_in("vera", "wrong", "/").await;
    }
    assert_eq!(sign_in("vera", "password of vera", "/").await.status(), 429, "guessing is stopped");
}

#[tokio::test]
async fn every_change_is_in_the_log_with_who_asked_and_what_became_of_it() {
    let host = with_tokens().await;
    let by = |method: Method, path: &str, token: &str| {
        host.request(method, path).header("authorization", format!("Bearer secret-{token}"))
    };
    let limits = by(Method::PUT, "/api/v1/queues/mail/limits", "run").body(r#"{"concurrency":3}"#);
    assert_eq!(host.send(limits).await.status, 200);
    let schedule = r#"{"cron":"0 2 * * *","job":{"type":"elsewhere","input":{"secret":"s3cret"}}}"#;
    let schedule = by(Method::PUT, "/api/v1/schedules/nightly", "run").body(schedule);
    assert!(host.send(schedule).await.status.is_success());
    let unknown = by(Method::POST, "/api/v1/jobs/01M87RHY5KX0NB7SHQFCAB8B00/pause", "own");
    assert_eq!(host.send(unknown.header("x-request-id", "abc")).await.status, 404);
    assert_eq!(host.send(by(Method::DELETE, "/api/v1/schedules/nightly", "look")).await.status, 403);
    let job = by(Method::POST, "/api/v1/jobs", "run").body(r#"{"type":"elsewhere","input":{}}"#);
    assert_eq!(host.send(job).await.status, 201);

    let list = async |query: &str| {
        let answer = host.send(by(Method::GET, &format!("/api/v1/audit{query}"), "own")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains("s3cret"), "an input is in the log: {}", answer.text);
        answer.json()
    };
    let log = list("").await;
    let entries = log["entries"].as_array().unwrap();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            (text("actor"), text("method"), entry["status"].as_u64().unwrap(), text("code"))
        })
        .collect();
    let told_as =
        |actor: &str, method: &str, status, code: &str| (actor.into(), method.into(), status, code.into());
    let expected = [
        told_as("look", "DELETE", 403, "scope-missing"),
        told_as("own", "POST", 404, "unknown-job"),
        told_as("run", "PUT", entries[2]["status"].as_u64().unwrap(), ""),
        told_as("run", "PUT", 200, ""),
    ];
    assert_eq!(told, expected);
    assert_eq!((&entries[1]["request_id"], &entries[1]["from"]), (&"abc".into(), &"127.0.0.1".into()));
    assert_eq!(entries[3]["body"]["concurrency"], 3);
    assert_eq!(log["next_cursor"], serde_json::Value::Null);

    assert_eq!(list("?actor=own").await["entries"].as_array().unwrap().len(), 1);
    assert_eq!(list("?about=nightly").await["entries"].as_array().unwrap().len(), 2);
    let first = list("?limit=3").await;
    let rest = list(&format!("?limit=3&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest["entries"].as_array().unwrap().len(), 1);
    let wrong = host.send(by(Method::GET, "/api/v1/audit?cursor=x", "own")).await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (400, "bad-cursor"));
}

#[tokio::test]
async fn whoever_asks_for_a_change_may_say_why() {
    let host = with_tokens().await;
    let by = |method: Method, path: &str| {
        host.request(method, path).header("authorization", "Bearer secret-own").header("origin", &host.base)
    };
    let route = r#"{"targets":[{"arm":"a","weight":100,"http":{"url":"https://example.org/"}}]}"#;
    for (path, status) in [
        ("/api/v1/routes/elsewhere?why=moves%20out".to_owned(), 200),
        (format!("/api/v1/routes/elsewhere?why={}", "w".repeat(501)), 400),
        ("/api/v1/routes/elsewhere".to_owned(), 200),
    ] {
        assert_eq!(host.send(by(Method::PUT, &path).body(route)).await.status, status, "{path}");
    }
    let form = by(Method::POST, "/routes/elsewhere/undo").body("back=%2Froutes&why=too+early");
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    assert!(host.send(form).await.status.is_success());
    // The same for every other change, and for those who look at what is hidden.
    assert_eq!(
        host.send(by(Method::POST, "/api/v1/queues/mail/pause?why=the%20server%20moves")).await.status,
        202
    );
    let look = by(Method::GET, "/api/v1/jobs/01M87RHY5KX0NB7SHQFCAB8B00?reveal=true&why=case%2012");
    assert_eq!(host.send(look).await.status, 404);
    let job = by(Method::POST, "/api/v1/jobs?why=x").body(r#"{"type":"elsewhere","input":{}}"#);
    assert_eq!(host.send(job).await.code(), "invalid-query", "new jobs are not in the log");

    let log = host.send(by(Method::GET, "/api/v1/audit")).await.json();
    let told: Vec<_> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["path"].as_str().unwrap(), entry["why"].as_str(), entry["status"].as_u64().unwrap())
        })
        .collect();
    let put = "/api/v1/routes/elsewhere";
    assert_eq!(
        told,
        [
            ("/api/v1/jobs/01M87RHY5KX0NB7SHQFCAB8B00?reveal=true", Some("case 12"), 404),
            ("/api/v1/queues/mail/pause", Some("the server moves"), 202),
            ("/routes/elsewhere/undo", Some("too early"), 303),
            (put, None, 200),
            (put, None, 400),
            (put, Some("moves out"), 200),
        ]
    );
    let route = host.send(by(Method::GET, "/api/v1/routes/elsewhere")).await.json();
    let history: Vec<_> = route["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["what"].as_str().unwrap(), one["why"].as_str().unwrap()))
        .collect();
    assert_eq!(history, [("undo", "too early"), ("put", ""), ("put", "moves out")]);
    let page = host.send(by(Method::GET, "/audit")).await.text;
    assert!(page.contains("moves out") && page.contains("too early"), "{page}");
}

#[tokio::test]
async fn a_read_only_host_shows_and_changes_nothing() {
    let host = Host::with(|api| api.read_only = true).await;
    assert_eq!(host.get("/api/v1/jobs").await.status, 200);
    let answer = host.post("/api/v1/jobs", r#"{"type":"elsewhere","input":{}}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "read-only"));
}
