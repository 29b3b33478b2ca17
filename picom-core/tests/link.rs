//! The connection to a server that is far, silent, odd or gone.

mod support;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use picom::{ErrorKind, Notice, Options, Picom};
use support::{noticed, soon, Server};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Stands between a client and a server.
struct Proxy {
    address: String,
    silent: Arc<AtomicBool>,
}

impl Proxy {
    /// Hands over at most `piece` bytes at once.
    async fn to(server: &Server, piece: usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let silent = Arc::new(AtomicBool::new(false));
        let target = server.url().trim_start_matches("nats://").to_owned();
        let mute = silent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pump(from_client, to_server, piece, mute.clone()));
                tokio::spawn(pump(from_server, to_client, piece, mute.clone()));
            }
        });
        Proxy { address, silent }
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    piece: usize,
    silent: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; piece];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !silent.load(Ordering::Relaxed) && to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}

/// A server of our own that says `info`, greets, and then does as `then` does.
async fn odd_server<F>(info: &str, then: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let info = format!("INFO {info}\r\n");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(info.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(&mut stream).lines();
            while lines.next_line().await.is_ok_and(|line| line.is_some_and(|l| l != "PING")) {}
            then(stream).await;
        }
    });
    address
}

#[tokio::test]
async fn bytes_that_come_and_go_in_small_pieces_are_whole_calls() {
    let server = Server::start();
    for piece in [1, 7, 1000] {
        let proxy = Proxy::to(&server, piece).await;
        let options = || Options::new().server(&proxy.address);
        let service = Picom::new(format!("svc{piece}"), options()).unwrap();
        soon(service.expose(support::echo())).await.unwrap();
        let caller = Picom::new("", options()).unwrap();
        let target = format!("svc{piece}.echo");
        for size in [0, 1, 3000, 40 * piece.min(500)] {
            let text = "ä".repeat(size);
            let calls = (0..3).map(|_| caller.request::<_, String>(&target, &text));
            for reply in soon(futures_util::future::join_all(calls)).await {
                assert_eq!(reply.unwrap(), text);
            }
        }
    }
}

#[tokio::test]
async fn large_and_small_bodies_keep_their_order_and_their_bytes() {
    let server = Server::start();
    let _service = server.echo("svc").await;
    let caller = server.picom("");
    let sizes = [0, 100, 20_000, 16_383, 16_384, 16_385, 400_000, 1, 900_000, 70_000];
    let bodies: Vec<String> =
        (0..4).flat_map(|turn| sizes.map(|size| format!("{turn}").repeat(size))).collect();
    let calls = bodies.iter().map(|body| caller.request::<_, String>("svc.echo", body));
    for (reply, body) in soon(futures_util::future::join_all(calls)).await.into_iter().zip(&bodies)
    {
        assert!(reply.unwrap() == *body, "{} bytes came back changed", body.len());
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_counts_as_lost() {
    let server = Server::start();
    let proxy = Proxy::to(&server, 1000).await;
    let ttl = Duration::from_secs(1);
    let caller = Picom::new("", Options::new().server(&proxy.address).ttl(ttl)).unwrap();
    let mut notices = caller.notices();
    soon(caller.connect()).await.unwrap();
    // Pings are answered for longer than silence would be borne.
    let lost = noticed(&mut notices, |notice| matches!(notice, Notice::Disconnected));
    assert!(tokio::time::timeout(ttl + ttl, lost).await.is_err(), "lost while all was well");
    let request = caller.request::<_, i32>("svc.none", &1);
    proxy.silent.store(true, Ordering::Relaxed);
    assert_eq!(soon(request).await.unwrap_err().kind(), ErrorKind::Disconnected);
    noticed(&mut notices, |notice| matches!(notice, Notice::Disconnected)).await;
    proxy.silent.store(false, Ordering::Relaxed);
    noticed(&mut notices, |notice| matches!(notice, Notice::Reconnected)).await;
}

#[tokio::test]
async fn servers_that_a_server_knows_take_over() {
    let server = Server::start();
    let _service = server.echo("svc").await;
    let other = server.url().trim_start_matches("nats://").to_owned();
    let info = format!("{{\"max_payload\":1000,\"connect_urls\":[\"{other}\"]}}");
    let first = odd_server(&info, |mut stream| async move {
        stream.write_all(b"PONG\r\n").await.unwrap();
    })
    .await;
    let caller = Picom::new("", Options::new().server(&first)).unwrap();
    soon(caller.connect()).await.unwrap();
    // The first server hangs up after each greeting; whoever ends at the other one stays there.
    let mut tries = 0;
    while soon(caller.request::<_, i32>("svc.echo", &1)).await.ok() != Some(1) {
        tries += 1;
        assert!(tries < 100, "it never went to the other server");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_left_and_tried_again() {
    let address = odd_server("{\"max_payload\":1000}", |mut stream| async move {
        stream.write_all(b"PONG\r\nMSG x y z\r\n").await.unwrap();
    })
    .await;
    let caller = Picom::new("", Options::new().server(&address)).unwrap();
    let mut notices = caller.notices();
    soon(caller.connect()).await.unwrap();
    noticed(&mut notices, |notice| matches!(notice, Notice::Disconnected)).await;
    noticed(&mut notices, |notice| matches!(notice, Notice::Reconnected)).await;
}

#[tokio::test]
async fn a_reply_subject_that_nothing_can_be_sent_to_costs_no_connection() {
    let server = Server::start();
    // Short names, so that the caller's line can be longer than ours by as little as possible.
    let service = server.picom("s");
    let methods = picom::Methods::new().add("e", |n: i32| async move { Ok::<_, String>(n) });
    soon(service.expose(methods)).await.unwrap();
    let mut notices = service.notices();
    let mut other = TcpStream::connect(server.url().trim_start_matches("nats://")).await.unwrap();
    for reply in [vec![0xFF; 2000], vec![b'r'; 4090], vec![0xC3, b'.', 0x28]] {
        // No JSON: a failure has headers, which make its line longer.
        let call = [b"PUB s.e ", &reply[..], b" 1\r\nx\r\n"].concat();
        other.write_all(&call).await.unwrap();
    }
    other.write_all(b"PING\r\n").await.unwrap();
    let mut lines = BufReader::new(&mut other).lines();
    let mut last = None;
    while let Some(line) = soon(lines.next_line()).await.unwrap() {
        last = Some(line);
        if last.as_deref() == Some("PONG") {
            break;
        }
    }
    assert_eq!(last.as_deref(), Some("PONG"));
    let caller = server.picom("");
    assert_eq!(soon(caller.request::<_, i32>("s.e", &1)).await.unwrap(), 1);
    assert!(notices.try_recv().is_err(), "the service noticed something");
}

#[tokio::test]
async fn what_a_server_says_at_the_door_is_in_the_error() {
    let address = odd_server("{}", |mut stream| async move {
        stream.write_all(b"-ERR 'Authorization Violation'\r\n").await.unwrap();
    })
    .await;
    let caller = Picom::new("", Options::new().server(&address).retries(0)).unwrap();
    let error = soon(caller.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed);
    let text = error.message();
    assert!(text.contains("Authorization Violation; check the options user and pass"), "{text}");
}
