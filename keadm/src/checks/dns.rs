//! One question to one name server, whatever this machine's own settings say.
//!
//! Owns: the question's bytes and the reading of an answer; the rest of a resolver is the system's.
//! Called by: `keadm debug check` and `diagnose`. Never: follows an alias to another server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// An answer over UDP is no longer.
const ANSWER: usize = 4096;
/// A question is sent so often: datagrams get lost.
const TRIES: u32 = 2;

const A: u16 = 1;
const AAAA: u16 = 28;

/// The address of a name, as this server has it; `None`: there is no such name, or it has none.
///
/// # Errors
/// When the server is silent or refuses, or the name cannot be asked for.
pub async fn address(
    server: SocketAddr,
    name: &str,
    limit: Duration,
) -> io::Result<Option<IpAddr>> {
    for of in [A, AAAA] {
        let id = u16::from_be_bytes(service::random_bytes());
        let question = question(id, name, of)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is no name"))?;
        let answer = ask(server, &question, limit / TRIES).await?;
        match read(&answer, id, of) {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(why) => return Err(io::Error::other(why)),
        }
    }
    Ok(None)
}

async fn ask(server: SocketAddr, question: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let mut answer = vec![0; ANSWER];
    for _ in 0..TRIES {
        socket.send(question).await?;
        if let Ok(read) = timeout(limit, socket.recv(&mut answer)).await {
            answer.truncate(read?);
            return Ok(answer);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Pure.
fn question(id: u16, name: &str, of: u16) -> Option<Vec<u8>> {
    // Recursion is wanted; one question.
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = name.trim_end_matches('.');
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(of.to_be_bytes());
    bytes.extend([0, 1]);
    Some(bytes)
}

/// Pure; the bytes are anybody's.
fn read(answer: &[u8], id: u16, of: u16) -> Result<Option<IpAddr>, &'static str> {
    const BROKEN: &str = "the answer makes no sense";
    let number = |at: usize| {
        let bytes = answer.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let flags = number(2).ok_or(BROKEN)?;
    if number(0) != Some(id) || flags & 0x8000 == 0 {
        return Err(BROKEN);
    }
    match flags & 0xf {
        0 => {}
        3 => return Ok(None),
        5 => return Err("the server refuses to answer"),
        _ => return Err("the server cannot answer"),
    }
    let (questions, answers) = (number(4).ok_or(BROKEN)?, number(6).ok_or(BROKEN)?);
    let mut at = 12;
    for _ in 0..questions {
        at = skip_name(answer, at).ok_or(BROKEN)? + 4;
    }
    for _ in 0..answers {
        at = skip_name(answer, at).ok_or(BROKEN)?;
        let (kind, length) = (number(at).ok_or(BROKEN)?, number(at + 8).ok_or(BROKEN)?);
        at += 10;
        let data = answer.get(at..at + usize::from(length)).ok_or(BROKEN)?;
        at += data.len();
        let found = match kind {
            A => data.first_chunk::<4>().map(|b| IpAddr::from(*b)),
            AAAA => data.first_chunk::<16>().map(|b| IpAddr::from(*b)),
            _ => None,
        };
        if kind == of && found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Where a name ends: after a zero, or a pointer to an earlier one.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            n if n & 0xc0 == 0xc0 => return Some(at + 2),
            n => at += 1 + usize::from(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server answers: an alias, then an address, with names that point back.
    fn answer(id: u16, code: u8) -> Vec<u8> {
        let mut bytes = question(id, "cloud.example", A).unwrap();
        (bytes[2], bytes[3], bytes[7]) = (0x81, 0x80 | code, 2);
        for (kind, data) in [(5, &[0xc0, 12][..]), (A, &[192, 0, 2, 7])] {
            bytes.extend([0xc0, 12]);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
            bytes.extend(data);
        }
        bytes
    }

    #[test]
    fn an_answer_is_read_and_a_broken_one_refused_wherever_it_breaks() {
        let whole = answer(7, 0);
        assert_eq!(read(&whole, 7, A), Ok(Some([192, 0, 2, 7].into())));
        assert_eq!(read(&whole, 7, AAAA), Ok(None));
        assert!(read(&whole, 8, A).is_err(), "it answers another question");
        assert_eq!(read(&answer(7, 3), 7, A), Ok(None), "there is no such name");
        assert!(read(&answer(7, 5), 7, A).unwrap_err().contains("refuses"));
        for length in 0..whole.len() {
            assert!(read(&whole[..length], 7, A).is_err(), "{length}");
        }
        assert!(question(1, &"x".repeat(64), A).is_none() && question(1, "a..b", A).is_none());
    }

    #[tokio::test]
    async fn the_server_that_is_named_is_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut asked = [0; 512];
            let (n, from) = server.recv_from(&mut asked).await.unwrap();
            let id = u16::from_be_bytes([asked[0], asked[1]]);
            assert_eq!(asked[..n], question(id, "cloud.example", A).unwrap());
            server.send_to(&answer(id, 0), from).await.unwrap();
        });
        let found = address(at, "cloud.example", Duration::from_secs(20)).await.unwrap();
        serving.await.unwrap();
        assert_eq!(found, Some([192, 0, 2, 7].into()));
    }
}
