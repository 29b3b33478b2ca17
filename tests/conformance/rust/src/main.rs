//! The Rust agent of the conformance suite: reads commands, one JSON object a line, and answers
//! each with a line. tests/conformance/README.md states the protocol.

mod handlers;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use handlers::{Behaviour, Calls};
use picom::{Error, Methods, Options, Picom};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

#[derive(Deserialize)]
struct Command {
    id: u64,
    #[serde(rename = "do")]
    verb: String,
    #[serde(default)]
    service: String,
    #[serde(default)]
    methods: BTreeMap<String, Behaviour>,
    #[serde(default)]
    target: String,
    /// JSON text; absent for no message.
    message: Option<String>,
    /// In milliseconds.
    #[serde(default)]
    timeout: u64,
}

#[derive(Serialize, Default)]
struct Answer {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed>,
}

#[derive(Serialize)]
struct Failed {
    kind: &'static str,
    number: u32,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed {
            kind: error.kind().name(),
            number: error.number(),
            text: error.message().to_owned(),
            details: error.details().map(ToOwned::to_owned),
        }
    }
}

struct Agent {
    options: Options,
    caller: Picom,
    services: Mutex<HashMap<String, Picom>>,
    calls: Calls,
}

impl Agent {
    async fn run(&self, command: Command) -> Answer {
        let mut answer = Answer { id: command.id, ..Answer::default() };
        let ended = match command.verb.as_str() {
            "expose" => self.expose(command).await.map(|()| None),
            "request" => self.request(command).await,
            "publish" => self.publish(command).await.map(|()| None),
            "close" => self.close().await.map(|()| None),
            "calls" => {
                answer.calls = Some(self.calls.snapshot());
                Ok(None)
            }
            other => panic!("no such command: {other}"),
        };
        match ended {
            Ok(payload) => {
                answer.payload = payload.map(|json| String::from_utf8_lossy(&json).into_owned());
            }
            Err(error) => answer.error = Some(error.into()),
        }
        answer
    }

    async fn expose(&self, command: Command) -> picom::Result<()> {
        let service = Picom::new(&command.service, self.options.clone())?;
        let mut methods = Methods::new();
        for (name, behaviour) in command.methods {
            methods = handlers::add(methods, &command.service, name, behaviour, &self.calls);
        }
        self.services().insert(command.service, service.clone());
        service.expose(methods).await
    }

    async fn request(&self, command: Command) -> picom::Result<Option<Bytes>> {
        let timeout = Duration::from_millis(command.timeout);
        let body = command.message.map(Bytes::from);
        self.caller.request_json(&command.target, body, timeout)?.await
    }

    async fn publish(&self, command: Command) -> picom::Result<()> {
        match command.message {
            None => self.caller.publish(&command.target, &()).await,
            Some(text) => {
                let message = RawValue::from_string(text).expect("messages are JSON");
                self.caller.publish(&command.target, &message).await
            }
        }
    }

    async fn close(&self) -> picom::Result<()> {
        let services: Vec<Picom> = self.services().drain().map(|(_, service)| service).collect();
        for service in services {
            service.close().await?;
        }
        self.caller.close().await
    }

    fn services(&self) -> std::sync::MutexGuard<'_, HashMap<String, Picom>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say(answer: &impl Serialize) {
    let line = serde_json::to_string(answer).expect("answers are JSON");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody reads the answers");
}

fn read_lines(lines: mpsc::UnboundedSender<String>) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

#[tokio::main]
async fn main() -> picom::Result<()> {
    let server = std::env::args().nth(1).expect("usage: picom-conformance SERVER");
    let options = Options::new().server(server).close_timeout(Duration::from_secs(1));
    let agent = Arc::new(Agent {
        caller: Picom::new("", options.clone())?,
        options,
        services: Mutex::default(),
        calls: Calls::default(),
    });
    agent.caller.connect().await?;
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || read_lines(sender));
    say(&serde_json::json!({ "ready": true }));
    while let Some(line) = lines.recv().await {
        let command: Command = serde_json::from_str(&line).expect("commands are JSON");
        let agent = agent.clone();
        tokio::spawn(async move { say(&agent.run(command).await) });
    }
    agent.close().await
}
