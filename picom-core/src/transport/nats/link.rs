//! One live connection: what is read and not yet cut, what is to be written, and whether the
//! server still answers.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{pin, Pin};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::parse::{self, Next, Op};
use crate::wire::message::Outbound;

/// What is read at once at most. Messages are slices of such blocks.
const BLOCK: usize = 64 << 10;
/// With less room than this, a block is full.
const LEAST_ROOM: usize = 8 << 10;
/// What waits for the socket before no more is taken: full packets leave while the next are made.
const MOST_WAITING: usize = 64 << 10;
/// Payloads from here on are not copied behind the others, but written by themselves.
const LARGE: usize = 16 << 10;
/// Pings without an answer before the connection counts as lost.
const MOST_UNANSWERED: u32 = 2;

/// What bytes come and go by: TCP, TLS or WebSocket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) struct Link {
    stream: Box<dyn Stream>,
    read: BytesMut,
    /// What is written before `tail`.
    chunks: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// How much of `tail` is written.
    written: usize,
    /// What the stream itself may keep is not on its way yet.
    unflushed: bool,
    interval: Duration,
    alarm: Pin<Box<Sleep>>,
    heard: bool,
    unanswered: u32,
}

impl Link {
    /// `read` is what came behind the handshake. After `interval` of silence the server is
    /// pinged.
    pub(super) fn new(stream: Box<dyn Stream>, read: BytesMut, interval: Duration) -> Link {
        Link {
            stream,
            read,
            chunks: VecDeque::new(),
            tail: Vec::with_capacity(4096),
            written: 0,
            unflushed: false,
            interval,
            alarm: Box::pin(tokio::time::sleep(interval)),
            heard: true,
            unanswered: 0,
        }
    }

    /// The next operation. An error is the end of the connection.
    pub(super) fn poll_op(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Op>> {
        loop {
            let need = match parse::next(&mut self.read) {
                Ok(Next::Op(op)) => return Poll::Ready(Ok(op)),
                Ok(Next::Incomplete(need)) => need,
                Err(broken) => {
                    let text = format!("the server sent {}", broken.0);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
            };
            let missing = need - self.read.len();
            if self.read.capacity() - self.read.len() < missing.max(LEAST_ROOM) {
                self.read.reserve(missing.max(BLOCK));
            }
            if ready!(pin!(self.stream.read_buf(&mut self.read)).poll(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.heard = true;
        }
    }

    /// Pings a server that is silent, and gives it up when it stays so.
    pub(super) fn poll_alarm(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            if std::mem::take(&mut self.heard) {
                self.unanswered = 0;
            } else if self.unanswered == MOST_UNANSWERED {
                let text = "the server does not answer";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            } else {
                self.unanswered += 1;
                self.tail.extend_from_slice(b"PING\r\n");
            }
            self.alarm.as_mut().reset(Instant::now() + self.interval);
        }
        Ok(())
    }

    /// Whether there is room for more messages; writes what waits if there is none.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let large: usize = self.chunks.iter().map(Bytes::len).sum();
        match large + self.tail.len() - self.written {
            ..MOST_WAITING => Poll::Ready(Ok(())),
            _ => self.poll_write(cx),
        }
    }

    /// Writes everything that waits.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(chunk) = self.chunks.front_mut() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, chunk))?;
            self.unflushed = true;
            chunk.advance(count);
            if chunk.is_empty() {
                self.chunks.pop_front();
            } else if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        while self.written < self.tail.len() {
            let rest = &self.tail[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
            self.unflushed = true;
        }
        self.tail.clear();
        self.written = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn pong(&mut self) {
        self.tail.extend_from_slice(b"PONG\r\n");
    }

    pub(super) fn subscribe(&mut self, sid: u64, subject: &str, queue: Option<&str>) {
        let line = match queue {
            Some(queue) => format!("SUB {subject} {queue} {sid}\r\n"),
            None => format!("SUB {subject} {sid}\r\n"),
        };
        self.tail.extend_from_slice(line.as_bytes());
    }

    pub(super) fn unsubscribe(&mut self, sid: u64) {
        self.tail.extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
    }

    /// `PUB subject [reply] length` or `HPUB subject [reply] head total`, and what follows.
    pub(super) fn publish(&mut self, message: Outbound) {
        let Outbound { subject, reply, headers, payload } = message;
        let head = headers.wire_len();
        let tail = &mut self.tail;
        let copied = if payload.len() < LARGE { payload.len() } else { 0 };
        let reply_len = reply.as_ref().map_or(0, |reply| reply.len() + 1);
        tail.reserve(subject.len() + reply_len + head + copied + 64);
        tail.extend_from_slice(if head > 0 { b"HPUB " } else { b"PUB " });
        tail.extend_from_slice(subject.as_bytes());
        tail.push(b' ');
        if let Some(reply) = &reply {
            tail.extend_from_slice(reply.as_bytes());
            tail.push(b' ');
        }
        let mut digits = itoa::Buffer::new();
        if head > 0 {
            tail.extend_from_slice(digits.format(head).as_bytes());
            tail.push(b' ');
        }
        tail.extend_from_slice(digits.format(head + payload.len()).as_bytes());
        tail.extend_from_slice(b"\r\n");
        headers.put(tail);
        if payload.len() < LARGE {
            tail.extend_from_slice(&payload);
        } else {
            let mut before = Bytes::from(std::mem::take(tail));
            before.advance(std::mem::take(&mut self.written));
            self.chunks.push_back(before);
            self.chunks.push_back(payload);
        }
        self.tail.extend_from_slice(b"\r\n");
    }
}
