//! One connection to a single server, to a Sentinel's master, or to a Cluster, healed when it breaks.
//!
//! A connection is made when it is needed and thrown away after an error that says that it is of no use any more.
//! Where repeating is safe the command is sent again, after growing, jittered pauses. All callers share one
//! connection, so that commands of many travel together.
//!
//! The client of a Cluster stops all commands while it looks for a server that does not answer. So there are two
//! connections to a Cluster: keys whose server did not answer go by the second one until it does, and hold up only each
//! other.

use crate::Error;
use redis::{
    Client, ClientTlsConfig, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    ServerErrorKind, TlsCertificates, TlsMode, Value,
    aio::MultiplexedConnection,
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{
        Mutex as Lock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Time for one answer. Scripts stay below 10 ms; what takes longer is a server that is not there.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Sendings in all, where repeating is safe: a server that restarts or fails over is often back by then.
const SENDS_MAX: u32 = 5;
/// The same to a server of a Cluster that did not answer lately: whoever wants to know asks again.
const AWAY_SENDS_MAX: u32 = 2;
/// Repetitions inside the client of a Cluster, which finds the new master of a slot meanwhile.
const CLUSTER_REPEATS_MAX: u32 = 2;
/// Longest pause between two of those: the partitions of a master that is gone must not take long to say so.
const CLUSTER_PAUSE_MAX: Duration = Duration::from_millis(100);
/// A command to a Cluster that is given up without an answer after so long counts as one to a server that is away.
const SILENT: Duration = Duration::from_millis(500);
/// Longest wait for a connection that replaces one which still serves others.
const REPLACE_MAX: Duration = Duration::from_secs(2);
/// First pause between two of them; each following one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(25);

enum Kind {
    Single(Box<Client>),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>, Vec<Client>),
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// May a command be sent again when nobody knows whether it happened?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Yes.
    Safe,
    /// Only if it certainly did not happen.
    Never,
}

/// What TLS needs beyond the address; PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// Certificates of the authorities that are trusted, instead of the well-known ones.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate chain and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, identity) = (self.ca.is_some(), self.identity.is_some());
        f.debug_struct("Tls").field("ca", &ca).field("identity", &identity).finish()
    }
}

impl Tls {
    fn certificates(&self) -> Option<TlsCertificates> {
        let client_tls = self
            .identity
            .clone()
            .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let given = client_tls.is_some() || self.ca.is_some();
        given.then(|| TlsCertificates { client_tls, root_cert: self.ca.clone() })
    }
}

/// An answer to come. Behind a pointer, so that what sends is compiled once, and not for every type of answer.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<Value, RedisError>> + Send + 'a>>;

fn read<T: FromRedisValue>(answer: Result<Value, RedisError>) -> Result<T, RedisError> {
    Ok(redis::from_redis_value(answer?)?)
}

/// A connection in use.
struct Current {
    /// So that one that broke is replaced once.
    number: u64,
    since: Instant,
    connection: Connection,
    /// Its map of the Cluster may be old: it is replaced as soon as another one stands.
    is_old: bool,
}

/// Which connection a command goes by; only a Cluster has the second.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Main = 0,
    Away = 1,
}

/// The connection of a store.
pub(crate) struct Link {
    kind: Kind,
    /// Number of the database; 0 on a Cluster.
    database: i64,
    current: [Mutex<Option<Current>>; 2],
    numbers: AtomicU64,
    /// Times that one server was chosen.
    turns: AtomicU64,
    /// Hash tags of keys whose server did not answer, and since when.
    away: Lock<HashMap<String, Instant>>,
}

/// Notes that a server is away when a command is given up that it left without an answer.
struct Patience<'a> {
    link: &'a Link,
    lane: Lane,
    tag: Option<&'a str>,
    began: Instant,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        let Some(tag) = self.tag.filter(|_| self.began.elapsed() >= SILENT) else { return };
        self.link.missed(tag);
        // Its map of the Cluster may be old. Where it is locked, somebody is connecting.
        if self.lane == Lane::Away
            && let Ok(mut current) = self.link.current[self.lane as usize].try_lock()
        {
            *current = None;
        }
    }
}

impl Link {
    pub(crate) fn open(url: &str, tls: &Tls) -> Result<Self, Error> {
        let (kind, database) = Kind::parse(url, tls)?;
        Ok(Self {
            kind,
            database,
            current: [Mutex::new(None), Mutex::new(None)],
            numbers: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            away: Lock::default(),
        })
    }

    /// The database that scripts begin in.
    pub(crate) fn database(&self) -> i64 {
        self.database
    }

    fn away(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Did the server of keys with this hash tag not answer lately? Only ever so in a Cluster.
    pub(crate) fn is_away(&self, tag: &str) -> bool {
        self.is_cluster() && self.away().contains_key(tag)
    }

    fn lane(&self, tag: Option<&str>) -> Lane {
        if tag.is_some_and(|tag| self.away().contains_key(tag)) { Lane::Away } else { Lane::Main }
    }

    /// A server of a Cluster did not answer.
    fn missed(&self, tag: &str) {
        let mut away = self.away();
        if !away.contains_key(tag) {
            tracing::warn!(tag, "a server of the Cluster does not answer");
            away.insert(tag.to_owned(), Instant::now());
        }
    }

    /// It answered. The first connection may still look for it where it was.
    async fn answered(&self, tag: &str) {
        let since = self.away().remove(tag);
        if let Some(since) = since {
            tracing::info!(tag, "the server of the Cluster answers again");
            if let Some(current) = &mut *self.current[Lane::Main as usize].lock().await {
                current.is_old |= current.since < since;
            }
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(..))
    }

    async fn connection(&self, lane: Lane) -> Result<(u64, Connection), RedisError> {
        let mut current = self.current[lane as usize].lock().await;
        match &mut *current {
            Some(known) if !known.is_old => return Ok((known.number, known.connection.clone())),
            Some(known) => {
                known.is_old = false;
                match tokio::time::timeout(REPLACE_MAX, self.connect()).await {
                    Ok(Ok(connection)) => known.connection = connection,
                    _ => tracing::warn!("the connection to the Cluster stays as it is"),
                }
                known.since = Instant::now();
                return Ok((known.number, known.connection.clone()));
            }
            None => {}
        }
        let connection = self.connect().await?;
        let number = self.numbers.fetch_add(1, Relaxed) + 1;
        let since = Instant::now();
        *current = Some(Current { number, since, connection: connection.clone(), is_old: false });
        Ok((number, connection))
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        Ok(match &self.kind {
            Kind::Single(client) => {
                Connection::One(client.get_multiplexed_async_connection_with_config(&config()).await?)
            }
            Kind::Sentinel(client) => {
                Connection::One(client.lock().await.get_async_connection_with_config(&config()).await?)
            }
            Kind::Cluster(client, _) => Connection::Cluster(client.get_async_connection().await?),
        })
    }

    /// Forgets a connection that broke, or whose server is no longer the master. The first one to a Cluster heals
    /// itself: it still serves those whose master is there.
    async fn failed(&self, lane: Lane, number: u64, error: &RedisError) {
        let heals =
            self.is_cluster() && lane == Lane::Main && error.kind() != ErrorKind::ClusterConnectionNotFound;
        if is_broken(error) && !heals {
            let mut current = self.current[lane as usize].lock().await;
            if current.as_ref().is_some_and(|known| known.number == number) {
                *current = None;
            }
        }
    }

    /// Sends a command that may be repeated. Without a key any server of a Cluster answers.
    pub(crate) async fn any<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.send(Repeat::Safe, command).await
    }

    /// Fields of a hash with their values, a portion per call, until `most` and the rest of a portion were read.
    pub(crate) async fn fields<T: FromRedisValue>(
        &self,
        key: &str,
        most: usize,
    ) -> Result<Vec<(String, T)>, RedisError> {
        let (mut all, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(key).arg(cursor).arg("COUNT").arg(500);
            let (next, page): (u64, Vec<(String, T)>) = self.any(&command).await?;
            all.extend(page);
            if next == 0 || all.len() >= most {
                return Ok(all);
            }
            cursor = next;
        }
    }

    /// Sends a command.
    pub(crate) async fn send<T: FromRedisValue>(
        &self,
        repeat: Repeat,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        read(self.try_until(repeat, Request::One(command)).await)
    }

    /// Sends a command once and waits no longer than `within`: a server that swallows everything is known soon, and
    /// the next command finds another connection.
    pub(crate) async fn probe<T: FromRedisValue>(
        &self,
        command: &Cmd,
        within: Duration,
    ) -> Result<T, RedisError> {
        read(self.probe_once(command, within).await)
    }

    fn probe_once<'a>(&'a self, command: &'a Cmd, within: Duration) -> Answer<'a> {
        Box::pin(async move {
            let tag = self.tag(Request::One(command));
            let lane = self.lane(tag.as_deref());
            let sent = self.send_once(lane, tag.as_deref(), Request::One(command));
            if let Ok(answered) = tokio::time::timeout(within, sent).await {
                return answered.map_err(|(_, error)| error);
            }
            // The first connection to a Cluster serves others. Where it is locked, somebody is connecting.
            if (!self.is_cluster() || lane == Lane::Away)
                && let Ok(mut current) = self.current[lane as usize].try_lock()
            {
                *current = None;
            }
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {within:?}"))
                .into())
        })
    }

    /// Sends a command that may be repeated to a server that may be away: twice at most, because a connection may have
    /// broken unnoticed, and within this time.
    pub(crate) async fn soon<T: FromRedisValue>(
        &self,
        command: &Cmd,
        within: Duration,
    ) -> Result<T, RedisError> {
        let began = Instant::now();
        match self.probe(command, within).await {
            Err(error) if is_passing(&error) && began.elapsed() < within / 2 => {
                self.probe(command, within - began.elapsed()).await
            }
            other => other,
        }
    }

    /// Sends a pipeline of reads. All its keys belong to one partition.
    pub(crate) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, RedisError> {
        read(self.try_until(Repeat::Safe, Request::Many(pipeline)).await)
    }

    fn try_until<'a>(&'a self, repeat: Repeat, request: Request<'a>) -> Answer<'a> {
        Box::pin(async move {
            let mut pause = PAUSE_MIN;
            let mut sends = 1;
            let tag = self.tag(request);
            loop {
                let lane = self.lane(tag.as_deref());
                let (happened, error) = match self.send_once(lane, tag.as_deref(), request).await {
                    Ok(answer) => return Ok(answer),
                    Err(failed) => failed,
                };
                let most = if lane == Lane::Away { AWAY_SENDS_MAX } else { SENDS_MAX };
                if !is_passing(&error) || (happened && repeat == Repeat::Never) || sends >= most {
                    return Err(error);
                }
                tokio::time::sleep(jitter(pause)).await;
                pause *= 2;
                sends += 1;
            }
        })
    }

    /// Sends once. An error says whether the command may have happened.
    async fn send_once(
        &self,
        lane: Lane,
        tag: Option<&str>,
        request: Request<'_>,
    ) -> Result<Value, (bool, RedisError)> {
        let (number, connection) = self.connection(lane).await.map_err(|error| (false, error))?;
        let mut patience = Patience { link: self, lane, tag, began: Instant::now() };
        let sent = request.send(connection).await;
        patience.tag = None;
        match sent {
            Ok(answer) => {
                if let Some(tag) = tag.filter(|_| lane == Lane::Away) {
                    self.answered(tag).await;
                }
                Ok(answer)
            }
            Err(error) => {
                self.failed(lane, number, &error).await;
                if let Some(tag) = tag.filter(|_| is_passing(&error)) {
                    self.missed(tag);
                }
                // What the server itself refuses did not happen.
                Err((!matches!(error.kind(), ErrorKind::Server(_)), error))
            }
        }
    }

    /// The hash tag of the keys of a command to a Cluster.
    fn tag(&self, request: Request<'_>) -> Option<String> {
        if !self.is_cluster() {
            return None;
        }
        let command = match request {
            Request::One(command) => command,
            Request::Many(pipeline) => pipeline.cmd_iter().next()?,
        };
        // The key follows the name of a command; that of a script follows its digest and their number.
        command.args_iter().skip(1).take(3).find_map(|argument| match argument {
            redis::Arg::Simple(bytes) => tag_of(bytes),
            _ => None,
        })
    }

    /// A client of one server: of a Cluster the first that answers, beginning with another one each time.
    async fn client(&self) -> Result<Client, RedisError> {
        match &self.kind {
            Kind::Single(client) => Ok(client.as_ref().clone()),
            Kind::Sentinel(client) => client.lock().await.async_get_client().await,
            Kind::Cluster(_, nodes) => {
                let mut last = RedisError::from((ErrorKind::ClusterConnectionNotFound, "no server is named"));
                let first = self.turns.fetch_add(1, Relaxed) as usize % nodes.len().max(1);
                for node in nodes[first..].iter().chain(&nodes[..first]) {
                    match node.get_multiplexed_async_connection_with_config(&config()).await {
                        Ok(_) => return Ok(node.clone()),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    /// What one server says about itself.
    pub(crate) async fn info(&self) -> Result<String, RedisError> {
        let client = self.client().await?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config()).await?;
        redis::cmd("INFO").query_async(&mut connection).await
    }

    /// A connection of its own that listens to channels. Every server of a Cluster hears what is published on any
    /// of them.
    pub(crate) async fn pubsub(&self) -> Result<redis::aio::PubSub, RedisError> {
        let client = self.client().await?;
        match tokio::time::timeout(CONNECT_MAX, client.get_async_pubsub()).await {
            Ok(pubsub) => pubsub,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

/// What is sent at once.
#[derive(Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

impl Request<'_> {
    async fn send(self, connection: Connection) -> Result<Value, RedisError> {
        match (self, connection) {
            (Self::One(command), Connection::One(mut connection)) => {
                command.query_async(&mut connection).await
            }
            (Self::One(command), Connection::Cluster(mut connection)) => {
                command.query_async(&mut connection).await
            }
            (Self::Many(pipeline), Connection::One(mut connection)) => {
                pipeline.query_async(&mut connection).await
            }
            (Self::Many(pipeline), Connection::Cluster(mut connection)) => {
                pipeline.query_async(&mut connection).await
            }
        }
    }
}

impl Kind {
    /// With the number of the database.
    fn parse(url: &str, tls: &Tls) -> Result<(Self, i64), Error> {
        let wrong = |error: RedisError| Error::Setup(format!("the Redis address does not fit: {error}"));
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (secure, sentinel) = match scheme {
            "redis-sentinel" => (false, true),
            "rediss-sentinel" => (true, true),
            "redis-cluster" => (false, false),
            "rediss-cluster" => (true, false),
            _ => {
                let client = open(url, tls).map_err(wrong)?;
                let database = client.get_connection_info().redis_settings().db();
                return Ok((Self::Single(Box::new(client)), database));
            }
        };
        let plain = if secure { "rediss" } else { "redis" };
        let certificates = tls.certificates().filter(|_| secure);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let hosts: Vec<_> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
        if hosts.is_empty() {
            return Err(Error::Setup(format!("the Redis address {scheme}:// names no server")));
        }
        if !sentinel {
            let urls: Vec<_> = hosts.iter().map(|host| format!("{plain}://{user}{host}")).collect();
            let nodes = urls.iter().map(|url| open(url, tls)).collect::<Result<_, _>>().map_err(wrong)?;
            let mut builder = ClusterClient::builder(urls)
                .connection_timeout(CONNECT_MAX)
                .response_timeout(ANSWER_MAX)
                .tcp_settings(TcpSettings::default().set_nodelay(true))
                // A claim that a lost answer makes it send again is refused by its token.
                .retries(CLUSTER_REPEATS_MAX)
                .max_retry_wait(CLUSTER_PAUSE_MAX.as_millis() as u64);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok((Self::Cluster(Box::new(builder.build().map_err(wrong)?), nodes), 0));
        }
        let (master, database) = path.split_once('/').unwrap_or((path, ""));
        if master.is_empty() {
            return Err(Error::Setup(
                "a Sentinel address is redis-sentinel://host:port,host:port/master or …/master/database"
                    .to_owned(),
            ));
        }
        let sentinels = hosts.iter().map(|host| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let url = format!("{plain}://{host}{}", if has_port { "" } else { ":26379" });
            Ok(url.into_connection_info()?.addr().clone())
        });
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        // User, password and database are those of the servers that the Sentinels name.
        let server =
            format!("{plain}://{user}localhost/{database}").as_str().into_connection_info().map_err(wrong)?;
        let server = server.redis_settings();
        let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)
            .map_err(wrong)?
            .set_client_to_redis_tcp_settings(TcpSettings::default().set_nodelay(true))
            .set_client_to_redis_db(server.db());
        if let Some(name) = server.username() {
            builder = builder.set_client_to_redis_username(name);
        }
        if let Some(password) = server.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if secure {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_sentinel_certificates(certificates.clone())
                .set_client_to_redis_certificates(certificates);
        }
        Ok((Self::Sentinel(Box::new(Mutex::new(builder.build().map_err(wrong)?))), server.db()))
    }
}

fn open(url: &str, tls: &Tls) -> Result<Client, RedisError> {
    let info = url.into_connection_info()?;
    // A small command must not wait until earlier ones are acknowledged.
    let settings = info.tcp_settings().clone().set_nodelay(true);
    let info = info.set_tcp_settings(settings);
    match tls.certificates().filter(|_| url.starts_with("rediss:")) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

fn config() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        .set_response_timeout(Some(ANSWER_MAX))
}

/// What stands in the braces that a key begins with.
fn tag_of(key: &[u8]) -> Option<String> {
    let rest = key.strip_prefix(b"{")?;
    let end = rest.iter().position(|byte| *byte == b'}')?;
    std::str::from_utf8(&rest[..end]).ok().map(str::to_owned)
}

/// Is the connection of no use any more?
fn is_broken(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, MasterDown, ReadOnly};
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound => true,
        ErrorKind::Server(kind) => matches!(kind, BusyLoading | MasterDown | ReadOnly),
        _ => false,
    }
}

/// May the same command succeed soon?
pub(crate) fn is_passing(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel => true,
        ErrorKind::Server(kind) => {
            matches!(kind, Ask | BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly | TryAgain)
        }
        _ => false,
    }
}

/// Between half and all of it, so that hosts do not come back in step.
pub(crate) fn jitter(pause: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness the longest pause is the safe one.
    let part = match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    pause.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_topology_are_read() {
        for url in [
            "redis://127.0.0.1:6379/2",
            "rediss://user:secret@redis.example",
            "unix:///run/redis.sock",
            "redis+unix:///run/redis.sock?db=1",
            "redis-sentinel://a:26379,b/main/3",
            "redis-sentinel://:secret@a,b/main",
            "rediss-cluster://user:secret@a:1,b:2",
        ] {
            assert!(Link::open(url, &Tls::default()).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_command_to_a_cluster_is_known_by_the_tag_of_its_key() {
        let cluster = Link::open("redis-cluster://a", &Tls::default()).unwrap();
        let single = Link::open("redis://a", &Tls::default()).unwrap();
        let mut get = redis::cmd("GET");
        get.arg("{wm3}:idem:x");
        let mut script = redis::cmd("EVALSHA");
        script.arg("0123").arg(1).arg("{wm12}:").arg("{no}");
        let mut many = redis::pipe();
        many.hgetall("{wm}:hosts").get("{wm}:leader");
        assert_eq!(cluster.tag(Request::One(&get)).as_deref(), Some("wm3"));
        assert_eq!(cluster.tag(Request::One(&script)).as_deref(), Some("wm12"));
        assert_eq!(cluster.tag(Request::Many(&many)).as_deref(), Some("wm"));
        assert_eq!(cluster.tag(Request::One(&redis::cmd("TIME"))), None);
        assert_eq!(single.tag(Request::One(&get)), None);
        cluster.missed("wm3");
        assert!(cluster.is_away("wm3") && !cluster.is_away("wm12"));
    }

    #[test]
    fn addresses_that_lack_something_are_refused() {
        for url in [
            "",
            "localhost",
            "http://a",
            "redis-sentinel://a:1",
            "redis-cluster://",
            "redis-sentinel://a/m/x",
        ] {
            assert!(matches!(Link::open(url, &Tls::default()), Err(Error::Setup(_))), "{url}");
        }
    }
}
