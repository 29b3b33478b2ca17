//! The contract, proven with a simulated clock and network.

mod calls;
mod closing;
mod connection;
mod exposing;
mod faults;
mod messages;
mod publishing;
mod requests;
mod retries;
mod server;
mod world;
