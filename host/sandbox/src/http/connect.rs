//! From a name to a connection: resolved once, checked, and connected to the very address that was checked.

use super::{addresses::is_inside, config::Scheme};
use rustls::pki_types::ServerName;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

/// The addresses of a name, in the order in which to try them.
pub(super) type Resolve = Arc<
    dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync,
>;

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Where a request goes, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scheme: Scheme,
    /// In lower case; an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Place {
    /// # Errors
    /// The address is not one of a web server.
    pub(super) fn of(uri: &http::Uri) -> Result<Self, Error> {
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => return Err(Error::HttpProtocolError),
        };
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        if host.is_empty() {
            return Err(Error::HttpRequestUriInvalid);
        }
        // `host:` and `host:99999` are no ports; the library takes them for none.
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str().ends_with([':'])
                || authority.as_str().len() > authority.host().len() =>
            {
                return Err(Error::HttpRequestUriInvalid);
            }
            None => scheme.port(),
        };
        Ok(Self { scheme, host: host.to_owned(), port })
    }
}

/// The system's resolver.
pub(super) fn system() -> Resolve {
    Arc::new(|host, port| {
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) })
    })
}

/// Resolves a name once and checks all that it stands for: an attacker who answers with one address outside and one
/// inside is refused for the second.
///
/// # Errors
/// The name has no address, or one that is inside while only the outside is allowed.
pub(super) async fn addresses(
    resolve: &Resolve,
    place: &Place,
    inside_allowed: bool,
) -> Result<Vec<SocketAddr>, Error> {
    let mut found = match place.host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, place.port)],
        Err(_) => resolve(place.host.clone(), place.port).await.map_err(|_| Error::DnsError {
            rcode: Some("the name was not resolved".to_owned()),
            info_code: None,
        })?,
    };
    if found.is_empty() {
        return Err(Error::DestinationNotFound);
    }
    if !inside_allowed && found.iter().any(|address| is_inside(address.ip())) {
        return Err(Error::DestinationIpProhibited);
    }
    found.truncate(ADDRESSES_MAX);
    Ok(found)
}

/// Connects to the first of these addresses that answers, and to no other.
///
/// # Errors
/// None answers, or TLS fails.
pub(super) async fn connect(
    tls: &Arc<rustls::ClientConfig>,
    place: &Place,
    addresses: &[SocketAddr],
) -> Result<Box<dyn Stream>, Error> {
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A small request must not wait until an earlier packet is acknowledged.
                stream.set_nodelay(true).map_err(Error::Connect)?;
                return secured(tls, place, stream).await;
            }
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

async fn secured(
    tls: &Arc<rustls::ClientConfig>,
    place: &Place,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, Error> {
    if place.scheme == Scheme::Http {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(place.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let secured = TlsConnector::from(tls.clone()).connect(name, stream).await;
    Ok(Box::new(secured.map_err(Error::Tls)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    fn place(uri: &str) -> Result<Place, Error> {
        Place::of(&uri.parse().unwrap())
    }

    /// A resolver that answers with one list after the other.
    fn scripted(answers: &'static [&'static [&'static str]]) -> Resolve {
        let asked = Arc::new(AtomicUsize::new(0));
        Arc::new(move |_, port| {
            let answer = answers[asked.fetch_add(1, SeqCst)];
            let found = answer.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect();
            Box::pin(async move { Ok(found) })
        })
    }

    #[test]
    fn an_address_is_taken_apart_without_guessing() {
        let plain = Place { scheme: Scheme::Https, host: "a.example".into(), port: 443 };
        assert_eq!(place("https://A.Example/x").unwrap(), plain);
        assert_eq!(place("http://[::1]:8080/").unwrap().host, "::1");
        for wrong in
            ["https://user@a.example/", "https://a.example@b.example/", "https://a.example:/", "ftp://a/"]
        {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_whatever_else_it_leads_to() {
        let place = place("https://a.example/").unwrap();
        let answers: &[&[&str]] =
            &[&["127.0.0.1"], &["1.1.1.1", "10.0.0.1"], &["::ffff:169.254.169.254"], &[]];
        let resolve = scripted(answers);
        for _ in 0..3 {
            let found = addresses(&resolve, &place, false).await;
            assert!(matches!(found, Err(Error::DestinationIpProhibited)), "{found:?}");
        }
        assert!(matches!(addresses(&resolve, &place, false).await, Err(Error::DestinationNotFound)));
        let allowed = addresses(&scripted(&[&["127.0.0.1"]]), &place, true).await.unwrap();
        assert_eq!(allowed, ["127.0.0.1:443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_that_changes_after_the_check_changes_nothing() {
        // The second answer would lead inside; nobody asks for it.
        let resolve = scripted(&[&["1.1.1.1"], &["127.0.0.1"]]);
        let place = place("https://rebind.example/").unwrap();
        let found = addresses(&resolve, &place, false).await.unwrap();
        assert_eq!(found, ["1.1.1.1:443".parse().unwrap()], "what was checked is what is connected to");
        let again = addresses(&resolve, &place, false).await;
        assert!(matches!(again, Err(Error::DestinationIpProhibited)), "the next request checks anew");
    }

    #[tokio::test]
    async fn numbers_that_resolvers_take_for_addresses_are_checked_as_what_they_are() {
        for host in ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost"] {
            let place = Place { scheme: Scheme::Http, host: host.into(), port: 80 };
            let found = addresses(&system(), &place, false).await;
            assert!(found.is_err(), "{host}: {found:?}");
        }
    }
}
