//! Calls the service of examples/node/service.js (or any other of that name).
//! Run it with `cargo run -p picom-examples --bin caller [server]`.

use picom::{ErrorKind, Options, Picom};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Order<'a> {
    item: &'a str,
    count: u32,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Receipt {
    item: String,
    count: u32,
    total: f64,
}

#[tokio::main]
async fn main() -> picom::Result<()> {
    let server = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".into());
    let shop = Picom::new("shop", Options::new().server(server))?;

    let receipt: Receipt =
        shop.request("orders.create", &Order { item: "apple", count: 3 }).await?;
    println!("rust caller: ordered {receipt:?}");

    let refused =
        shop.request::<_, Receipt>("orders.create", &Order { item: "pear", count: 1 }).await;
    match refused {
        Err(error) if error.kind() == ErrorKind::HandlerFailed => {
            println!("rust caller: refused: {error}, details {:?}", error.details());
        }
        other => println!("rust caller: unexpected: {other:?}"),
    }
    shop.close().await
}
