//! As many calls as fit. In a process of its own: what it asks of the one background thread would
//! make the measured times of other tests meaningless.

mod support;

use std::sync::Arc;
use std::time::Duration;

use picom::{ErrorKind, Methods, Options, Picom};
use serde_json::Value;
use support::soon;
use tokio::sync::Notify;

#[tokio::test]
async fn a_call_too_many_is_busy_and_dropping_a_reply_gives_its_call_up() {
    let options = || Options::new().server("memory://many");
    let service = Picom::new("svc", options()).unwrap();
    let gate = Arc::new(Notify::new());
    let until = gate.clone();
    let methods = Methods::new().add("wait", move |(): ()| {
        let until = until.clone();
        async move {
            until.notified().await;
            Ok::<_, String>(())
        }
    });
    service.expose(methods).await.unwrap();
    let caller = Picom::new("", options()).unwrap();
    let start = || caller.request_json("svc.wait", None, Duration::ZERO).unwrap();
    let pending: Vec<_> = (0..65_536).map(|_| start()).collect();
    assert_eq!(soon(start()).await.unwrap_err().kind(), ErrorKind::Busy);
    drop(pending);
    // All of them have left their places, and the service goes on.
    let more: Vec<_> = (0..100).map(|_| start()).collect();
    let error = soon(caller.request::<_, Value>("nobody.m", &())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoResponder);
    let ended = futures_util::future::join_all(more);
    let opening = async {
        loop {
            gate.notify_waiters();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        replies = soon(ended) => assert!(replies.iter().all(Result::is_ok)),
        () = opening => {}
    }
}
