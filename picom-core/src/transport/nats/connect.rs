//! From options to a live connection: which server to try, the handshake, and what to say when
//! that fails.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::auth;
use super::connection::{Connection, Stream, BLOCK};
use super::parse::{self, Next, Op};
use super::trouble::Trouble;
use super::websocket::Bytestream;
use crate::error::Result;
use crate::options::{self, Options, ServerAddress, TlsOptions};

/// How long one server may take from the first packet to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// After so long a connection has shown that it holds.
const LASTING: Duration = Duration::from_secs(1);

/// What picom reads of a server's `INFO`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerInfo {
    max_payload: Option<usize>,
    pub(super) nonce: String,
    pub(super) tls_required: bool,
    #[serde(deserialize_with = "nullable")]
    pub(super) connect_urls: Vec<String>,
}

impl ServerInfo {
    /// What the server accepts; a server's default where it does not say.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.unwrap_or(1 << 20)
    }
}

fn nullable<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Knows the servers of the cluster, and how often the last tries failed.
pub(super) struct Connector {
    options: Arc<Options>,
    name: String,
    servers: Vec<Server>,
    /// Rounds since there was a connection that lasted.
    rounds: usize,
    /// Since when there is a connection, until the first round after its loss.
    connected: Option<Instant>,
}

#[derive(Clone)]
struct Server {
    address: ServerAddress,
    wants_tls: bool,
    failures: u32,
    /// A server named it; the options did not.
    discovered: bool,
}

impl Server {
    fn new(address: ServerAddress) -> Server {
        Server { wants_tls: address.wants_tls(), address, failures: 0, discovered: false }
    }

    fn is_at(&self, address: &ServerAddress) -> bool {
        (self.address.host(), self.address.port()) == (address.host(), address.port())
    }
}

impl Connector {
    /// `name` is what the servers list the connection under.
    pub(super) fn new(options: Arc<Options>, name: String) -> Connector {
        let addresses = options.servers.iter().filter_map(|text| ServerAddress::parse(text));
        let servers = addresses.map(Server::new).collect();
        Connector { options, name, servers, rounds: 0, connected: None }
    }

    /// What the next round waits for.
    fn next_delay(&mut self) -> Duration {
        let lost = self.connected.take();
        // A server that hangs up on everybody is not asked again and again at once.
        if lost.is_some_and(|connected| connected.elapsed() >= LASTING) {
            self.rounds = 0;
        }
        let first = self.rounds == 0 && lost.is_none();
        let delay = if first { Duration::ZERO } else { reconnect_delay(self.rounds) };
        self.rounds += 1;
        delay
    }

    /// One round: every server once, those that failed least first, until one is connected.
    /// Rounds but the very first begin with a delay, so that a server that comes back is not
    /// run over by its clients.
    pub(super) async fn round(&mut self) -> Result<(Connection, ServerInfo)> {
        tokio::time::sleep(self.next_delay()).await;
        let mut order: Vec<(u32, u64, usize)> = Vec::with_capacity(self.servers.len());
        order.extend(self.servers.iter().enumerate().map(|(at, s)| (s.failures, random(), at)));
        order.sort_unstable();
        let mut last = Trouble::Io(io::ErrorKind::AddrNotAvailable.into());
        for (_, _, at) in order {
            let server = self.servers[at].clone();
            match self.try_server(&server).await {
                Ok((connection, info)) => {
                    self.servers[at].failures = 0;
                    self.connected = Some(Instant::now());
                    self.discover(&info);
                    return Ok((connection, info));
                }
                Err(trouble) => {
                    self.servers[at].failures += 1;
                    // The others of a cluster know the same users.
                    let final_word = matches!(trouble, Trouble::Refused(_) | Trouble::Own(_));
                    last = trouble;
                    if final_word {
                        break;
                    }
                }
            }
        }
        Err(last.explain(&self.options))
    }

    /// Adds the servers that a server knows of, and drops those that it knows of no longer.
    /// Those behind WebSocket cannot be told from it.
    pub(super) fn discover(&mut self, info: &ServerInfo) {
        let websocket = self.servers.iter().any(|server| server.address.is_websocket());
        if websocket || info.connect_urls.is_empty() {
            return;
        }
        let named: Vec<ServerAddress> =
            info.connect_urls.iter().filter_map(|url| ServerAddress::parse(url)).collect();
        self.servers.retain(|s| !s.discovered || named.iter().any(|address| s.is_at(address)));
        // They come without a scheme, and are not to see in clear what the others do not.
        let wants_tls = self.servers.iter().any(|server| server.wants_tls);
        for address in named {
            if !self.servers.iter().any(|server| server.is_at(&address)) {
                self.servers.push(Server { address, wants_tls, failures: 0, discovered: true });
            }
        }
    }

    async fn try_server(
        &self,
        server: &Server,
    ) -> std::result::Result<(Connection, ServerInfo), Trouble> {
        let target = (server.address.host(), server.address.port());
        let found = tokio::time::timeout(HANDSHAKE, tokio::net::lookup_host(target)).await;
        let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let mut last = Trouble::Io(io::ErrorKind::AddrNotAvailable.into());
        for socket in found? {
            let handshake = pin!(async {
                let stream = TcpStream::connect(socket).await.map_err(Trouble::Io)?;
                stream.set_nodelay(true).map_err(Trouble::Io)?;
                self.handshake(stream, server).await
            });
            match tokio::time::timeout(HANDSHAKE, handshake).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(trouble)) => last = trouble,
                Err(_) => last = Trouble::Io(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        server: &Server,
    ) -> std::result::Result<(Connection, ServerInfo), Trouble> {
        let address = &server.address;
        let wants_tls = self.options.tls.is_some() || server.wants_tls;
        let mut read = BytesMut::with_capacity(BLOCK);
        let mut stream: Box<dyn Stream> = match address.is_websocket() {
            false => Box::new(tcp),
            true => {
                let inner: Box<dyn Stream> =
                    if wants_tls { self.tls(Box::new(tcp), address).await? } else { Box::new(tcp) };
                let uri = address.url_without_user();
                let builder = tokio_websockets::ClientBuilder::new().uri(&uri);
                let builder = builder.map_err(|error| Trouble::Io(io::Error::other(error)))?;
                let connected = builder.connect_on(inner).await;
                let (messages, _) =
                    connected.map_err(|error| Trouble::Io(io::Error::other(error)))?;
                Box::new(Bytestream::new(messages))
            }
        };
        let Op::Info(json) = next(&mut stream, &mut read).await? else {
            return Err(Trouble::other("it does not begin as a nats-server does"));
        };
        let mut info = parse_info(&json)?;
        if !address.is_websocket() && (wants_tls || info.tls_required) {
            if !read.is_empty() {
                return Err(Trouble::other("it sent more before TLS than it may"));
            }
            stream = self.tls(stream, address).await?;
        }
        let url_user = self.servers.iter().find_map(|server| server.address.user());
        let connect = auth::connect(&self.options, &self.name, &info, wants_tls, url_user)
            .map_err(Trouble::Own)?;
        let connect = serde_json::to_string(&connect).map_err(io::Error::from);
        let hello = format!("CONNECT {}\r\nPING\r\n", connect.map_err(Trouble::Io)?);
        stream.write_all(hello.as_bytes()).await.map_err(Trouble::Io)?;
        stream.flush().await.map_err(Trouble::Io)?;
        loop {
            match next(&mut stream, &mut read).await? {
                Op::Pong => break,
                Op::Info(json) => info = parse_info(&json)?,
                Op::Ping => stream.write_all(b"PONG\r\n").await.map_err(Trouble::Io)?,
                Op::Error(text) => return Err(Trouble::of_server(text)),
                Op::Ok | Op::Message(_) => {}
            }
        }
        Ok((Connection::new(stream, read, self.options.ttl / 3), info))
    }

    async fn tls(
        &self,
        stream: Box<dyn Stream>,
        address: &ServerAddress,
    ) -> std::result::Result<Box<dyn Stream>, Trouble> {
        let default = TlsOptions::new();
        let config = self.options.tls.as_ref().unwrap_or(&default).client_config();
        let name = ServerName::try_from(address.host().to_owned());
        let name = name.map_err(|error| Trouble::Tls(io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::new(config.map_err(Trouble::Own)?));
        let stream = connector.connect(name, stream).await.map_err(Trouble::Tls)?;
        Ok(Box::new(stream))
    }
}

pub(super) fn parse_info(json: &[u8]) -> io::Result<ServerInfo> {
    serde_json::from_slice(json).map_err(io::Error::from)
}

async fn next(
    stream: &mut Box<dyn Stream>,
    read: &mut BytesMut,
) -> std::result::Result<Op, Trouble> {
    loop {
        match parse::next(read) {
            Ok(Next::Op(op)) => return Ok(op),
            Ok(Next::Incomplete(_)) => {}
            Err(broken) => return Err(Trouble::other(broken.0)),
        }
        if stream.read_buf(read).await.map_err(Trouble::Io)? == 0 {
            return Err(Trouble::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The servers, as texts that people read show them.
pub(crate) fn shown_servers(options: &Options) -> String {
    let shown: Vec<String> =
        options.servers.iter().map(|server| options::without_secrets(server)).collect();
    shown.join(", ")
}

/// Before a round: at once, then longer each time up to 2 s, never the same for all clients of a
/// server that comes back.
fn reconnect_delay(round: usize) -> Duration {
    let full = match round {
        0 => Duration::from_millis(20),
        n => Duration::from_millis(50 << n.min(6)).min(Duration::from_secs(2)),
    };
    full / 2 + full.mul_f64((random() % 1024) as f64 / 2048.0)
}

/// A random number from the keys that the standard library draws for its hash maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_differ_and_end_at_two_seconds() {
        for round in 0..1000 {
            let delay = reconnect_delay(round);
            assert!(delay >= Duration::from_millis(10) && delay <= Duration::from_secs(2));
        }
        assert!(reconnect_delay(1) > reconnect_delay(0));
        let delays: std::collections::HashSet<_> = (0..20).map(|_| reconnect_delay(9)).collect();
        assert!(delays.len() > 1);
    }

    #[test]
    fn rounds_come_at_once_at_first_and_ever_later_in_a_long_outage() {
        let mut connector = Connector::new(Arc::new(Options::new()), String::new());
        let second = Duration::from_secs(1);
        assert_eq!(connector.next_delay(), Duration::ZERO);
        for lasted in [Duration::ZERO, 2 * second] {
            connector.rounds = 1;
            connector.connected = Instant::now().checked_sub(lasted);
            let delays: Vec<Duration> = (0..9).map(|_| connector.next_delay()).collect();
            let at_once = delays[0] <= Duration::from_millis(20);
            assert_eq!(at_once, lasted > LASTING, "{lasted:?}: {delays:?}");
            assert!(delays[8] >= second, "{lasted:?}: {delays:?}");
        }
    }

    #[test]
    fn servers_of_the_cluster_come_and_go_and_those_of_the_options_stay() {
        let options = Options::new().servers(["nats://me:secret@10.0.0.1:4222"]);
        let mut connector = Connector::new(Arc::new(options), String::new());
        let info = br#"{"max_payload":9,"connect_urls":["10.0.0.1:4222","[::1]:5","10.0.0.2:4222"],"x":1}"#;
        let info = parse_info(info).unwrap();
        connector.discover(&info);
        connector.discover(&info);
        let hosts: Vec<_> = connector.servers.iter().map(|s| s.address.host()).collect();
        assert_eq!(hosts, ["10.0.0.1", "::1", "10.0.0.2"]);
        // One has left the cluster; what the options name stays.
        connector.discover(&parse_info(br#"{"connect_urls":["10.0.0.2:4222"]}"#).unwrap());
        let hosts: Vec<_> = connector.servers.iter().map(|s| s.address.host()).collect();
        assert_eq!(hosts, ["10.0.0.1", "10.0.0.2"]);
        assert!(parse_info(br#"{"connect_urls":null}"#).is_ok());
    }

    #[test]
    fn servers_that_join_servers_with_tls_are_asked_for_it_too() {
        for (url, tls) in [("tls://10.0.0.1", true), ("nats://10.0.0.1", false)] {
            let options = Options::new().server(url);
            let mut connector = Connector::new(Arc::new(options), String::new());
            connector.discover(&parse_info(br#"{"connect_urls":["10.0.0.2:4222"]}"#).unwrap());
            assert_eq!(connector.servers[1].wants_tls, tls);
        }
    }
}
