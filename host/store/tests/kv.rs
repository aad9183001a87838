//! The script of buckets against a real server.

mod support;

use support::World;
use waymark_job::bucket::Bucket;

fn bucket(ttl_ms: u64) -> Bucket {
    Bucket { name: "type:default".into(), bytes_max: 20, ttl_ms }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn value(name: &str, bytes: usize) -> (String, Vec<u8>) {
    (name.to_owned(), vec![b'x'; bytes])
}

#[tokio::test]
async fn a_bucket_holds_what_its_quota_allows_until_it_expires() {
    let world = World::new().await;
    let (store, bucket) = (&world.store, bucket(60_000));
    assert!(store.kv_set(&bucket, &[value("a", 5), value("b", 6)]).await.unwrap());
    let before = world.dump();
    assert!(!store.kv_set(&bucket, &[value("a", 1), value("c", 14)]).await.unwrap(), "24 of 20 bytes");
    assert_eq!(before, world.dump(), "all or nothing");
    assert!(store.kv_set(&bucket, &[value("a", 12)]).await.unwrap(), "what is replaced makes room");
    let found = store.kv_get(&bucket, &names(&["a", "none", "b"])).await.unwrap();
    let lengths: Vec<_> = found.iter().map(|value| value.as_ref().map(Vec::len)).collect();
    assert_eq!(lengths, [Some(12), None, Some(6)]);
    assert_eq!(store.kv_increment(&bucket, "n", 1).await.unwrap(), None, "no room");
    store.kv_delete(&bucket, &names(&["a", "b", "none"])).await.unwrap();
    let roomy = Bucket { bytes_max: 100, ..bucket.clone() };
    assert_eq!(store.kv_increment(&roomy, "n", 2).await.unwrap(), Some(2));
    assert_eq!(store.kv_increment(&roomy, "n", 40).await.unwrap(), Some(42));
    assert!(store.kv_set(&roomy, &[value("t", 3)]).await.unwrap());
    assert!(store.kv_increment(&roomy, "t", 1).await.is_err(), "it is no number");

    let brief = Bucket { ttl_ms: 30, name: "type:brief".into(), ..bucket };
    assert!(store.kv_set(&brief, &[value("a", 19)]).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    assert_eq!(store.kv_get(&brief, &names(&["a"])).await.unwrap(), [None]);
    assert!(store.kv_set(&brief, &[value("b", 19)]).await.unwrap(), "what expired makes room");
}

#[tokio::test]
async fn names_are_listed_in_pages() {
    let world = World::new().await;
    let bucket = Bucket { bytes_max: 100_000, ..bucket(60_000) };
    let values: Vec<_> = (0..250).map(|number| value(&format!("n{number}"), 1)).collect();
    assert!(world.store.kv_set(&bucket, &values).await.unwrap());
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(index) = from {
        let (names, next) = world.store.kv_keys(&bucket, index).await.unwrap();
        found.extend(names);
        from = next;
    }
    found.sort();
    let mut wanted: Vec<_> = values.into_iter().map(|(name, _)| name).collect();
    wanted.sort();
    assert_eq!(found, wanted);
}
