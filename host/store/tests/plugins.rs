//! Plugins that hosts share, against a real server.

mod support;

use support::World;
use waymark_store::{NewPlugin, SharedPlugin};

/// Something that does not shrink, so that it has several parts.
fn file(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn new<'a>(digest: &'a str, file: &'a [u8]) -> NewPlugin<'a> {
    NewPlugin { name: "counter", digest, file, version: "1.0.0", forced: false, signature: None }
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_shared_and_a_newer_one_takes_its_place() {
    let world = World::new().await;
    let store = &world.store;
    assert_eq!(store.shared_plugins().await.unwrap(), []);
    let (first, second) = (file(1, 1_300_000), file(2, 10));
    let one = store.share_plugin(new("aa", &first)).await.unwrap();
    assert_eq!(store.shared_plugin("aa", 2_000_000).await.unwrap().as_deref(), Some(&first[..]));
    let entry = SharedPlugin {
        name: "counter".into(),
        number: one,
        digest: Some("aa".into()),
        version: "1.0.0".into(),
        forced: false,
        signature: None,
    };
    assert_eq!(store.shared_plugins().await.unwrap(), std::slice::from_ref(&entry));
    let again = store.share_plugin(new("aa", &first)).await.unwrap();
    assert!(again > one, "numbers grow");
    assert!(store.shared_plugin("aa", 2_000_000).await.unwrap().is_some(), "it does not remove itself");
    let signed = NewPlugin { forced: true, signature: Some("c2ln"), version: "0.9.0", ..new("bb", &second) };
    let two = store.share_plugin(signed).await.unwrap();
    assert!(two > again);
    let entry = SharedPlugin {
        number: two,
        digest: Some("bb".into()),
        version: "0.9.0".into(),
        forced: true,
        signature: Some("c2ln".into()),
        ..entry
    };
    assert_eq!(store.shared_plugins().await.unwrap(), [entry]);
    assert_eq!(store.shared_plugin("aa", 2_000_000).await.unwrap(), None, "the older file is gone");
    let three = store.withdraw_plugin("counter").await.unwrap();
    let gone = &store.shared_plugins().await.unwrap()[0];
    assert!(three > two && gone.digest.is_none() && gone.number == three);
    assert_eq!(store.shared_plugin("bb", 2_000_000).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_that_is_not_whole_gets_no_entry_and_goes_by_itself() {
    let world = World::new().await;
    let mut connection = world.redis.connection();
    let prefix: Vec<String> = redis::cmd("KEYS").arg("*partitions").query(&mut connection).unwrap();
    let head = prefix[0].trim_end_matches("partitions").to_owned();
    let file = file(3, 1_300_000);
    let _ = world.store.share_plugin(new("aa", &file)).await.unwrap();
    let ttl: i64 = redis::cmd("TTL").arg(format!("{head}plugin:aa")).query(&mut connection).unwrap();
    assert_eq!(ttl, -1, "what has an entry stays");
    // A part that was lost, as by a server that took over.
    let _: u64 = redis::cmd("HDEL").arg(format!("{head}plugin:aa")).arg(1).query(&mut connection).unwrap();
    let short = world.store.shared_plugin("aa", 2_000_000).await;
    assert!(short.is_err(), "half a file is none");
    let limited = world.store.share_plugin(new("cc", &vec![0; 3_000_000])).await.unwrap();
    assert!(limited > 0);
    assert!(world.store.shared_plugin("cc", 1_000_000).await.is_err(), "it unpacks to more than was allowed");
}
