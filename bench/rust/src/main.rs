//! `picom-bench PEER caller|responder ADDRESS`: one end of one peer, in a default tokio runtime.
//! A caller's loops are a task each, or with `-joined` behind the peer's name one task's.
//! Commands and results are the lines of bench/node/harness.js.

use std::future::Future;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::StreamExt;
use picom::{Methods, Options, Picom};
use serde::{Deserialize, Serialize};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Serialize, Deserialize, Clone)]
struct Message {
    a: i64,
    b: i64,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    sum: i64,
    text: String,
}

#[derive(Deserialize)]
struct Command {
    op: String,
    inflight: usize,
    ms: u64,
    size: usize,
}

#[derive(Serialize)]
struct Measured {
    count: usize,
    seconds: f64,
    p50: f64,
    p99: f64,
}

fn message(size: usize) -> Message {
    Message { a: 1, b: 2, text: "x".repeat(size.saturating_sub(24)) }
}

fn answer(message: Message) -> Answer {
    Answer { sum: message.a + message.b, text: message.text }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, peer, role, address] = &arguments[..] else {
        return Err("usage: picom-bench PEER caller|responder ADDRESS".into());
    };
    let service = format!("bench-{peer}");
    let (peer, joined) = match peer.strip_suffix("-joined") {
        Some(peer) => (peer, true),
        None => (peer.as_str(), false),
    };
    match (peer, role.as_str()) {
        ("picom-rust", "responder") => {
            let picom = Picom::new(&service, Options::new().server(address))?;
            let echo = |message: Message| async move { Ok::<_, String>(answer(message)) };
            picom.expose(Methods::new().add("echo", echo)).await?;
            wait_for_the_end().await
        }
        ("picom-rust", _) => {
            let picom = Picom::new(&service, Options::new().server(address))?;
            picom.connect().await?;
            let target = format!("{service}.echo");
            let (caller, name) = (picom.clone(), target);
            let request = move |body: Message| {
                let (picom, target) = (caller.clone(), name.clone());
                async move { Ok(picom.request::<_, Answer>(&target, &body).await?) }
            };
            let publish = |body: Message| {
                let picom = picom.clone();
                async move {
                    picom.publish("sink.echo", &body).await?;
                    Ok(())
                }
            };
            let flush = || async { Ok(()) };
            serve_commands(request, publish, flush, joined).await
        }
        (_, "responder") => {
            let client = async_nats::connect(address).await?;
            let mut calls = client.queue_subscribe(format!("{service}.>"), service).await?;
            tokio::spawn(async move {
                while let Some(call) = calls.next().await {
                    let Ok(message) = serde_json::from_slice(&call.payload) else { continue };
                    let Ok(body) = serde_json::to_vec(&answer(message)) else { continue };
                    if let Some(reply) = call.reply {
                        let _ = client.publish(reply, body.into()).await;
                    }
                }
            });
            wait_for_the_end().await
        }
        _ => {
            let client = async_nats::connect(address).await?;
            let target = format!("{service}.echo");
            let (caller, name) = (client.clone(), target);
            let request = move |body: Message| {
                let (client, target) = (caller.clone(), name.clone());
                async move {
                    let body = serde_json::to_vec(&body)?;
                    let reply = client.request(target, body.into()).await?;
                    Ok(serde_json::from_slice::<Answer>(&reply.payload)?)
                }
            };
            let publish = |body: Message| {
                let client = client.clone();
                async move {
                    client.publish("sink.echo", serde_json::to_vec(&body)?.into()).await?;
                    Ok(())
                }
            };
            let flush = || async { Ok(client.flush().await?) };
            serve_commands(request, publish, flush, joined).await
        }
    }
}

async fn wait_for_the_end() -> Result<(), Failure> {
    println!("{{\"ready\":true}}");
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await?;
    std::process::exit(0)
}

async fn serve_commands<R, RF, P, PF, F, FF>(
    request: R,
    publish: P,
    flush: F,
    joined: bool,
) -> Result<(), Failure>
where
    R: Fn(Message) -> RF + Clone + Send + Sync + 'static,
    RF: Future<Output = Result<Answer, Failure>> + Send + 'static,
    P: Fn(Message) -> PF + Copy,
    PF: Future<Output = Result<(), Failure>> + Send + 'static,
    F: Fn() -> FF + Copy,
    FF: Future<Output = Result<(), Failure>>,
{
    println!("{{\"ready\":true}}");
    std::io::stdout().flush()?;
    loop {
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        })
        .await??;
        if line.is_empty() {
            std::process::exit(0);
        }
        let command: Command = serde_json::from_str(&line)?;
        let measured = match command.op.as_str() {
            "request" => requests(&command, request.clone(), joined).await?,
            _ => publishes(&command, publish, flush).await?,
        };
        println!("{}", serde_json::to_string(&measured)?);
    }
}

async fn requests<R, RF>(command: &Command, request: R, joined: bool) -> Result<Measured, Failure>
where
    R: Fn(Message) -> RF + Clone + Send + Sync + 'static,
    RF: Future<Output = Result<Answer, Failure>> + Send + 'static,
{
    let body = message(command.size);
    let begin = Instant::now();
    let end = begin + Duration::from_millis(command.ms);
    let one = move |request: R, body: Message| async move {
        let mut took = Vec::new();
        loop {
            let sent = Instant::now();
            if sent >= end {
                return Ok::<_, Failure>(took);
            }
            let reply = request(body.clone()).await?;
            assert_eq!(reply.sum, 3, "wrong reply");
            took.push(sent.elapsed().as_secs_f64() * 1e6);
        }
    };
    let loops = (0..command.inflight).map(|_| one(request.clone(), body.clone()));
    let ended = match joined {
        true => join_all(loops).await,
        false => {
            let tasks: Vec<_> = loops.map(tokio::spawn).collect();
            let ended = join_all(tasks).await;
            ended.into_iter().collect::<Result<_, _>>()?
        }
    };
    let mut samples = Vec::new();
    for took in ended {
        samples.extend(took?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let count = samples.len();
    samples.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| samples.get((count as f64 * share) as usize).copied().unwrap_or(0.0);
    Ok(Measured { count, seconds, p50: at(0.5), p99: at(0.99) })
}

async fn publishes<P, PF, F, FF>(
    command: &Command,
    publish: P,
    flush: F,
) -> Result<Measured, Failure>
where
    P: Fn(Message) -> PF + Copy,
    PF: Future<Output = Result<(), Failure>> + Send + 'static,
    F: Fn() -> FF + Copy,
    FF: Future<Output = Result<(), Failure>>,
{
    let body = message(command.size);
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < Duration::from_millis(command.ms) {
        for sent in join_all((0..command.inflight).map(|_| publish(body.clone()))).await {
            sent?;
        }
        flush().await?;
        count += command.inflight;
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Measured { count, seconds, p50: 0.0, p99: 0.0 })
}
