//! Publishing over a real server.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use futures_util::StreamExt;
use picom::{ErrorKind, Methods};
use serde_json::{json, Value};
use support::{soon, Server};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_publish_reaches_one_instance_and_needs_no_answer() {
    let server = Server::start();
    let (send, mut got) = mpsc::unbounded_channel();
    let mut services = Vec::new();
    for _ in 0..2 {
        let (service, send) = (server.picom("svc"), send.clone());
        let methods = Methods::new().add("note", move |n: i32| {
            let sent = send.send(n).map_err(|error| error.to_string());
            async move { sent }
        });
        service.expose(methods).await.unwrap();
        services.push(service);
    }
    let caller = server.picom("");
    for n in 0..100 {
        caller.publish("svc.note", &n).await.unwrap();
    }
    // Closing waits for all handlers, so what has not come by then never will.
    for service in services {
        service.close().await.unwrap();
    }
    drop(send);
    let mut seen = Vec::new();
    while let Some(n) = soon(got.recv()).await {
        seen.push(n);
        if seen.len() == 100 {
            break;
        }
    }
    assert!(got.try_recv().is_err());
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn concurrent_publishes_all_reach_the_server() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut messages = client.subscribe("any.>").await.unwrap();
    client.flush().await.unwrap();
    let caller = server.picom("");
    let all = (0..10_000).map(|n| {
        let caller = &caller;
        async move { caller.publish("any.m", &n).await.unwrap() }
    });
    soon(futures_util::future::join_all(all)).await;
    // The server has them, whatever becomes of the publisher.
    caller.close().await.unwrap();
    let mut seen = vec![false; 10_000];
    for _ in 0..10_000 {
        let message = soon(messages.next()).await.unwrap();
        let n: usize = serde_json::from_slice(&message.payload).unwrap();
        assert!(!std::mem::replace(&mut seen[n], true), "{n} came twice");
        assert!(message.reply.is_none() && message.headers.is_none());
    }
}

#[tokio::test]
async fn a_publish_without_a_responder_succeeds() {
    let server = Server::start();
    server.picom("").publish("nobody.m", &json!({"a": 1})).await.unwrap();
}

#[tokio::test]
async fn failures_of_a_published_method_stop_nothing() {
    let server = Server::start();
    let service = server.picom("svc");
    let ran = Arc::new(AtomicU32::new(0));
    let count = ran.clone();
    let methods = Methods::new()
        .add("fail", move |_: Value| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>("nobody hears this") }
        })
        .add("panic", |_: Value| async { panic!("nor this") as Result<(), String> })
        .add("ok", |_: Value| async { Ok::<_, String>(1) });
    service.expose(methods).await.unwrap();
    let caller = server.picom("");
    for target in ["svc.fail", "svc.panic", "svc.none", "svc.ok"] {
        caller.publish(target, &1).await.unwrap();
    }
    assert_eq!(caller.request::<_, i32>("svc.ok", &1).await.unwrap(), 1);
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_subscriber_to_everything_does_not_swallow_the_proof() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let _everything = client.subscribe(">").await.unwrap();
    let _group = client.queue_subscribe(">", "all".into()).await.unwrap();
    client.flush().await.unwrap();
    let caller = server.picom("");
    soon(caller.publish("nobody.m", &1)).await.unwrap();
    let service = server.echo("svc").await;
    assert_eq!(caller.request::<_, i32>("svc.echo", &1).await.unwrap(), 1);
    soon(service.close()).await.unwrap();
    soon(caller.close()).await.unwrap();
    assert_eq!(caller.publish("svc.m", &1).await.unwrap_err().kind(), ErrorKind::Closed);
}
