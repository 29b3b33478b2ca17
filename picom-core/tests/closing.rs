//! Closing over a real server: a drain loses nothing.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use picom::{ErrorKind, Methods, Picom};
use serde_json::Value;
use support::{ms, promised, soon, Server};
use tokio::sync::{mpsc, watch};

/// A service whose method `wait` tells when it begins and ends when the gate opens.
async fn gated(picom: &Picom) -> (mpsc::UnboundedReceiver<()>, watch::Sender<bool>) {
    let (begin, begun) = mpsc::unbounded_channel();
    let (open, gate) = watch::channel(false);
    let methods = Methods::new().add("wait", move |_: Value| {
        let (begin, mut gate) = (begin.clone(), gate.clone());
        async move {
            begin.send(()).map_err(|error| error.to_string())?;
            gate.wait_for(|open| *open).await.map_err(|error| error.to_string())?;
            Ok::<_, String>("done")
        }
    });
    picom.expose(methods).await.unwrap();
    (begun, open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_nothing() {
    const ROUNDS: usize = 20;
    const CALLERS: usize = 64;
    let server = Server::start();
    let stays = server.echo("svc").await;
    let caller = Picom::new("", server.options().timeout(ms(2_000))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (caller, stop, answered) = (caller.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match caller.request::<_, i32>("svc.echo", &1).await {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => failures.push(format!("{error:?}")),
                    }
                }
                failures
            })
        })
        .collect();
    // Each instance has served a good number of calls before it goes.
    for _ in 0..ROUNDS {
        let goes = server.echo("svc").await;
        let enough = answered.load(Ordering::Relaxed) + 500;
        let served = async {
            while answered.load(Ordering::Relaxed) < enough {
                tokio::task::yield_now().await;
            }
        };
        soon(served).await;
        soon(goes.close()).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for caller in callers {
        failures.extend(soon(caller).await.unwrap());
    }
    let answered = answered.load(Ordering::Relaxed);
    println!("{ROUNDS} drains under load: {answered} calls answered, {} lost", failures.len());
    assert!(failures.is_empty(), "{} of {answered} calls failed: {failures:#?}", failures.len());
    stays.close().await.unwrap();
}

#[tokio::test]
async fn close_lets_handlers_finish_and_their_replies_leave() {
    let server = Server::start();
    let service = server.picom("svc");
    let (mut begun, open) = gated(&service).await;
    let caller = Picom::new("", server.options().retries(0)).unwrap();
    let pending: Vec<_> = (0..100)
        .map(|_| caller.request_json("svc.wait", Some("1".into()), Duration::ZERO).unwrap())
        .collect();
    for _ in 0..100 {
        soon(begun.recv()).await.unwrap();
    }
    let closing = tokio::spawn({
        let service = service.clone();
        async move { service.close().await }
    });
    // New calls find nobody while old ones are being finished.
    let refused = async {
        while caller.request::<_, Value>("svc.none", &1).await.unwrap_err().kind()
            != ErrorKind::NoResponder
        {}
    };
    soon(refused).await;
    assert!(!closing.is_finished());
    open.send(true).unwrap();
    for reply in pending {
        assert_eq!(soon(reply).await.unwrap().as_deref(), Some(&b"\"done\""[..]));
    }
    soon(closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn close_timeout_cuts_handlers_that_never_finish() {
    let server = Server::start();
    let service = Picom::new("svc", server.options().close_timeout(ms(200))).unwrap();
    let (mut begun, _open) = gated(&service).await;
    let caller = server.picom("");
    let pending = caller.request_json("svc.wait", Some("1".into()), ms(600)).unwrap();
    soon(begun.recv()).await.unwrap();
    let own = service.request_json("svc.wait", Some("1".into()), Duration::ZERO).unwrap();
    soon(begun.recv()).await.unwrap();
    let start = Instant::now();
    service.close().await.unwrap();
    assert!(start.elapsed() >= ms(200));
    promised("close with closeTimeout 200 ms, beyond it", ms(50), start.elapsed() - ms(200));
    assert_eq!(soon(own).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(soon(pending).await.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_handler_closes_its_own_instance_while_another_one_works() {
    let server = Server::start();
    let service = server.picom("svc");
    let (mut begun, open) = gated(&service).await;
    let own = service.clone();
    let (closed, mut seen) = mpsc::unbounded_channel();
    let methods = Methods::new().add("stop", move |_: Value| {
        let (own, closed) = (own.clone(), closed.clone());
        async move {
            let result = own.close().await.map_err(|error| error.to_string());
            closed.send(result.clone()).map_err(|error| error.to_string())?;
            result
        }
    });
    service.expose(methods).await.unwrap();
    let caller = server.picom("");
    let works = caller.request_json("svc.wait", Some("1".into()), Duration::ZERO).unwrap();
    soon(begun.recv()).await.unwrap();
    let _stops = caller.request_json("svc.stop", Some("1".into()), Duration::ZERO).unwrap();
    let refused = async {
        while caller.request::<_, Value>("svc.none", &1).await.unwrap_err().kind()
            != ErrorKind::NoResponder
        {}
    };
    soon(refused).await;
    assert!(seen.try_recv().is_err(), "close waits for the other handler");
    open.send(true).unwrap();
    assert_eq!(soon(works).await.unwrap().as_deref(), Some(&b"\"done\""[..]));
    assert_eq!(soon(seen.recv()).await, Some(Ok(())));
}

#[tokio::test]
async fn everything_pending_settles_and_nothing_works_after_close() {
    let server = Server::start();
    let service = server.picom("svc");
    let (mut begun, _open) = gated(&service).await;
    let caller = server.picom("");
    let pending = caller.request_json("svc.wait", Some("1".into()), Duration::ZERO).unwrap();
    soon(begun.recv()).await.unwrap();
    let start = Instant::now();
    let (first, second) = tokio::join!(caller.close(), caller.close());
    first.unwrap();
    second.unwrap();
    promised("closing a caller", ms(50), start.elapsed());
    let error = soon(pending).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.message(), "Request svc.wait was under way when this Picom was closed");
    caller.close().await.unwrap();
    for error in [
        caller.request::<_, Value>("svc.wait", &1).await.unwrap_err(),
        caller.publish("svc.wait", &1).await.unwrap_err(),
        caller.connect().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes_in_the_background() {
    let server = Server::start();
    let service = server.picom("svc");
    let (mut begun, open) = gated(&service).await;
    let caller = Picom::new("", server.options().retries(0)).unwrap();
    let pending = caller.request_json("svc.wait", Some("1".into()), Duration::ZERO).unwrap();
    soon(begun.recv()).await.unwrap();
    drop(service);
    let refused = async {
        while caller.request::<_, Value>("svc.none", &1).await.unwrap_err().kind()
            != ErrorKind::NoResponder
        {}
    };
    soon(refused).await;
    open.send(true).unwrap();
    assert_eq!(soon(pending).await.unwrap().as_deref(), Some(&b"\"done\""[..]));
}

#[tokio::test]
async fn closing_without_a_server_does_not_wait_for_one() {
    let mut server = Server::not_started("");
    let never = server.picom("svc");
    let pending = never.request_json("svc.m", Some("1".into()), Duration::ZERO).unwrap();
    let start = Instant::now();
    never.close().await.unwrap();
    promised("closing without a server", ms(50), start.elapsed());
    assert_eq!(soon(pending).await.unwrap_err().kind(), ErrorKind::Closed);
    server.start_again();
    let service = server.echo("svc").await;
    let mut notices = service.notices();
    server.kill();
    support::noticed(&mut notices, |n| matches!(n, picom::Notice::Disconnected)).await;
    let start = Instant::now();
    service.close().await.unwrap();
    promised("closing after the server was lost", ms(50), start.elapsed());
}
