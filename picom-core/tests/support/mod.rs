//! A real nats-server for each test, and what tests look at.

// Each test binary uses its own part of this.
#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use picom::{Methods, Notice, Options, Picom};
use tokio::sync::broadcast::Receiver;

/// How long a test waits for what has to happen at once, before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A nats-server on a port of its own. Killed when it is dropped.
pub struct Server {
    pub port: u16,
    dir: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// A server with its defaults.
    pub fn start() -> Server {
        Server::with_config("")
    }

    /// A server with this configuration beside its address. `DIR` stands for [`Server::dir`].
    pub fn with_config(config: &str) -> Server {
        let mut server = Server::not_started(config);
        server.start_again();
        server
    }

    /// A server that has an address and does not listen yet.
    pub fn not_started(config: &str) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("picom-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let server = Server { port: free_port(), dir, child: None };
        server.configure(config);
        server
    }

    /// Writes the configuration for the next start.
    pub fn configure(&self, config: &str) {
        let config = config.replace("DIR", &self.dir.display().to_string());
        fs::write(self.dir.join("nats.conf"), config).unwrap();
    }

    /// Where the configuration stands, and where it may refer to.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts it, and returns when it answers.
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut child = self.spawn();
            while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                if self.answers() {
                    self.child = Some(child);
                    return;
                }
                std::thread::sleep(ms(5));
            }
            // It ended: somebody took its port in between, or its configuration is wrong.
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = fs::read_to_string(self.dir.join("nats.log")).unwrap_or_default();
        panic!("nats-server does not start on port {}:\n{log}", self.port);
    }

    fn spawn(&self) -> Child {
        Command::new(binary())
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--config")
            .arg(self.dir.join("nats.conf"))
            .arg("--log")
            .arg(self.dir.join("nats.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts")
    }

    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO ")
    }

    /// Ends it without a word to its clients.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Options for it.
    pub fn options(&self) -> Options {
        Options::new().server(self.url())
    }

    /// An instance of `service`, or with an empty name a caller.
    pub fn picom(&self, service: &str) -> Picom {
        Picom::new(service, self.options()).unwrap()
    }

    /// A service that exposes `echo`, which returns its message.
    pub async fn echo(&self, service: &str) -> Picom {
        let picom = self.picom(service);
        picom.expose(echo()).await.unwrap();
        picom
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub fn echo() -> Methods {
    Methods::new().add("echo", |message: serde_json::Value| async move { Ok::<_, String>(message) })
}

fn binary() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/nats-server");
    let path = std::env::var_os("PICOM_NATS_SERVER").map_or(installed, PathBuf::from);
    assert!(
        path.exists(),
        "these tests need a nats-server, which is not at {}: run `make setup`, or set \
         PICOM_NATS_SERVER",
        path.display()
    );
    path
}

/// A port that was free a moment ago. Ports are handed out once in this process.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits for what has to happen soon.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_) => panic!("nothing happened for {PATIENCE:?}: {place}"),
        }
    }
}

/// Waits for a notice.
pub async fn noticed(notices: &mut Receiver<Notice>, wanted: impl Fn(&Notice) -> bool) -> Notice {
    soon(async {
        loop {
            let notice = notices.recv().await.unwrap();
            if wanted(&notice) {
                return notice;
            }
        }
    })
    .await
}

/// Prints a measured time beside its promise. A busy machine may be slower than the promise,
/// and a mistake is rarely less than ten times slower.
#[track_caller]
pub fn promised(what: &str, promise: Duration, took: Duration) {
    println!("{what}: took {took:?}, promised {promise:?}");
    assert!(took <= promise * 10, "{what} took {took:?}, and {promise:?} is promised");
}
