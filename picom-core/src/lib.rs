//! picom lets one program call a function of another by name, `orders.create`, whatever language
//! either is written in and wherever it runs. NATS carries the messages.
//!
//! ```
//! use picom::{Methods, Options, Picom};
//!
//! # #[tokio::main]
//! # async fn main() -> picom::Result<()> {
//! let service = Picom::new("math", Options::new().server("memory://docs"))?;
//! service
//!     .expose(Methods::new().add("double", |n: i64| async move { Ok::<_, String>(n * 2) }))
//!     .await?;
//!
//! let caller = Picom::new("", Options::new().server("memory://docs"))?;
//! let four: i64 = caller.request("math.double", &2).await?;
//! assert_eq!(four, 4);
//! # caller.close().await?;
//! # service.close().await
//! # }
//! ```
//!
//! # Architecture
//!
//! From the ground up; a floor imports only from floors below it.
//!
//! 1. [`error`], [`name`], [`options`]: words and checks.
//! 2. [`wire`]: bytes to meaning and back, without I/O. docs/protocol.md states it.
//! 3. [`engine`]: the rules, without I/O, threads or clocks of its own. Messages, submissions
//!    and the time go in; messages, completions and calls come out.
//! 4. [`transport`]: what moves bytes: a nats-server, or a bus in memory.
//! 5. `runtime`, `submit`, `dispatch`, `driver`: the one background thread, and the batches that go to it.
//! 6. [`Picom`], the Rust handle, and [`host`], the batch queue to a foreign event loop.

pub mod engine;
pub mod error;
pub mod host;
pub mod name;
pub mod options;
pub mod transport;
pub mod wire;

mod context;
mod dispatch;
mod driver;
mod methods;
mod picom;
mod process;
mod runtime;
mod submit;

pub use context::Context;
pub use engine::Notice;
pub use error::{Error, ErrorKind, Result};
pub use methods::{HandlerError, Methods};
pub use options::{Options, TlsOptions};
pub use picom::{Picom, Replying};
pub use wire::message::Subject;
