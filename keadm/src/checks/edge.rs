//! An edge node: its files, its certificate, its service, the way to the cloud.

use std::time::{Duration, SystemTime};

use api::config::edgecore::EdgeCoreConfig;
use camino::Utf8Path;
use service::tls;

use super::Check;
use crate::context::Context;
use crate::errors::Kind;
use crate::host::ServiceState;
use crate::https::{self, HostPort, utc};

/// A clock that is this far off breaks tokens and leases.
const SKEW: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Compares this machine's clock with the cloud's.
pub fn skew(ours: SystemTime, theirs: Option<SystemTime>) -> Check {
    let Some(theirs) = theirs else {
        return Check::skip("Clock-Skew", "the cloud does not tell its time");
    };
    let (off, word) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    let seconds =
        |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if off > SKEW {
        return Check::fail(
            "Clock-Skew",
            Kind::Failed,
            format!(
                "this machine's clock is {} s {word} the cloud's ({} here, {} there)",
                off.as_secs(),
                utc(seconds(ours)),
                utc(seconds(theirs))
            ),
            "set the clock: `timedatectl set-ntp true`, or `date -s`",
        );
    }
    Check::ok("Clock-Skew", "this machine's clock agrees with the cloud's")
}

/// The certificate of a node: whose it is and how long it lasts.
pub fn certificate(cx: &Context, path: &Utf8Path, wanted_cn: &str) -> Check {
    let name = "Certificate";
    let rejoin = "`keadm join --clean` with a new token makes new ones";
    let bytes = match cx.host.read(path) {
        Ok(bytes) => bytes,
        Err(e) => {
            return Check::fail(name, Kind::NotFound, format!("cannot read `{path}`: {e}"), rejoin);
        }
    };
    let what = format!("`{path}`");
    let parsed = tls::certificates(&bytes, &what).and_then(|chain| {
        let subject = tls::subject(&chain[0])?;
        let validity = validity(&chain[0]);
        Ok((subject, validity))
    });
    let (subject, validity) = match parsed {
        Ok(parsed) => parsed,
        Err(e) => return Check::fail(name, Kind::Failed, service::error_chain(&e), rejoin),
    };
    if subject.common_name != wanted_cn {
        return Check::fail(
            name,
            Kind::Refused,
            format!("{what} belongs to `{}`, not to `{wanted_cn}`", subject.common_name),
            rejoin,
        );
    }
    lifetime(name, &what, validity, cx.host.now(), rejoin)
}

/// The validity of a certificate in DER, in seconds since 1970.
pub fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Whether a certificate is valid now and will be for a while.
pub fn lifetime(
    name: &str,
    what: &str,
    validity: Option<(i64, i64)>,
    now: SystemTime,
    renew: &str,
) -> Check {
    let Some((from, until)) = validity else {
        return Check::fail(name, Kind::Failed, format!("{what} does not parse"), renew);
    };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |s| s.as_secs() as i64);
    let text = |seconds: i64| utc(seconds.max(0) as u64);
    if now < from {
        return Check::fail(
            name,
            Kind::Refused,
            format!("{what} is valid only from {}, and the clock says {}", text(from), text(now)),
            "set the clock: `timedatectl set-ntp true`, or `date -s`",
        );
    }
    if now >= until {
        let message = format!("{what} has expired: it was valid until {}", text(until));
        return Check::fail(name, Kind::Refused, message, renew);
    }
    let message = format!("{what} is valid until {}", text(until));
    if until - now < SOON.as_secs() as i64 {
        return Check::warn(name, message, renew);
    }
    Check::ok(name, message)
}

/// A key that others can read is no secret.
pub fn private(cx: &Context, path: &Utf8Path) -> Check {
    match cx.host.mode(path) {
        None => Check::fail(
            "Key",
            Kind::NotFound,
            format!("there is no key `{path}`"),
            "`keadm join --clean` with a new token makes a new one",
        ),
        Some(mode) if mode & 0o077 != 0 => Check::warn(
            "Key",
            format!("`{path}` can be read by others (mode {:04o})", mode & 0o7777),
            format!("`chmod 0600 {path}`"),
        ),
        Some(_) => Check::ok("Key", format!("`{path}` is private")),
    }
}

/// A service's state; its last words if it is not running.
pub fn service(cx: &Context, name: &str) -> Check {
    match cx.host.service_state(name) {
        ServiceState::Running => {
            Check::ok("Service", format!("`{name}` is running as a {}", cx.host.service_manager()))
        }
        ServiceState::Absent => {
            let role = if name == "edgecore" { "join" } else { "init" };
            Check::fail(
                "Service",
                Kind::NotFound,
                format!("`{name}` is not installed as a service"),
                format!("`keadm {role}` installs it"),
            )
        }
        ServiceState::Stopped => {
            let said = cx.host.service_log(name, 1).pop().unwrap_or_default();
            let because = if said.is_empty() { said } else { format!("; it said last: {said}") };
            let start = match cx.host.service_manager() {
                crate::host::ServiceManager::Systemd => format!("`systemctl start {name}`"),
                crate::host::ServiceManager::Background => {
                    format!("see `{}`", cx.paths.log().join(format!("{name}.log")))
                }
            };
            Check::fail("Service", Kind::Failed, format!("`{name}` is stopped{because}"), start)
        }
    }
}

/// An edge node as a whole.
pub async fn all(cx: &Context) -> Vec<Check> {
    of(cx, &cx.paths.edgecore_yaml()).await
}

/// The same with another configuration.
pub async fn of(cx: &Context, path: &Utf8Path) -> Vec<Check> {
    let (check, config) = config(cx, path);
    let mut checks = vec![check, service(cx, "edgecore")];
    let Some(config) = config else { return checks };
    let hub = &config.modules.edge_hub;
    let node = &config.modules.edged.hostname_override;
    // The configuration's text was UTF-8, and so are the paths in it.
    let utf8 = |path| Utf8Path::from_path(path).unwrap_or(Utf8Path::new(""));
    let (ca, cert) = (utf8(&hub.tls_ca_file), utf8(&hub.tls_cert_file));
    checks.push(certificate(cx, cert, &format!("system:node:{node}")));
    checks.push(private(cx, utf8(&hub.tls_private_key_file)));
    checks.extend(cloud(cx, ca, &hub.http_server, &hub.websocket.server).await);
    checks
}

/// Reads and checks `edgecore.yaml`.
fn config(cx: &Context, path: &Utf8Path) -> (Check, Option<EdgeCoreConfig>) {
    let name = "Configuration";
    match super::super::commands::config::read_edgecore(cx, path) {
        Ok((config, warnings)) => {
            let check = match warnings.first() {
                None => Check::ok(name, format!("`{path}` is valid")),
                Some(warning) => {
                    Check::warn(name, format!("`{path}`: {warning}"), "remove or correct them")
                }
            };
            (check, Some(config))
        }
        Err(e) => (Check::failed(name, &e), None),
    }
}

/// The way to the cloud: both ports answer, with a certificate of the CA that this node trusts.
async fn cloud(cx: &Context, ca: &Utf8Path, http_server: &str, websocket: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    match websocket.parse::<HostPort>() {
        Err(e) => checks.push(Check::fail("Cloud-Link", Kind::Usage, e, "correct edgecore.yaml")),
        Ok(to) => checks.push(match https::connect(&to).await {
            Ok(_) => Check::ok("Cloud-Link", format!("`{to}` answers")),
            Err(e) => Check::failed("Cloud-Link", &e),
        }),
    }
    let name = "Cloud-Certificate";
    let trimmed = http_server.trim_start_matches("https://").trim_end_matches('/');
    let to: HostPort = match trimmed.parse() {
        Ok(to) => to,
        Err(e) => {
            checks.push(Check::fail(name, Kind::Usage, e, "correct edgecore.yaml"));
            return checks;
        }
    };
    let trusted = tls::load_certificates(ca.as_std_path())
        .and_then(tls::roots)
        .and_then(|roots| tls::client_config(tls::ServerTrust::Roots(roots), None, &[b"http/1.1"]));
    match trusted {
        Err(e) => checks.push(Check::fail(
            name,
            Kind::Failed,
            service::error_chain(&e),
            "`keadm join --clean` fetches it anew",
        )),
        Ok(tls) => {
            let get = https::Get { path: "/ca.crt".to_owned(), ..https::Get::default() };
            match https::get(&to, tls, get).await {
                Ok(answer) => {
                    checks.push(Check::ok(name, format!("`{to}` has a certificate of our CA")));
                    checks.push(skew(cx.host.now(), answer.date));
                }
                Err(e) => checks.push(Check::failed(name, &e)),
            }
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Verdict;

    #[test]
    fn a_clock_two_minutes_off_is_a_failure_either_way() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        assert_eq!(skew(now, Some(now)).status, Verdict::Ok);
        assert_eq!(skew(now, None).status, Verdict::Skip);
        for theirs in [now + Duration::from_secs(300), now - Duration::from_secs(300)] {
            assert_eq!(skew(now, Some(theirs)).status, Verdict::Fail);
        }
        let check = skew(now, Some(now + Duration::from_secs(300)));
        assert!(check.message.contains("300 s behind"), "{}", check.message);
    }

    #[test]
    fn a_certificate_is_judged_by_the_clock() {
        let at = |s: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(s as u64);
        let year = 365 * 86_400;
        let judge = |now| lifetime("C", "`x`", Some((1000, year)), at(now), "renew").status;
        assert_eq!(judge(10), Verdict::Fail);
        assert_eq!(judge(2000), Verdict::Ok);
        assert_eq!(judge(year - 86_400), Verdict::Warn);
        assert_eq!(judge(year), Verdict::Fail);
    }
}
