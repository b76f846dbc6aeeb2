//! What KubeEdge's checks ask of the network around an edge node, with what is asked chosen by flags.
//!
//! Owns: those flags. Called by: `check.rs`, `diagnose.rs`.
//! Never: needs a configuration for what the flags name.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::config::edgecore::EdgeCoreConfig;
use camino::Utf8PathBuf;
use tokio::time::timeout;

use crate::checks::{Check, dns, ping};
use crate::context::Context;
use crate::errors::Kind;
use crate::https::{self, HostPort};

/// A name server may take so long.
const LIMIT: Duration = Duration::from_secs(5);
/// As KubeEdge's.
const PING: Duration = Duration::from_secs(1);
/// The port of name servers.
const NAMES: u16 = 53;

/// What is asked, and whom.
#[derive(clap::Args, Debug, Default)]
pub(super) struct ProbeArgs {
    /// The name that is looked up [default: the cloud's]
    #[arg(short, long, value_name = "NAME")]
    domain: Option<String>,
    /// The name server that is asked for it [default: as this machine is set up]
    #[arg(short = 'D', long, value_name = "IP", value_parser = name_server)]
    dns_ip: Option<SocketAddr>,
    /// The address that is pinged [default: the first name server]
    #[arg(short, long, value_name = "IP")]
    ip: Option<IpAddr>,
    /// Where cloudcore listens for edges [default: as edgecore.yaml says]
    #[arg(short = 's', long, value_name = "HOST:PORT")]
    cloud_hub_server: Option<HostPort>,
}

/// Which edgecore.yaml.
#[derive(clap::Args, Debug)]
pub(super) struct ConfigArg {
    /// The configuration of edgecore [default: /etc/kubeedge/config/edgecore.yaml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<Utf8PathBuf>,
}

impl ConfigArg {
    pub(super) fn file(&self, cx: &Context) -> Utf8PathBuf {
        self.config.clone().unwrap_or_else(|| cx.paths.edgecore_yaml())
    }
}

/// `IP`, or `IP:PORT` where it is another port than that of name servers.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, NAMES));
    alone.or_else(|_| text.parse()).map_err(|_| format!("`{text}` is no address of a name server"))
}

impl ProbeArgs {
    /// Whether a name can be looked up.
    pub(super) async fn names(&self, config: Option<&EdgeCoreConfig>) -> Check {
        let cloud = self.cloud(config).filter(|to| to.host.parse::<IpAddr>().is_err());
        let Some(name) = self.domain.clone().or_else(|| cloud.map(|to| to.host)) else {
            let why = "the cloud is not known by a name; `--domain NAME` looks another one up";
            return Check::skip("DNS", why);
        };
        let (found, by) = match self.dns_ip {
            Some(server) => {
                let found = dns::address(server, &name, LIMIT).await;
                (found, format!("name server {} says", server.ip()))
            }
            None => {
                let asked = tokio::net::lookup_host((name.as_str(), 0));
                let found = match timeout(LIMIT, asked).await {
                    Ok(found) => found.map(|mut all| all.next().map(|at| at.ip())),
                    Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
                };
                (found, "the name servers of this machine say".to_owned())
            }
        };
        let hint = match self.dns_ip {
            Some(_) => "without `--dns-ip`, the name servers of this machine are asked",
            None => "`cat /etc/resolv.conf` shows which servers are asked",
        };
        let failed = |kind, why: String| Check::fail("DNS", kind, why, hint);
        match found {
            Ok(Some(ip)) => Check::ok("DNS", format!("`{name}` is {ip}")),
            Ok(None) => failed(Kind::NotFound, format!("`{name}` has no address, {by}")),
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut => {
                failed(Kind::TimedOut, format!("no name server says what `{name}` is"))
            }
            Err(e) => failed(Kind::NotFound, format!("`{name}` is not found: {e}")),
        }
    }

    /// Whether a flag says where cloudcore is.
    pub(super) fn names_the_cloud(&self) -> bool {
        self.cloud_hub_server.is_some()
    }

    fn cloud(&self, config: Option<&EdgeCoreConfig>) -> Option<HostPort> {
        let configured = || config?.modules.edge_hub.websocket.server.parse().ok();
        self.cloud_hub_server.clone().or_else(configured)
    }

    /// What can be told before anything is installed: a name only if one is given, as KubeEdge does it.
    pub(super) async fn around(&self, cx: &Context) -> Vec<Check> {
        let mut found = Vec::new();
        if self.domain.is_some() {
            found.push(self.names(None).await);
        }
        found.push(self.ping(cx).await);
        found.extend(self.link().await);
        found
    }

    /// Whether cloudcore's port answers, where the flags name it.
    pub(super) async fn link(&self) -> Option<Check> {
        let to = self.cloud_hub_server.as_ref()?;
        Some(match https::connect(to).await {
            Ok(_) => Check::ok("Cloud-Link", format!("`{to}` answers")),
            Err(e) => Check::failed("Cloud-Link", &e),
        })
    }

    /// Whether an address answers a ping. Many do not, on purpose: only what was named must.
    pub(super) async fn ping(&self, cx: &Context) -> Check {
        let Some(ip) = self.ip.or_else(|| first_server(cx)) else {
            return Check::skip("Ping", "no address is named, and no name server is set up");
        };
        let pinged = tokio::task::spawn_blocking(move || ping::ping(ip, PING)).await;
        let why = match pinged {
            Ok(Ok(took)) => {
                let ms = took.as_secs_f64() * 1000.0;
                return Check::ok("Ping", format!("{ip} answers within {ms:.1} ms"));
            }
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                return Check::skip("Ping", format!("this user may not ping {ip}"));
            }
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::TimedOut => {
                format!("{ip} does not answer a ping within {} s", PING.as_secs())
            }
            Ok(Err(e)) => format!("{ip} cannot be pinged: {e}"),
            Err(e) => format!("{ip} cannot be pinged: {e}"),
        };
        let hint = format!("`ip route get {ip}` shows the way; `--ip IP` pings another");
        match self.ip {
            Some(_) => Check::fail("Ping", Kind::Unreachable, why, hint),
            None => Check::warn("Ping", why, hint),
        }
    }
}

/// Whether edgecore's local API answers.
pub(super) async fn local_api() -> Check {
    let to = HostPort { host: "127.0.0.1".to_owned(), port: 10350 };
    match https::get_plain(&to, "/healthz").await {
        Ok(answer) if answer.status.is_success() => {
            Check::ok("Local-API", format!("edgecore answers at `{to}`"))
        }
        Ok(answer) => Check::warn(
            "Local-API",
            format!("what listens at `{to}` answers with {}", answer.status),
            "is it edgecore? `ss -ltnp 'sport = :10350'` as root names it",
        ),
        Err(e) => Check::warn("Local-API", e.message(), "`systemctl status edgecore` tells more"),
    }
}

fn first_server(cx: &Context) -> Option<IpAddr> {
    let text = String::from_utf8(cx.host.read("/etc/resolv.conf".into()).ok()?).ok()?;
    let mut servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.find_map(|server| server.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use crate::host::fake::Fake;
    use crate::testing::keadm;

    #[test]
    fn a_name_is_looked_up() {
        let said = keadm("keadm debug check dns --domain localhost", &Fake::default());
        assert!(said.contains("`localhost` is"), "{said}");
        // Longer than a label may be: no server is asked.
        let none = "x".repeat(70);
        let said = keadm(&format!("keadm debug check dns -d {none}"), &Fake::default());
        assert!(said.contains("exit code: 3") && said.contains(&none), "{said}");
    }

    #[test]
    fn a_name_server_that_is_named_and_silent_is_told() {
        // Bound and never read: nobody answers there.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = silent.local_addr().unwrap();
        let line = format!("keadm debug check dns -d cloud.example -D {at}");
        let said = keadm(&line, &Fake::default());
        assert!(said.contains("exit code: 3") && said.contains("no name server says"), "{said}");
        let said = keadm("keadm debug check dns -d x -D nonsense", &Fake::default());
        assert!(said.contains("exit code: 2"), "{said}");
    }

    #[test]
    fn the_cloud_that_is_named_is_dialled_without_a_configuration() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let said =
            keadm(&format!("keadm debug check network -s {at} -i 127.0.0.1"), &Fake::default());
        assert!(said.contains(&format!("`{at}` answers")), "{said}");
        assert!(!said.contains("edgecore.yaml"), "{said}");
        assert!(
            said.contains("127.0.0.1 answers within") || said.contains("may not ping"),
            "{said}"
        );
        drop(listener);
        let said = keadm(&format!("keadm debug check network -s {at}"), &Fake::default());
        assert!(said.contains("exit code: 3") && said.contains("cannot reach"), "{said}");
    }
}
