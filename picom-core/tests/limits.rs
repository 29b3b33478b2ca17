//! `max_payload`: what is too large is a typed error, and the connection stays.

mod support;

use picom::{ErrorKind, HandlerError, Methods, Notice, Picom};
use serde_json::Value;
use support::{noticed, Server};

/// A service that echoes, and one method that returns text of a given length.
async fn service(server: &Server) -> Picom {
    let service = server.echo("svc").await;
    let methods = Methods::new()
        .add("text", |length: usize| async move { Ok::<_, String>("x".repeat(length)) })
        .add("fail", |length: usize| async move {
            let text = "y".repeat(length);
            Err::<(), _>(
                HandlerError::new("z").with_details(&serde_json::json!({"t": text})).unwrap(),
            )
        })
        .add("length", |text: String| async move { Ok::<_, String>(text.len()) });
    service.expose(methods).await.unwrap();
    service
}

async fn too_large_is_typed(server: &Server, limit: usize) {
    let service = service(server).await;
    let caller = server.picom("");
    caller.connect().await.unwrap();
    let (mut told, mut service_told) = (caller.notices(), service.notices());
    let large = "x".repeat(limit);
    let error = caller.request::<_, Value>("svc.length", &large).await.unwrap_err();
    assert_eq!((error.kind(), error.number()), (ErrorKind::TooLarge, 413));
    assert!(error.message().contains("Request svc.length"), "{error}");
    assert!(error.message().contains(&limit.to_string()), "{error}");
    let error = caller.publish("svc.length", &large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    for target in ["svc.text", "svc.fail"] {
        let error = caller.request::<_, Value>(target, &limit).await.unwrap_err();
        assert_eq!((error.kind(), error.number()), (ErrorKind::TooLarge, 413), "{target}");
        assert!(error.message().starts_with("A reply takes"), "{error}");
        noticed(
            &mut service_told,
            |notice| matches!(notice, Notice::Failed(error) if error.kind() == ErrorKind::TooLarge),
        )
        .await;
    }
    // Around the limit, headers and envelope included, each size is sent or refused, and the
    // server closes no connection over it.
    let step = if limit > 100_000 { 23 } else { 1 };
    for length in (limit - 200..=limit).step_by(step) {
        match caller.request::<_, usize>("svc.length", &"x".repeat(length)).await {
            Ok(got) => assert_eq!(got, length),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge, "{length}"),
        }
        match caller.request::<_, String>("svc.text", &length).await {
            Ok(got) => assert_eq!(got.len(), length),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TooLarge, "{length}"),
        }
        match caller.publish("svc.length", &"x".repeat(length)).await {
            Ok(()) => assert!(length + 2 <= limit),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TooLarge);
                assert!(length + 2 > limit, "{length} would have fitted");
            }
        }
    }
    for notices in [&mut told, &mut service_told] {
        while let Ok(notice) = notices.try_recv() {
            assert!(!matches!(notice, Notice::Disconnected), "the connection was lost");
        }
    }
    assert_eq!(caller.request::<_, usize>("svc.length", "x").await.unwrap(), 1);
}

#[tokio::test]
async fn a_megabyte_is_the_default() {
    too_large_is_typed(&Server::start(), 1 << 20).await;
}

#[tokio::test]
async fn a_small_limit() {
    too_large_is_typed(&Server::with_config("max_payload: 1000"), 1_000).await;
}

#[tokio::test]
async fn a_limit_that_changes_with_the_server_counts_after_the_reconnection() {
    let mut server = Server::with_config("max_payload: 1000");
    let caller = server.picom("");
    caller.connect().await.unwrap();
    let large = "x".repeat(5_000);
    let error = caller.publish("svc.length", &large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let mut told = caller.notices();
    server.kill();
    server.configure("max_payload: 100000");
    server.start_again();
    noticed(&mut told, |notice| matches!(notice, Notice::Reconnected)).await;
    let _service = service(&server).await;
    assert_eq!(caller.request::<_, usize>("svc.length", &large).await.unwrap(), 5_000);
}
