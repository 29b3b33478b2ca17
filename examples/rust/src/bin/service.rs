//! A service in Rust, for callers in any language.
//! Run it with `cargo run -p picom-examples --bin service [server]`.

use picom::{Methods, Options, Picom};
use serde::Deserialize;

#[derive(Deserialize)]
struct Operands {
    a: f64,
    b: f64,
}

#[tokio::main]
async fn main() -> picom::Result<()> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".into());
    let math = Picom::new("math", Options::new().server(server))?;

    let methods = Methods::new()
        .add("add", |n: Operands| async move { Ok::<_, String>(n.a + n.b) })
        .add("divide", |n: Operands| async move {
            if n.b == 0.0 {
                return Err("division by zero");
            }
            Ok(n.a / n.b)
        });
    math.expose(methods).await?;
    println!("math: ready");

    // Until Ctrl-C; then handlers finish and their replies leave.
    let _ = tokio::signal::ctrl_c().await;
    math.close().await
}
