//! Handlers that share a task do not hold each other up.

mod support;

use std::sync::mpsc;
use std::sync::Mutex;
use std::time::Instant;

use futures_util::future::{join, join_all};
use picom::{Context, Methods, Picom};
use support::{ms, promised, soon};

fn instances(bus: &str) -> (Picom, Picom) {
    let options = || picom::Options::new().server(format!("memory://{bus}"));
    (Picom::new("svc", options()).unwrap(), Picom::new("", options()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_may_wait_for_a_call_that_came_with_it() {
    let (service, caller) = instances("blocking");
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let methods = Methods::new()
        .add("wait", move |(): ()| {
            wait.lock().unwrap().recv().unwrap();
            async { Ok::<_, String>(()) }
        })
        .add("go", move |(): ()| {
            go.send(()).unwrap();
            async { Ok::<_, String>(()) }
        });
    soon(service.expose(methods)).await.unwrap();
    let begin = Instant::now();
    for _ in 0..3 {
        // In one turn, so that they share a task.
        let waits = caller.request::<_, ()>("svc.wait", &());
        let goes = caller.request::<_, ()>("svc.go", &());
        let (waited, went) = soon(join(waits, goes)).await;
        waited.unwrap();
        went.unwrap();
    }
    promised("three pairs, one of each blocking", ms(50), begin.elapsed());
    soon(service.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_reply_does_not_wait_for_a_handler_that_blocks_behind_it() {
    let (service, caller) = instances("behind");
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let methods = Methods::new().add("at_once", |(): ()| async { Ok::<_, String>(()) }).add(
        "wait",
        move |(): ()| {
            wait.lock().unwrap().recv().unwrap();
            async { Ok::<_, String>(()) }
        },
    );
    soon(service.expose(methods)).await.unwrap();
    let first = caller.request::<_, ()>("svc.at_once", &());
    let first = async {
        first.await.unwrap();
        // The other handler ends only because this one's reply came.
        go.send(()).unwrap();
    };
    let ((), waited) = soon(join(first, caller.request::<_, ()>("svc.wait", &()))).await;
    waited.unwrap();
    soon(service.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_handler_begins_after_close_has_completed() {
    let options = picom::Options::new().server("memory://after").close_timeout(ms(1));
    let service = Picom::new("svc", options).unwrap();
    let caller = Picom::new("", picom::Options::new().server("memory://after")).unwrap();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let begun = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = begun.clone();
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let methods = Methods::new().add("wait", move |(): ()| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        told.send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
        async { Ok::<_, String>(()) }
    });
    soon(service.expose(methods)).await.unwrap();
    let call = |_| caller.request_json("svc.wait", None, ms(0)).unwrap();
    let calls: Vec<_> = (0..50).map(call).collect();
    soon(tells.recv()).await.unwrap();
    soon(service.close()).await.unwrap();
    let before = begun.load(std::sync::atomic::Ordering::SeqCst);
    // Every one that has begun ends now, and the others are free to begin.
    drop(go);
    drop(calls);
    drop(service);
    soon(async { while tells.recv().await.is_some() {} }).await;
    // Two other threads may have been past the check when it closed, and not in their handlers.
    let after = begun.load(std::sync::atomic::Ordering::SeqCst);
    assert!(after <= before + 2, "{} handlers began after close", after - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handlers_that_compute_for_long_do_it_side_by_side() {
    let (service, caller) = instances("meeting");
    let running = std::sync::Arc::new(std::sync::Barrier::new(4));
    let methods = Methods::new().add("meet", move |(): ()| {
        // Each blocks until all four are here.
        running.wait();
        async { Ok::<_, String>(()) }
    });
    soon(service.expose(methods)).await.unwrap();
    for _ in 0..5 {
        let calls = (0..4).map(|_| caller.request::<_, ()>("svc.meet", &()));
        for met in soon(join_all(calls)).await {
            met.unwrap();
        }
    }
    soon(service.close()).await.unwrap();
}

#[tokio::test]
async fn each_of_many_calls_of_a_turn_has_its_own_context_message_and_fate() {
    let (service, caller) = instances("many");
    let methods = Methods::new().add("own", |n: u32| async move {
        let before = Context::current().unwrap().id().unwrap().to_owned();
        if n.is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
        if n.is_multiple_of(5) {
            panic!("number {n}");
        }
        let after = Context::current().unwrap().id().unwrap().to_owned();
        if before == after {
            Ok((n, after))
        } else {
            Err("another call's context")
        }
    });
    soon(service.expose(methods)).await.unwrap();
    let numbers: Vec<u32> = (0..500).collect();
    let calls = numbers.iter().map(|n| caller.request::<_, (u32, String)>("svc.own", n));
    let mut ids = std::collections::HashSet::new();
    for (n, result) in soon(join_all(calls)).await.into_iter().enumerate() {
        match result {
            Ok((echoed, id)) => {
                assert_eq!(echoed as usize, n);
                assert!(ids.insert(id), "two calls had one id");
            }
            Err(error) => assert_eq!(error.message(), format!("Handler panicked: number {n}")),
        }
    }
    assert_eq!(ids.len(), 400);
    soon(service.close()).await.unwrap();
}
