//! A row as cells of text: ages, sizes, counts, health. Pure.

pub use api::moment::span;
use api::status::row::{DeviceRow, Millis, NodeRow, PodRow, TwinRow, Upgrade};
use api::status::upgrades::WAITING;

/// How something is, for its colour and its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// As it should be.
    Good,
    /// Nothing to say.
    Plain,
    /// On its way, or not known.
    Uncertain,
    /// Not as it should be.
    Bad,
}

/// Text from the network, fit for a terminal: control characters become `·`.
///
/// Nothing that came over a wire may reach the terminal without passing here.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '·',
            // Bidirectional overrides and invisible joiners can make a name look like another.
            '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}' => '·',
            c => c,
        })
        .collect()
}

/// How long ago, or `-`.
pub fn age(then: Option<Millis>, now: Millis) -> String {
    then.map_or_else(|| "-".to_owned(), |t| span(now - t))
}

/// Microseconds as `340µs`, `12ms`, `1.4s`.
pub fn micros(us: i64) -> String {
    match us.unsigned_abs() {
        n if n < 1000 => format!("{us}us"),
        n if n < 1_000_000 => format!("{}ms", us / 1000),
        #[expect(clippy::cast_precision_loss, reason = "for the eye")]
        _ => format!("{:.1}s", us as f64 / 1e6),
    }
}

/// Bytes as `812`, `14Ki`, `3.2Mi`, `1.5Gi`.
pub fn bytes(n: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for the eye")]
    let f = n as f64;
    match n {
        0..1024 => n.to_string(),
        1024..1_048_576 => format!("{:.0}Ki", f / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1}Mi", f / 1_048_576.0),
        _ => format!("{:.1}Gi", f / 1_073_741_824.0),
    }
}

/// What a node's READY column says, and how that is.
pub fn node_status(n: &NodeRow) -> (String, Health) {
    let (mut text, health) = match n.ready.as_str() {
        "True" => ("Ready".to_owned(), Health::Good),
        "False" => ("NotReady".to_owned(), Health::Bad),
        "Unknown" => ("Unknown".to_owned(), Health::Bad),
        _ => ("Pending".to_owned(), Health::Uncertain),
    };
    if n.cordoned {
        text.push_str(",Cordoned");
    }
    let upgrade = n.upgrade.as_ref().and_then(|u| match u.state.as_str() {
        "Pending" => None,
        WAITING => Some(",Confirm"),
        "Failure" | "Unknown" => Some(",UpFailed"),
        _ => Some(",Upgrade"),
    });
    text.push_str(upgrade.unwrap_or_default());
    let marked = n.cordoned || upgrade.is_some();
    (text, if marked { health.max(Health::Uncertain) } else { health })
}

/// `from v1.22.0 to v1.23.0`
pub fn versions(u: &Upgrade) -> String {
    match u.from.as_str() {
        "" => format!("to {}", clean(&u.to)),
        from => format!("from {} to {}", clean(from), clean(&u.to)),
    }
}

/// What an upgrade is doing, in words.
pub fn upgrade_state(u: &Upgrade) -> String {
    match u.state.as_str() {
        "Pending" => "waits for its turn".to_owned(),
        WAITING => "waits for a yes: press u".to_owned(),
        "Check" => "the node is looked at".to_owned(),
        "BackUp" => "what is there is kept".to_owned(),
        "Upgrade" => "edgecore is replaced".to_owned(),
        "RollBack" => "it failed, and what was there is put back".to_owned(),
        "Failure" => "failed".to_owned(),
        "Unknown" => "nothing was heard for too long".to_owned(),
        other => clean(other),
    }
}

/// What a node's LINK column says, and how that is.
pub fn node_link(n: &NodeRow, now: Millis) -> (String, Health) {
    match (&n.link, n.lost_at) {
        (Some(link), _) => (format!("up {}", span(now - link.since)), Health::Good),
        (None, Some(at)) => (format!("down {}", span(now - at)), Health::Bad),
        (None, None) => ("never".to_owned(), Health::Uncertain),
    }
}

/// How a pod is.
pub fn pod_health(p: &PodRow) -> Health {
    match p.status.as_str() {
        "Running" if p.ready == p.containers => Health::Good,
        "Succeeded" | "Completed" => Health::Plain,
        "Running" | "Pending" | "ContainerCreating" | "PodInitializing" | "Terminating" => {
            Health::Uncertain
        }
        s if s.starts_with("Init:") && !s.contains("Err") && !s.contains("Back") => {
            Health::Uncertain
        }
        "" | "Unknown" => Health::Uncertain,
        _ => Health::Bad,
    }
}

/// How a device is.
pub fn device_health(d: &DeviceRow) -> Health {
    match d.state.as_str() {
        "online" | "ok" if d.in_sync() => Health::Good,
        "offline" | "unhealthy" => Health::Bad,
        _ if !d.in_sync() => Health::Uncertain,
        _ => Health::Plain,
    }
}

/// `23`, or `23 (want 25)`.
pub fn twin(t: &TwinRow) -> String {
    let reported = t.reported.as_deref().unwrap_or("-");
    match &t.desired {
        Some(d) if !t.in_sync() => format!("{} (want {})", clean(reported), clean(d)),
        _ => clean(reported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\nc\u{202e}d\u{9b}"), "a·[31mb·c·d·");
        assert_eq!(clean("ü 网 🚀"), "ü 网 🚀");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(
            [bytes(812), bytes(14 << 10), bytes(3_355_443)],
            ["812", "14Ki", "3.2Mi"].map(String::from)
        );
        assert_eq!([micros(340), micros(12_400), micros(1_400_000)], ["340us", "12ms", "1.4s"]);
    }
}
