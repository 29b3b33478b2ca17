//! Connections that come late, go, and come back.

mod support;

use std::time::{Duration, Instant};

use picom::{ErrorKind, Methods, Notice, Options, Picom};
use serde_json::{json, Value};
use support::{ms, noticed, promised, soon, Server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

#[tokio::test]
async fn connect_says_after_its_tries_what_is_wrong() {
    let server = Server::not_started("");
    for (retries, most) in [(0, ms(200)), (3, ms(1_000))] {
        let caller = Picom::new("", server.options().retries(retries)).unwrap();
        let start = Instant::now();
        let error = soon(caller.connect()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectFailed);
        let (text, port) = (error.message(), server.port.to_string());
        assert!(text.contains(&port) && text.contains("is a nats-server running"), "{text}");
        promised("connect without a server", most, start.elapsed());
    }
}

#[tokio::test]
async fn requests_wait_for_a_server_that_starts_later() {
    let mut server = Server::not_started("");
    let caller = server.picom("");
    let mut notices = caller.notices();
    let service = server.picom("svc");
    let exposing = tokio::spawn({
        let service = service.clone();
        async move { service.expose(support::echo()).await }
    });
    let own = service.request_json("svc.echo", Some("7".into()), Duration::ZERO).unwrap();
    let publish = tokio::spawn({
        let caller = caller.clone();
        async move { caller.publish("svc.echo", &1).await }
    });
    let short = caller.request_within::<_, Value>("svc.echo", &1, ms(100)).await.unwrap_err();
    assert_eq!(short.kind(), ErrorKind::TimedOut);
    let port = server.port.to_string();
    assert!(short.message().contains("not connected to nats://127.0.0.1:"), "{short}");
    assert!(short.message().contains(&port), "{short}");
    let failed = noticed(&mut notices, |n| matches!(n, Notice::Failed(_))).await;
    let Notice::Failed(error) = failed else { unreachable!() };
    assert_eq!(error.kind(), ErrorKind::ConnectFailed);
    server.start_again();
    noticed(&mut notices, |n| matches!(n, Notice::Connected)).await;
    soon(publish).await.unwrap().unwrap();
    soon(exposing).await.unwrap().unwrap();
    assert_eq!(soon(own).await.unwrap().as_deref(), Some(&b"7"[..]));
    let value: Value = soon(caller.request("svc.echo", &json!({"a": 1}))).await.unwrap();
    assert_eq!(value, json!({"a": 1}));
}

#[tokio::test]
async fn a_lost_server_fails_what_is_under_way_and_a_new_one_serves_again() {
    let mut server = Server::start();
    let service = server.echo("svc").await;
    let (begin, mut begun) = mpsc::unbounded_channel();
    let methods = Methods::new().add("silent", move |_: Value| {
        let sent = begin.send(()).map_err(|error| error.to_string());
        async move {
            sent?;
            std::future::pending::<Result<(), String>>().await
        }
    });
    service.expose(methods).await.unwrap();
    let caller = server.picom("");
    let (mut told, mut service_told) = (caller.notices(), service.notices());
    for round in 0..3 {
        let pending: Vec<_> = (0..50)
            .map(|_| caller.request_json("svc.silent", Some("1".into()), Duration::ZERO).unwrap())
            .collect();
        for _ in 0..50 {
            soon(begun.recv()).await.unwrap();
        }
        let start = Instant::now();
        server.kill();
        for reply in pending {
            let error = soon(reply).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected);
            assert!(error.message().contains("Request svc.silent was under way"), "{error}");
        }
        promised("failing what was under way", ms(100), start.elapsed());
        noticed(&mut told, |n| matches!(n, Notice::Disconnected)).await;
        noticed(&mut service_told, |n| matches!(n, Notice::Disconnected)).await;
        // Certainly not handed over, so it waits for the next connection.
        let body = Some(round.to_string().into());
        let waits = caller.request_json("svc.echo", body, Duration::ZERO).unwrap();
        server.start_again();
        noticed(&mut service_told, |n| matches!(n, Notice::Reconnected)).await;
        noticed(&mut told, |n| matches!(n, Notice::Reconnected)).await;
        // The service may be back later than the caller: that is no responder, for a moment.
        match soon(waits).await {
            Ok(payload) => assert_eq!(payload.unwrap(), round.to_string()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoResponder),
        }
        let again: Value = soon(caller.request("svc.echo", &round)).await.unwrap();
        assert_eq!(again, json!(round));
        soon(caller.publish("svc.echo", &1)).await.unwrap();
    }
}

#[tokio::test]
async fn an_expose_and_publishes_survive_the_loss_as_promised() {
    let mut server = Server::start();
    let service = server.picom("svc");
    service.connect().await.unwrap();
    let mut told = service.notices();
    server.kill();
    noticed(&mut told, |n| matches!(n, Notice::Disconnected)).await;
    let exposing = tokio::spawn({
        let service = service.clone();
        async move { service.expose(support::echo()).await }
    });
    let publishing = tokio::spawn({
        let service = service.clone();
        async move { service.publish("svc.echo", &1).await }
    });
    server.start_again();
    soon(exposing).await.unwrap().unwrap();
    soon(publishing).await.unwrap().unwrap();
    let caller = Picom::new("", server.options().retries(0)).unwrap();
    assert_eq!(soon(caller.request::<_, i32>("svc.echo", &5)).await.unwrap(), 5);
}

#[tokio::test]
async fn another_server_of_the_list_takes_over() {
    let (mut first, second) = (Server::start(), Server::start());
    let options = || Options::new().servers([first.url(), second.url()]);
    let caller = Picom::new("", options()).unwrap();
    caller.connect().await.unwrap();
    let service = second.echo("svc").await;
    // Whichever it was connected to: without the first one only the second is left.
    first.kill();
    let answered = async {
        while caller.request::<_, i32>("svc.echo", &1).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(answered).await;
    service.close().await.unwrap();
}

#[tokio::test]
async fn websockets_carry_the_same() {
    let port = support::free_port();
    let config = format!("websocket {{ listen: \"127.0.0.1:{port}\", no_tls: true }}");
    let server = Server::with_config(&config);
    let options = || Options::new().server(format!("ws://127.0.0.1:{port}"));
    let service = Picom::new("svc", options()).unwrap();
    service.expose(support::echo()).await.unwrap();
    for caller in [Picom::new("", options()).unwrap(), server.picom("")] {
        let value: Value = caller.request("svc.echo", &json!({"ä": "\u{1f600}"})).await.unwrap();
        assert_eq!(value, json!({"ä": "\u{1f600}"}));
        let large = "x".repeat(200_000);
        assert_eq!(caller.request::<_, String>("svc.echo", &large).await.unwrap(), large);
        caller.publish("svc.echo", &1).await.unwrap();
        caller.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_host_without_a_server_is_no_reason_to_hang() {
    let caller = Picom::new("", Options::new().server("no.such.host.invalid").retries(0)).unwrap();
    let error = soon(caller.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed);
    assert!(error.message().contains("no.such.host.invalid"), "{error}");
    let error = caller.request_within::<_, Value>("svc.m", &1, ms(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

/// As much of a server as a client needs: says who it is, answers pings, and keeps what it gets.
struct Recorder {
    listener: TcpListener,
    stream: Option<BufReader<TcpStream>>,
}

impl Recorder {
    async fn bind(port: u16) -> Recorder {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        Recorder { listener, stream: None }
    }

    /// Takes a connection, and returns when a line like `last` has come, with all lines.
    async fn lines_until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if self.stream.is_none() {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let info = "INFO {\"server_id\":\"x\",\"version\":\"2.10.0\",\"headers\":true,\
                        \"max_payload\":1048576,\"proto\":1}\r\n";
            stream.write_all(info.as_bytes()).await.unwrap();
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut().unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            if line.starts_with("PING") {
                stream.write_all(b"PONG\r\n").await.unwrap();
            }
            lines.push(line);
            if lines.last().is_some_and(|line| line.contains(last)) {
                return lines;
            }
        }
    }
}

#[tokio::test]
async fn what_was_never_handed_over_does_not_leave_later() {
    let mut server = Recorder::bind(0).await;
    let port = server.listener.local_addr().unwrap().port();
    let caller = Picom::new("", Options::new().server(format!("127.0.0.1:{port}"))).unwrap();
    let mut told = caller.notices();
    let connecting = tokio::spawn({
        let caller = caller.clone();
        async move { caller.connect().await }
    });
    soon(server.lines_until("SUB _INBOX")).await;
    soon(connecting).await.unwrap().unwrap();
    drop(server);
    noticed(&mut told, |n| matches!(n, Notice::Disconnected)).await;
    let error = caller.request_within::<_, Value>("svc.late", &1, ms(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let dropped = caller.request_json("svc.dropped", None, Duration::ZERO).unwrap();
    drop(dropped);
    let waits = caller.request_json("svc.marker", None, Duration::ZERO).unwrap();
    let mut server = Recorder::bind(port).await;
    let lines = soon(server.lines_until("svc.marker")).await;
    assert!(!lines.iter().any(|line| line.contains("svc.late")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("svc.dropped")), "{lines:?}");
    drop(server);
    assert_eq!(soon(waits).await.unwrap_err().kind(), ErrorKind::Disconnected);
}
