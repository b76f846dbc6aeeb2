//! `keadm admission`: the webhook on its own.

use std::net::{IpAddr, SocketAddr};

use camino::Utf8PathBuf;
use cloudcore::admission::{Admission, Certificate, Reach, Settings};
use cloudcore::metrics::Metrics;

use crate::cloud::KubeConfigArg;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::pki::api_server;

/// Run the admission webhook in the foreground
///
/// It refuses devices, models, rules and node jobs that make no sense, keeps pods labelled
/// `app-offline.kubeedge.io=autonomy` on nodes that cannot be reached, and registers itself at the
/// API server.
#[derive(clap::Args, Debug)]
pub struct AdmissionArgs {
    #[command(flatten)]
    kube: KubeConfigArg,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    address: IpAddr,
    /// The port to listen on
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    port: u16,
    /// The name or address by which the API server reaches this machine, instead of a Service
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// The namespace of the Service that leads here
    #[arg(long, value_name = "NAME", default_value = "kubeedge")]
    webhook_namespace: String,
    /// The name of the Service that leads here
    #[arg(long, value_name = "NAME", default_value = "kubeedge-admission-service")]
    webhook_service_name: String,
    /// The certificate, as PEM [default: made at start]
    #[arg(long, value_name = "FILE", requires_all = ["tls_private_key_file", "ca_cert_file"])]
    tls_cert_file: Option<Utf8PathBuf>,
    /// Its key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<Utf8PathBuf>,
    /// The CA that has signed the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    ca_cert_file: Option<Utf8PathBuf>,
}

/// Runs the webhook until it is told to stop.
///
/// # Errors
/// When the port or the certificate cannot be had, or a part that the others need fails.
pub fn admission(args: &AdmissionArgs, cx: &Context) -> Result<(), CommandError> {
    super::log_to_stderr(cx, "info")?;
    super::run_service("admission", cx, |mut svc| async move {
        let cloud = args.kube.client(cx).await?;
        let built = Admission::build(settings(args)).await;
        let admission = built.map_err(|e| super::service_error("admission", &e))?;
        admission.spawn(&mut svc, api_server(&cloud), Metrics::default());
        svc.until_stopped().await.map_err(|e| super::service_error("admission", &e))
    })
}

fn settings(args: &AdmissionArgs) -> Settings {
    let reach = match &args.advertise {
        Some(host) => Reach::Host(host.clone()),
        None => Reach::Service(args.webhook_namespace.clone(), args.webhook_service_name.clone()),
    };
    let files = (&args.tls_cert_file, &args.tls_private_key_file, &args.ca_cert_file);
    let certificate = match files {
        (Some(certificate), Some(key), Some(ca)) => {
            Certificate::Files { certificate: certificate.into(), key: key.into(), ca: ca.into() }
        }
        _ => Certificate::Own,
    };
    Settings { listen: SocketAddr::new(args.address, args.port), reach, certificate }
}

/// Reads `HOST:PORT`, where the webhook inside cloudcore listens and is reached.
///
/// # Errors
/// When it is none.
pub(super) fn inside(text: &str) -> Result<Settings, CommandError> {
    let wrong = || {
        CommandError::new(Kind::Usage, format!("`{text}` is no HOST:PORT"))
            .hint("for example `--admission 10.0.0.1:9443`")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 {
        return Err(wrong());
    }
    // On one's own address nobody else needs to be let in.
    let listen = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => IpAddr::from([0, 0, 0, 0]),
    };
    Ok(Settings {
        listen: SocketAddr::new(listen, port),
        reach: Reach::Host(host.to_owned()),
        certificate: Certificate::Own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_inside_cloudcore_listens_where_it_is_reached() {
        let settings = inside("10.0.0.1:9443").unwrap();
        assert_eq!(settings.listen.to_string(), "10.0.0.1:9443");
        assert_eq!(inside("[::1]:9443").unwrap().reach, Reach::Host("::1".to_owned()));
        assert_eq!(inside("cloud.example:9443").unwrap().listen.to_string(), "0.0.0.0:9443");
        for bad in ["", "10.0.0.1", ":9443", "a:0", "a:x"] {
            assert_eq!(inside(bad).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }
}
