//! Requests over a real server, from picom and from clients of other makes.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use picom::{Context, ErrorKind, HandlerError, Methods, Picom};
use serde_json::{json, Value};
use support::{ms, promised, soon, Server};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_request_finds_a_service_that_has_just_been_exposed() {
    let server = Server::start();
    let caller = Picom::new("", server.options().retries(0)).unwrap();
    caller.connect().await.unwrap();
    for number in 0..50 {
        let service = server.echo(&format!("s{number}")).await;
        let target = format!("s{number}.echo");
        let value: Value = caller.request(&target, &json!({"n": number})).await.unwrap();
        assert_eq!(value, json!({"n": number}));
        drop(service);
    }
}

#[tokio::test]
async fn many_requests_at_once_each_get_their_own_reply() {
    let server = Server::start();
    let _service = server.echo("svc").await;
    let caller = server.picom("");
    let requests = (0..5_000).map(|n| {
        let caller = &caller;
        async move {
            let value: i32 = caller.request("svc.echo", &n).await.unwrap();
            assert_eq!(value, n);
        }
    });
    soon(futures_util::future::join_all(requests)).await;
}

#[tokio::test]
async fn instances_of_a_service_share_the_load() {
    let server = Server::start();
    let counts = [Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0))];
    let mut services = Vec::new();
    for count in &counts {
        let (service, count) = (server.picom("svc"), count.clone());
        let methods = Methods::new().add("count", move |(): ()| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, String>(()) }
        });
        service.expose(methods).await.unwrap();
        services.push(service);
    }
    let caller = server.picom("");
    for _ in 0..300 {
        caller.request::<_, ()>("svc.count", &()).await.unwrap();
    }
    let counts = counts.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts.iter().sum::<u32>(), 300);
    // The server draws lots: 300 of them do not all fall on one side, nor nearly all.
    assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
}

#[tokio::test]
async fn failures_travel_with_their_kind_and_fields() {
    let server = Server::start();
    let service = server.picom("svc");
    let failing = |_: Value| async {
        Err::<(), _>(HandlerError::new("no stock").with_details(&json!({"sku": 7})).unwrap())
    };
    let methods = Methods::new()
        .add("fail", failing)
        .add("panic", |_: Value| async { panic!("boom") as Result<(), String> })
        .add("number", |n: i64| async move { Ok::<_, String>(n) });
    service.expose(methods).await.unwrap();
    let caller = server.picom("");
    let error = caller.request::<_, Value>("svc.fail", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HandlerFailed);
    assert_eq!(error.message(), "no stock {\"sku\":7}");
    assert_eq!(error.details().unwrap().get(), "{\"sku\":7}");
    let error = caller.request::<_, Value>("svc.panic", &1).await.unwrap_err();
    assert_eq!(error.message(), "Handler panicked: boom");
    let error = caller.request::<_, Value>("svc.number", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    let error = caller.request::<_, Value>("svc.missing", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MethodNotFound);
    assert_eq!(caller.request::<_, i64>("svc.number", &7).await.unwrap(), 7);
}

#[tokio::test]
async fn no_responder_and_timeouts_come_in_time() {
    let server = Server::start();
    let service = server.picom("svc");
    let silent = |_: Value| std::future::pending::<Result<(), String>>();
    service.expose(Methods::new().add("silent", silent)).await.unwrap();
    let caller = server.picom("");
    caller.connect().await.unwrap();
    let start = Instant::now();
    let error = caller.request::<_, Value>("nobody.m", &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponder);
    assert!(error.message().contains("\"nobody\""), "{error}");
    promised("no responder, with three retries", ms(150), start.elapsed());
    let start = Instant::now();
    let error = caller.request_within::<_, Value>("svc.silent", &1, ms(200)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.message(), "Request svc.silent timed out");
    assert!(start.elapsed() >= ms(200), "early");
    promised("a timeout of 200 ms, beyond it", ms(50), start.elapsed() - ms(200));
}

#[tokio::test]
async fn the_deadline_and_the_id_of_a_call_travel() {
    let server = Server::start();
    let service = server.picom("svc");
    let look = |_: Value| async {
        let context = Context::current().ok_or("no context")?;
        let left = context.time_left().map(|left| left.as_millis() as u64);
        Ok::<_, &str>((context.id().map(str::to_owned), left))
    };
    service.expose(Methods::new().add("look", look)).await.unwrap();
    let caller = server.picom("");
    type Seen = (Option<String>, Option<u64>);
    let (id, left): Seen = caller.request_within("svc.look", &1, ms(9_000)).await.unwrap();
    let (next, _): Seen = caller.request("svc.look", &1).await.unwrap();
    assert!(id.is_some() && id != next);
    assert!((1..=9_000).contains(&left.unwrap()), "{left:?}");
    // A client without the mark has neither.
    let client = async_nats::connect(server.url()).await.unwrap();
    let reply = client.request("svc.look", "1".into()).await.unwrap();
    assert_eq!(reply.payload, "{\"payload\":[null,null]}");
}

#[tokio::test]
async fn a_plain_client_calls_a_service() {
    let server = Server::start();
    let service = server.echo("shop.orders").await;
    let fail = |_: Value| async { Err::<(), _>("sold out") };
    let nothing = |_: Value| async { Ok::<_, String>(()) };
    service.expose(Methods::new().add("fail", fail).add("nothing", nothing)).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    for (method, body, expected) in [
        ("echo", "{\"a\": 1}", "{\"payload\":{\"a\":1}}"),
        ("echo", "", "{\"payload\":null}"),
        ("echo", "0", "{\"payload\":0}"),
        ("nothing", "1", "{}"),
        ("fail", "1", "{\"error\":\"sold out\",\"code\":500}"),
        ("echo", "{", "{\"error\":\"Bad JSON request\",\"code\":400}"),
        ("none", "1", "{\"error\":\"Method not found \\\"none\\\"\",\"code\":404}"),
    ] {
        let reply = client.request(format!("shop.orders.{method}"), body.into()).await.unwrap();
        assert_eq!(reply.payload, expected, "{method} {body}");
        if expected.contains("error") {
            let headers = reply.headers.unwrap();
            assert!(headers.get("Nats-Service-Error").is_some());
            assert!(expected.contains(headers.get("Nats-Service-Error-Code").unwrap().as_str()));
        }
    }
    // Hostile messages stop nothing.
    for body in [&b"\xff\xfe"[..], b"\0", "[".repeat(500_000).as_bytes(), b"\"\\ud800"] {
        let body = bytes::Bytes::copy_from_slice(body);
        client.publish("shop.orders.echo", body.clone()).await.unwrap();
        let reply = client.request("shop.orders.echo", body).await.unwrap();
        assert!(reply.payload.starts_with(b"{\"error\":"));
    }
    let reply = client.request("shop.orders.echo", "1".into()).await.unwrap();
    assert_eq!(reply.payload, "{\"payload\":1}");
}

#[tokio::test]
async fn picom_calls_a_plain_responder() {
    let server = Server::start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut calls = client.queue_subscribe("old.>", "old".into()).await.unwrap();
    client.flush().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(call) = calls.next().await {
            let Some(reply) = call.reply else { continue };
            client.publish(reply, call.payload).await.unwrap();
            client.flush().await.unwrap();
        }
    });
    let caller = server.picom("");
    // The responder sends the message back as the whole envelope.
    let ask = async |envelope: Value| caller.request::<_, Value>("old.m", &envelope).await;
    assert_eq!(ask(json!({"payload": [1]})).await.unwrap(), json!([1]));
    assert_eq!(ask(json!({"payload": null})).await.unwrap(), json!(null));
    assert_eq!(ask(json!({})).await.unwrap(), json!(null));
    assert_eq!(ask(json!({"error": null, "payload": 2})).await.unwrap(), json!(2));
    let error = ask(json!({"error": "boom"})).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::HandlerFailed, "boom"));
    let error = ask(json!({"error": "Method not found \"m\""})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MethodNotFound);
    let error = ask(json!({"error": "late", "code": 429})).await.unwrap_err();
    assert_eq!((error.kind(), error.number()), (ErrorKind::HandlerFailed, 429));
    for body in [json!(5), json!("x"), json!([])] {
        let error = ask(body).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadResponse);
        assert_eq!(error.message(), "Bad JSON response");
    }
    let empty = caller.request_json("old.m", None, Duration::ZERO).unwrap();
    assert_eq!(empty.await.unwrap(), None);
    answering.abort();
}

#[tokio::test]
async fn a_responder_that_appears_during_the_retries_gets_the_call() {
    let server = Server::start();
    let caller = Picom::new("", server.options().retries(100)).unwrap();
    caller.connect().await.unwrap();
    let service = server.picom("svc");
    service.connect().await.unwrap();
    // Whether the service is there before the tries are over is a race; the promise is that a
    // call either finds it or fails typed, and that one of many finds it.
    let mut found = 0;
    for round in 0..20 {
        let pending = caller.request_json("svc.echo", Some("1".into()), ms(5_000)).unwrap();
        let instance = server.picom("svc");
        instance.expose(support::echo()).await.unwrap();
        match soon(pending).await {
            Ok(payload) => {
                assert_eq!(payload.as_deref(), Some(&b"1"[..]));
                found += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoResponder, "round {round}"),
        }
        instance.close().await.unwrap();
    }
    println!("{found} of 20 calls found a responder that came after them");
    assert!(found > 0);
}

#[tokio::test]
async fn cancelled_calls_leave_no_trace_and_late_replies_find_nothing() {
    let server = Server::start();
    let service = server.picom("svc");
    let (begin, mut begun) = mpsc::unbounded_channel();
    let (open, gate) = tokio::sync::watch::channel(false);
    let methods = Methods::new().add("wait", move |n: i32| {
        let (begin, mut gate) = (begin.clone(), gate.clone());
        async move {
            begin.send(n).map_err(|error| error.to_string())?;
            gate.wait_for(|open| *open).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(n)
        }
    });
    service.expose(methods).await.unwrap();
    let caller = server.picom("");
    for n in 0..20 {
        let body = Some(n.to_string().into());
        let pending = caller.request_json("svc.wait", body, Duration::ZERO).unwrap();
        assert_eq!(soon(begun.recv()).await, Some(n));
        drop(pending);
    }
    // These use the slots of those that were dropped, and get their own replies.
    let requests: Vec<_> = (100..120)
        .map(|n| {
            let body = Some(n.to_string().into());
            caller.request_json("svc.wait", body, Duration::ZERO).unwrap()
        })
        .collect();
    for _ in 100..120 {
        soon(begun.recv()).await.unwrap();
    }
    open.send(true).unwrap();
    for (n, pending) in (100..120).zip(requests) {
        let reply = soon(pending).await.unwrap().unwrap();
        assert_eq!(reply, n.to_string());
    }
}
