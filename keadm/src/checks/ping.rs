//! Whether an address answers a ping.
//!
//! Owns: the packet. Called by: `keadm debug check` and `diagnose`.
//! Never: runs the program `ping`, which small machines do not have.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::time::Instant;

/// What is sent with it and comes back.
type Nonce = [u8; 8];

/// How long the answer took. Blocks.
///
/// # Errors
/// When none comes in time, or this user may not ping.
pub fn ping(ip: IpAddr, limit: Duration) -> io::Result<Duration> {
    let (socket, raw) = open(ip)?;
    socket.connect((ip, 0))?;
    let nonce: Nonce = service::random_bytes();
    let begun = Instant::now();
    socket.send(&packet(ip, nonce))?;
    let mut answer = [0; 256];
    loop {
        let left = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        socket.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        let n = match socket.recv(&mut answer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            other => other?,
        };
        if is_answer(&answer[..n], ip, raw, nonce) {
            return Ok(begun.elapsed());
        }
    }
}

/// One of the kind that everybody may have where the kernel is told so, or root's; which it is.
fn open(ip: IpAddr) -> io::Result<(UdpSocket, bool)> {
    let (family, protocol) = match ip {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let of = |kind| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol);
    match of(SockType::Datagram) {
        Ok(socket) => Ok((socket.into(), false)),
        Err(_) => Ok((of(SockType::Raw)?.into(), true)),
    }
}

/// Pure.
fn packet(ip: IpAddr, nonce: Nonce) -> Vec<u8> {
    let kind = if ip.is_ipv4() { 8 } else { 128 };
    let mut bytes = vec![kind, 0, 0, 0, nonce[0], nonce[1], 0, 1];
    bytes.extend(nonce);
    // The kernel adds IPv6's, for which it knows the addresses.
    if ip.is_ipv4() {
        let sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX);
        bytes[2..4].copy_from_slice(&(!folded).to_be_bytes());
    }
    bytes
}

/// Pure; the bytes are anybody's.
fn is_answer(bytes: &[u8], ip: IpAddr, raw: bool, nonce: Nonce) -> bool {
    // Root's socket shows the IPv4 header as well.
    let header = match bytes.first() {
        Some(first) if raw && ip.is_ipv4() => usize::from(first & 0xf) * 4,
        _ => 0,
    };
    let kind = if ip.is_ipv4() { 0 } else { 129 };
    let Some(message) = bytes.get(header..) else { return false };
    message.first() == Some(&kind) && message.get(8..16) == Some(&nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_our_own_question_and_from_nonsense() {
        let (ip, nonce) = (IpAddr::from([127, 0, 0, 1]), [1, 2, 3, 4, 5, 6, 7, 8]);
        let asked = packet(ip, nonce);
        assert!(!is_answer(&asked, ip, false, nonce), "that is the question");
        let mut answer = asked.clone();
        answer[0] = 0;
        assert!(is_answer(&answer, ip, false, nonce));
        assert!(!is_answer(&answer, ip, false, [0; 8]), "another's");
        let with_header: Vec<u8> = [[0x45].as_slice(), &[0; 19], &answer].concat();
        assert!(is_answer(&with_header, ip, true, nonce));
        for length in 0..answer.len() {
            assert!(!is_answer(&answer[..length], ip, false, nonce));
        }
        assert!(!is_answer(&[0x4f], ip, true, nonce));
        let sum: u32 = asked.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the checksum");
    }
}
