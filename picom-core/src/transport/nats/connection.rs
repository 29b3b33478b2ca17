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
pub(super) const BLOCK: usize = 64 << 10;
/// With less room than this, a block is full.
const LEAST_ROOM: usize = 8 << 10;
/// What waits for the socket before no more is taken: full packets leave while the next are made.
const MOST_WAITING: usize = 64 << 10;
/// Payloads from here on are not copied behind the others, but written by themselves.
const LARGE: usize = 16 << 10;
/// What bytes come and go by: TCP, TLS or WebSocket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) struct Connection {
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
    /// A ping is out.
    pinged: bool,
    /// What it could not be written to for. What was read before still counts.
    broken: Option<io::Error>,
}

impl Connection {
    /// `read` is what came behind the handshake. After `interval` of silence the server is
    /// pinged.
    pub(super) fn new(stream: Box<dyn Stream>, read: BytesMut, interval: Duration) -> Connection {
        Connection {
            stream,
            read,
            chunks: VecDeque::new(),
            tail: Vec::with_capacity(4096),
            written: 0,
            unflushed: false,
            interval,
            alarm: Box::pin(tokio::time::sleep(interval)),
            heard: true,
            pinged: false,
            broken: None,
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
            let count = pin!(self.stream.read_buf(&mut self.read)).poll(cx);
            match (count, self.broken.take()) {
                (Poll::Ready(Ok(1..)), broken) => self.broken = broken,
                (_, Some(error)) => return Poll::Ready(Err(error)),
                (count, None) => {
                    ready!(count)?;
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
            self.heard = true;
        }
    }

    /// Pings a server that is silent, and gives it up when it stays so.
    pub(super) fn poll_alarm(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            if std::mem::take(&mut self.heard) {
                self.pinged = false;
            } else if std::mem::replace(&mut self.pinged, true) {
                let text = "the server does not answer";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            } else {
                self.tail.extend_from_slice(b"PING\r\n");
            }
            self.alarm.as_mut().reset(Instant::now() + self.interval);
        }
        Ok(())
    }

    /// Whether there is room for more messages; writes what waits if there is none.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let large: usize = self.chunks.iter().map(Bytes::len).sum();
        match large + self.tail.len() - self.written {
            ..MOST_WAITING if self.broken.is_none() => Poll::Ready(()),
            _ => self.poll_write(cx),
        }
    }

    /// Writes everything that waits. What fails here is for [`Connection::poll_op`] to tell, behind
    /// what the server has sent before.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.broken.is_some() {
            return Poll::Pending;
        }
        match ready!(self.poll_write_all(cx)) {
            Ok(()) => Poll::Ready(()),
            Err(error) => {
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(chunk) = self.chunks.front_mut() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, chunk))? {
                0 if !chunk.is_empty() => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => chunk.advance(count),
            }
            self.unflushed = true;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        while self.written < self.tail.len() {
            let rest = &self.tail[self.written..];
            match Pin::new(&mut self.stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => self.written += count,
                Poll::Pending => {
                    // A socket that always takes a little would let the rest grow for ever.
                    if self.written >= MOST_WAITING {
                        self.tail.drain(..std::mem::take(&mut self.written));
                    }
                    return Poll::Pending;
                }
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::wire::message::Headers;

    /// Takes a few bytes at each call, and says after each that it is full.
    struct Slow {
        taken: Vec<u8>,
        full: bool,
    }

    impl AsyncRead for Slow {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.full = !self.full;
            if self.full {
                return Poll::Pending;
            }
            let count = bytes.len().min(30_000);
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_socket_that_takes_a_little_at_a_time_keeps_the_memory_small() {
        let slow = Slow { taken: Vec::new(), full: false };
        let interval = Duration::from_secs(60);
        let mut connection = Connection::new(Box::new(slow), BytesMut::new(), interval);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            // Never all: the socket is full again each time that something is written.
            if connection.poll_room(&mut cx).is_ready() {
                connection.publish(Outbound {
                    subject: "svc.m".into(),
                    reply: None,
                    headers: Headers::None,
                    payload: Bytes::from(vec![b'x'; 1000]),
                });
            }
        }
        assert!(connection.tail.len() < 4 * MOST_WAITING, "{} bytes", connection.tail.len());
    }
}
