//! What the overview says of what does not go on.

use crate::harness::Host;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_host_is_short_of_memory_from_95_percent_on() {
    let host = Host::start().await;
    for (memory, says) in [(0.949, None), (0.95, Some("95 %")), (0.97, Some("97 %")), (0.5, None)] {
        let record = json!({"id": "node-7", "ready": true, "slots": 2, "load": {"memory": memory}});
        host.store.put_host("node-7", &record.to_string(), 60_000).await.unwrap();
        let text = host.send(host.request(Method::GET, "/").header("accept", "text/html")).await.text;
        assert!(text.contains("Stuck, and why"), "{text}");
        assert_eq!(text.contains("node-7 is short of memory"), says.is_some(), "{memory}: {text}");
        if let Some(share) = says {
            assert!(text.contains(&format!("{share} of what it may use is in use")), "{memory}: {text}");
        }
    }
}
