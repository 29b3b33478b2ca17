//! What a server sends, cut into operations: no I/O, no state but the buffer.
//!
//! The server is trusted with the protocol's frame (it cuts messages by their counted length) and
//! with nothing inside of it: subjects, headers and payloads are other clients' bytes.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// The longest line: an `INFO` of a large cluster is far below.
const MOST_LINE: usize = 1 << 20;
/// The largest message: servers do not go beyond 64 MiB.
const MOST_MESSAGE: usize = 256 << 20;

/// One operation of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Op {
    Message(Frame),
    Ping,
    Pong,
    /// JSON.
    Info(Bytes),
    /// `-ERR`, without its quotes.
    Error(String),
    /// `+OK`.
    Ok,
}

/// `MSG` or `HMSG`, whole; the ranges are of `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) sid: u64,
    pub(super) subject: Range<usize>,
    pub(super) reply: Option<Range<usize>>,
    /// From `NATS/1.0` on; empty for `MSG`.
    pub(super) head: Range<usize>,
    pub(super) payload: Range<usize>,
}

/// What there is at the beginning of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Op(Op),
    /// Nothing whole: the buffer needs at least so many bytes.
    Incomplete(usize),
}

/// The server does not speak the protocol: what was wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// Takes the next operation from the buffer, if it is there whole.
pub(super) fn next(buffer: &mut BytesMut) -> Result<Next, Broken> {
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        return match buffer.len() {
            ..MOST_LINE => Ok(Next::Incomplete(buffer.len() + 1)),
            _ => Err(Broken("a line without an end")),
        };
    };
    let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
    let (word, rest) = match memchr::memchr2(b' ', b'\t', line) {
        Some(at) => (&line[..at], &line[at..]),
        None => (line, &line[line.len()..]),
    };
    let op = match word {
        b"MSG" => return message(buffer, word.len()..line.len(), end + 1, false),
        b"HMSG" => return message(buffer, word.len()..line.len(), end + 1, true),
        b"PING" => Op::Ping,
        b"PONG" => Op::Pong,
        b"+OK" => Op::Ok,
        b"INFO" => Op::Info(Bytes::copy_from_slice(rest.trim_ascii())),
        b"-ERR" => {
            let text = String::from_utf8_lossy(rest.trim_ascii());
            Op::Error(text.trim_matches('\'').to_owned())
        }
        _ => return Err(Broken("an operation that is not in the protocol")),
    };
    buffer.advance(end + 1);
    Ok(Next::Op(op))
}

/// `MSG subject sid [reply] length` or `HMSG subject sid [reply] head total`, and what follows.
fn message(
    buffer: &mut BytesMut,
    line: Range<usize>,
    body: usize,
    has_head: bool,
) -> Result<Next, Broken> {
    const LENGTH: Broken = Broken("a message with a wrong length");
    const COUNT: Broken = Broken("a message with a wrong number of arguments");
    let mut words = [const { 0..0 }; 5];
    let mut count = 0;
    let mut at = line.start;
    while at < line.end {
        let length = memchr::memchr2(b' ', b'\t', &buffer[at..line.end]);
        let end = length.map_or(line.end, |length| at + length);
        if end > at {
            *words.get_mut(count).ok_or(COUNT)? = at..end;
            count += 1;
        }
        at = end + 1;
    }
    let lengths = if has_head { 2 } else { 1 };
    let reply = match count.checked_sub(2 + lengths) {
        Some(0) => None,
        Some(1) => Some(words[2].clone()),
        _ => return Err(COUNT),
    };
    let number = |word: &Range<usize>| number(&buffer[word.clone()]);
    let length = |word| usize::try_from(number(word)?).map_err(|_| LENGTH);
    let sid = number(&words[1])?;
    let total = length(&words[count - 1])?;
    let head = if has_head { length(&words[count - 2])? } else { 0 };
    if head > total || total > MOST_MESSAGE {
        return Err(LENGTH);
    }
    let whole = body + total + 2;
    if buffer.len() < whole {
        return Ok(Next::Incomplete(whole));
    }
    if &buffer[whole - 2..whole] != b"\r\n" {
        return Err(Broken("a message without an end"));
    }
    let subject = words[0].clone();
    let bytes = buffer.split_to(whole).freeze();
    let (head, payload) = (body..body + head, body + head..body + total);
    Ok(Next::Op(Op::Message(Frame { bytes, sid, subject, reply, head, payload })))
}

fn number(digits: &[u8]) -> Result<u64, Broken> {
    let wrong = Broken("a number with other characters than digits");
    if digits.is_empty() || digits.len() > 18 {
        return Err(wrong);
    }
    let mut value = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(wrong);
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    Ok(value)
}

/// What picom reads of a message's headers: the server's status, and the place of the value of
/// the header `name`. Whatever else is in there, and whatever is wrong with it, does not matter.
pub(super) fn head(head: &[u8], name: &str) -> (Option<u16>, Option<Range<usize>>) {
    let (mut status, mut value) = (None, None);
    let mut at = 0;
    while at < head.len() {
        let end = memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |length| at + length);
        let line = &head[at..end];
        if at == 0 {
            let digits = line.strip_prefix(b"NATS/1.0").unwrap_or_default().trim_ascii();
            let digits = digits.split(|byte| *byte == b' ').next().unwrap_or_default();
            status = number(digits).ok().and_then(|status| u16::try_from(status).ok());
        } else if value.is_none() && line.get(name.len()) == Some(&b':') {
            let (key, rest) = line.split_at(name.len());
            if key.eq_ignore_ascii_case(name.as_bytes()) {
                let text = rest[1..].trim_ascii_start();
                let start = end - text.len();
                value = Some(start..start + text.trim_ascii_end().len());
            }
        }
        at = end + 1;
    }
    (status, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Result<Vec<Op>, Broken> {
        let mut buffer = BytesMut::from(text);
        let mut ops = Vec::new();
        while let Next::Op(op) = next(&mut buffer)? {
            ops.push(op);
        }
        assert!(buffer.is_empty(), "left over: {buffer:?}");
        Ok(ops)
    }

    /// Subject, reply, headers and payload.
    fn parts(op: &Op) -> [&str; 4] {
        let Op::Message(frame) = op else { panic!("{op:?}") };
        let reply = frame.reply.clone().unwrap_or_default();
        [frame.subject.clone(), reply, frame.head.clone(), frame.payload.clone()]
            .map(|range| std::str::from_utf8(&frame.bytes[range]).unwrap())
    }

    fn sid(op: &Op) -> u64 {
        let Op::Message(frame) = op else { panic!("{op:?}") };
        frame.sid
    }

    #[test]
    fn every_operation_is_read() {
        let ops = all(b"INFO {\"a\":1}\r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Stale Connection'\r\n\
            MSG a.b 1 5\r\nhe\r\no\r\nMSG a 22  reply.x\t0\r\n\r\n\
            HMSG s 1 r 12 14\r\nNATS/1.0\r\n\r\nok\r\nHMSG s 9 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
        .unwrap();
        assert_eq!(ops[0], Op::Info(Bytes::from_static(b"{\"a\":1}")));
        assert_eq!(ops[1..4], [Op::Ping, Op::Pong, Op::Ok]);
        assert_eq!(ops[4], Op::Error("Stale Connection".into()));
        assert_eq!(parts(&ops[5]), ["a.b", "", "", "he\r\no"]);
        assert_eq!(parts(&ops[6]), ["a", "reply.x", "", ""]);
        assert_eq!(parts(&ops[7]), ["s", "r", "NATS/1.0\r\n\r\n", "ok"]);
        assert_eq!(parts(&ops[8]), ["s", "", "NATS/1.0 503\r\n\r\n", ""]);
        assert_eq!([5, 6, 7, 8].map(|at| sid(&ops[at])), [1, 22, 1, 9]);
    }

    #[test]
    fn the_same_comes_out_however_the_bytes_are_cut() {
        let text =
            b"PING\r\nHMSG a.b 1 _INBOX.x 12 15\r\nNATS/1.0\r\n\r\n\r\n!\r\nMSG a 2 3\r\nabc\r\n";
        let whole = all(text).unwrap();
        for step in 1..text.len() {
            let mut buffer = BytesMut::new();
            let mut ops = Vec::new();
            for piece in text.chunks(step) {
                buffer.extend_from_slice(piece);
                loop {
                    match next(&mut buffer).unwrap() {
                        Next::Op(op) => ops.push(op),
                        Next::Incomplete(need) => {
                            assert!(need > buffer.len());
                            break;
                        }
                    }
                }
            }
            assert_eq!(ops, whole, "in pieces of {step}");
        }
    }

    #[test]
    fn what_is_no_protocol_is_broken_and_never_a_panic() {
        for text in [
            "HELLO\r\n",
            "\r\n",
            "MSG\r\n",
            "MSG a 1\r\n",
            "MSG a 1 r 3 4\r\n",
            "MSG a x 0\r\n\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 1 99999999999999999999\r\n",
            "MSG a 1 999999999999\r\n",
            "HMSG a 1 5 4\r\n",
            "MSG a 1 2\r\nabcd",
            "HMSG a 1 3\r\n",
            "HTTP/1.1 400 Bad\r\n",
        ] {
            assert!(all(text.as_bytes()).is_err(), "{text:?}");
        }
        let mut long = BytesMut::from(&vec![b'x'; MOST_LINE][..]);
        assert!(next(&mut long).is_err());
        // Bytes of every kind, cut from a fixed sequence that looks random.
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut buffer = BytesMut::from(["MSG ", "HMSG a ", "-ERR ", ""][random as usize % 4]);
            for _ in 0..random % 40 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                buffer.extend_from_slice(&[b" \r\n019aM\xff"[random as usize % 9]]);
            }
            random = random.wrapping_mul(3).wrapping_add(1);
            while let Ok(Next::Op(_)) = next(&mut buffer) {}
            head(&buffer, "Picom-Call");
        }
    }

    #[test]
    fn headers_are_found_among_others_and_rubbish_is_passed_over() {
        let text =
            b"NATS/1.0\r\nOther: 1\r\nno colon\r\n: \r\n\xff\xfe\r\npicom-CALL:  a.1 5 \r\n\r\n";
        let (status, value) = head(text, "Picom-Call");
        assert_eq!((status, &text[value.unwrap()]), (None, &b"a.1 5"[..]));
        assert_eq!(head(b"NATS/1.0 503\r\n\r\n", "Picom-Call"), (Some(503), None));
        assert_eq!(head(b"NATS/1.0 408 Request Timeout\r\n\r\n", "x").0, Some(408));
        for rubbish in [&b""[..], b"NATS/1.0", b"NATS/1.0 abc\r\n", b"\r\n\r\n", b"NATS/2\r\nx"] {
            assert_eq!(head(rubbish, "Picom-Call"), (None, None));
        }
        let (_, empty) = head(b"NATS/1.0\r\nPicom-Call:\r\n\r\n", "Picom-Call");
        assert!(empty.unwrap().is_empty());
    }
}
