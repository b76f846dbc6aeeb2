//! Formats of strings that a schema can ask for.
//!
//! Owns: which texts fit. Called by: validation. A format that is not known fits everything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;

/// Whether a text is of a format.
pub(super) fn fits(format: &str, s: &str) -> bool {
    match format {
        "date-time" | "datetime" => s.parse::<jiff::Timestamp>().is_ok(),
        "date" => s.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_duration(s),
        "ipv4" => s.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => s.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(s),
        "mac" => is_mac(s),
        "hostname" => is_hostname(s),
        "uri" => is_uri(s),
        "email" => is_email(s),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid::Uuid::parse_str(s).is_ok(),
        "byte" => base64::engine::general_purpose::STANDARD.decode(s).is_ok(),
        "hexcolor" => {
            let digits = s.strip_prefix('#').unwrap_or(s);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        _ => true,
    }
}

fn is_cidr(s: &str) -> bool {
    let Some((ip, bits)) = s.split_once('/') else { return false };
    let Ok(ip) = ip.parse::<IpAddr>() else { return false };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u32>().is_ok_and(|n| n <= most)
}

/// 6, 8 or 20 bytes in pairs of digits with `:` or `-`, or in fours with `.`.
fn is_mac(s: &str) -> bool {
    let groups = |between: char, digits: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = s.split(between).collect();
        let fits = |p: &&str| p.len() == digits && p.bytes().all(|b| b.is_ascii_hexdigit());
        counts.contains(&parts.len()) && parts.iter().all(fits)
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn is_hostname(s: &str) -> bool {
    let label = |l: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        !l.is_empty()
            && l.len() <= 63
            && l.chars().all(inner)
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    s.len() <= 253 && s.strip_suffix('.').unwrap_or(s).split('.').all(label)
}

/// An absolute path, or something with a scheme.
fn is_uri(s: &str) -> bool {
    if s.is_empty() || s.bytes().any(|b| b.is_ascii_control()) {
        return false;
    }
    let mut rest = s;
    if !s.starts_with('/') {
        let Some((scheme, after)) = s.split_once(':') else { return false };
        let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !named {
            return false;
        }
        rest = after;
    }
    if let Some(authority) = rest.strip_prefix("//") {
        let host = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let port = host.rsplit_once(':').filter(|_| !host.ends_with(']'));
        if host.contains([' ', '<', '>', '"'])
            || port.is_some_and(|(_, p)| !p.bytes().all(|b| b.is_ascii_digit()))
        {
            return false;
        }
    }
    let escapes = rest.split('%').skip(1);
    escapes
        .map(|e| e.as_bytes().iter().take(2))
        .all(|mut two| two.len() == 2 && two.all(u8::is_ascii_hexdigit))
}

/// `somebody@somewhere`, also with a name before it.
fn is_email(s: &str) -> bool {
    let s = s.trim();
    let address = match (s.split_once('<'), s.strip_suffix('>')) {
        (Some((_, a)), Some(_)) => a.trim_end_matches('>'),
        (None, None) => s,
        _ => return false,
    };
    let atoms = |t: &str, more: &[u8]| {
        let atom = |a: &str| {
            !a.is_empty()
                && a.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || !b.is_ascii() || more.contains(&b))
        };
        t.split('.').all(atom)
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (quoted || atoms(local, b"!#$%&'*+-/=?^_`{|}~")) && atoms(domain, b"!#$%&'*+-/=?^_`{|}~")
}

/// `5m`, `1h30m`, or words: `3 days`.
fn is_duration(s: &str) -> bool {
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    if matches!(s.trim_start_matches(['+', '-']), "0") {
        return true;
    }
    // A number and the word after it, wherever they stand.
    let mut rest = s;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = rest[..end].to_lowercase();
        let named = |u: &[&str]| {
            let (long, short) = u.split_last().map_or(("", &[][..]), |(l, s)| (*l, s));
            !unit.is_empty() && (unit.starts_with(long) || short.contains(&unit.as_str()))
        };
        if UNITS.iter().any(|u| named(u)) {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::fits;

    // The formats of
    // https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
    #[test]
    fn formats_are_told_apart_from_what_only_looks_like_them() {
        let all: [(&str, &[&str], &[&str]); 10] = [
            (
                "cidr",
                &["10.0.0.0/8", "fd00::/64"],
                &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "x/8"],
            ),
            ("mac", &["00:11:22:aa:bb:cc", "0011.22aa.bbcc"], &["00:11:22", "00:11:22:aa:bb:c"]),
            ("hostname", &["a.example.com", "a"], &["a_b", "-a", "", "a..b"]),
            (
                "uri",
                &["http://a/b?c", "/a", "mailto:a@b"],
                &["", "a", "::x", "http://a b", "/%zz", "http://a:x"],
            ),
            ("email", &["a@b", "A B <a@b.c>"], &["a", "a@", "@b", "a b@c"]),
            ("duration", &["5m", "1h30m", "1.5h", "3 days", "0"], &["5", "x", "m", "5 q"]),
            ("date-time", &["2020-01-01T00:00:00Z"], &["2020-01-01", "x"]),
            ("uuid", &["a8098c1a-f86e-11da-bd1a-00112444be1e"], &["x"]),
            ("byte", &["YQ=="], &["!"]),
            ("nothing-known", &["x", ""], &[]),
        ];
        for (format, good, bad) in all {
            for s in good {
                assert!(fits(format, s), "{s:?} is a {format}");
            }
            for s in bad {
                assert!(!fits(format, s), "{s:?} is no {format}");
            }
        }
    }
}
