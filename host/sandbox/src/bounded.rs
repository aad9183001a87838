//! Bodies of answers that the host reads for itself: a server must not make it hold more than it asked for.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use std::pin::pin;

/// All of a body that comes in parts; `None` if that is more than `bytes_max`, and then the rest is not read.
///
/// # Errors
/// The body breaks off.
pub async fn whole<Error>(
    parts: impl Stream<Item = Result<Bytes, Error>>,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let mut parts = pin!(parts);
    let mut whole = Vec::new();
    while let Some(part) = parts.try_next().await? {
        if whole.len() + part.len() > bytes_max {
            return Ok(None);
        }
        whole.extend_from_slice(&part);
    }
    Ok(Some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};

    #[tokio::test]
    async fn a_body_ends_at_its_bound() {
        let parts =
            || stream::iter(["ab", "cd"].map(|part| Ok::<_, &str>(Bytes::from_static(part.as_bytes()))));
        assert_eq!(whole(parts(), 4).await, Ok(Some(b"abcd".to_vec())));
        assert_eq!(whole(parts(), 3).await, Ok(None));
        let broken = stream::iter([Err("gone")]);
        assert_eq!(whole(parts().chain(broken), 4).await, Err("gone"));
    }
}
