//! Names and addresses inside a pod: host name, `/etc/hosts`, `/etc/resolv.conf`. Pure.
//!
//! Owns: what `dnsPolicy`, `dnsConfig`, `hostAliases`, `hostname` and `subdomain` mean.
//! Called by: `make.rs`. Never: asks a name server.

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use super::podspec;
use super::runtime::{DnsConfig, PortMapping, Protocol};

/// A `resolv.conf` file.
pub(crate) fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search") => dns.searches = words.map(str::to_owned).collect(),
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

/// What the node knows about names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// `clusterDNS`; often empty at the edge.
    pub(crate) cluster_dns: Vec<String>,
    /// `clusterDomain`
    pub(crate) cluster_domain: String,
    /// The host's own.
    pub(crate) host: DnsConfig,
}

/// The pod's name servers.
pub(crate) fn dns(pod: &Pod, names: &Names) -> DnsConfig {
    let spec = podspec::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !podspec::host_network(pod),
        _ => false,
    };
    let mut dns = if policy == "None" {
        DnsConfig::default()
    } else if cluster_first && !names.cluster_dns.is_empty() {
        let domain = &names.cluster_domain;
        let mut searches = Vec::new();
        if !domain.is_empty() {
            searches.push(format!("{}.svc.{domain}", podspec::namespace(pod)));
            searches.push(format!("svc.{domain}"));
            searches.push(domain.clone());
        }
        searches.extend(names.host.searches.iter().cloned());
        DnsConfig {
            servers: names.cluster_dns.clone(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        names.host.clone()
    };
    if let Some(more) = &spec.dns_config {
        add(&mut dns, more);
    }
    dns
}

fn add(dns: &mut DnsConfig, more: &PodDNSConfig) {
    let add_new = |to: &mut Vec<String>, from: &Option<Vec<String>>| {
        for item in from.iter().flatten() {
            if !to.contains(item) {
                to.push(item.clone());
            }
        }
    };
    add_new(&mut dns.servers, &more.nameservers);
    add_new(&mut dns.searches, &more.searches);
    for option in more.options.iter().flatten() {
        let Some(name) = &option.name else { continue };
        dns.options.retain(|o| o.split(':').next() != Some(name));
        dns.options.push(match &option.value {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.clone(),
        });
    }
}

/// The pod's host name and its domain.
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = podspec::spec(pod);
    let mut name = match spec.hostname.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => podspec::name(pod).to_owned(),
    };
    // The kernel takes 63 characters.
    name.truncate(63);
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let domain = spec
        .subdomain
        .as_deref()
        .filter(|s| !s.is_empty())
        .map(|sub| format!("{sub}.{}.svc.{cluster_domain}", podspec::namespace(pod)));
    match &domain {
        Some(domain) if spec.set_hostname_as_fqdn == Some(true) => {
            (format!("{name}.{domain}"), Some(domain.clone()))
        }
        _ => (name, domain),
    }
}

/// The pod's `/etc/hosts`. `host` is the host's own, for pods on its network.
pub(crate) fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, host: &str) -> String {
    let mut text = String::new();
    if podspec::host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(host);
        if !host.is_empty() && !host.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n",
        );
        let (name, domain) = hostname(pod, cluster_domain);
        for ip in ips {
            match &domain {
                Some(domain) if !name.ends_with(domain.as_str()) => {
                    text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n"));
                }
                _ => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
    }
    let aliases = podspec::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default();
            text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
        }
    }
    text
}

/// The ports of the host that lead into the pod.
pub(crate) fn host_ports(pod: &Pod) -> Vec<PortMapping> {
    if podspec::host_network(pod) {
        return Vec::new();
    }
    let port = |p: i32| u16::try_from(p).ok().filter(|p| *p > 0);
    podspec::lasting(pod)
        .flat_map(|(c, _)| c.ports.iter().flatten())
        .filter_map(|p| {
            Some(PortMapping {
                protocol: match p.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                container_port: port(p.container_port)?,
                host_port: p.host_port.and_then(port)?,
                host_ip: p.host_ip.clone().unwrap_or_default(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "c", "ports": [
            {"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]}]);
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}),
        )
        .unwrap()
    }

    fn names(cluster: &[&str]) -> Names {
        Names {
            cluster_dns: cluster.iter().map(|s| (*s).to_owned()).collect(),
            cluster_domain: "cluster.local".to_owned(),
            host: parse_resolv_conf("# x\nnameserver 192.0.2.1\nsearch lan\noptions edns0\n"),
        }
    }

    #[test]
    fn the_dns_policy_chooses_the_name_servers() {
        let servers = |spec, cluster: &[&str]| dns(&pod(spec), &names(cluster)).servers;
        assert_eq!(servers(json!({}), &[]), ["192.0.2.1"]);
        assert_eq!(servers(json!({}), &["10.96.0.10"]), ["10.96.0.10"]);
        assert_eq!(servers(json!({"hostNetwork": true}), &["10.96.0.10"]), ["192.0.2.1"]);
        let with = json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        assert_eq!(servers(with, &["10.96.0.10"]), ["10.96.0.10"]);
        let none = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}});
        assert_eq!(servers(none, &["10.96.0.10"]), ["1.1.1.1"]);
    }

    #[test]
    fn cluster_names_are_searched_first_and_options_are_replaced() {
        let config = json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}});
        let dns = dns(&pod(config), &names(&["10.96.0.10"]));
        assert_eq!(
            dns.searches,
            ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"]
        );
        assert_eq!(dns.options, ["ndots:2", "rotate"]);
    }

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let pod = pod(json!({"subdomain": "db",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["foo.local", "bar.local"]}]}));
        let text = hosts_file(&pod, &["10.88.0.2".to_owned()], "cluster.local", "");
        assert!(text.contains("10.88.0.2\tweb.db.shop.svc.cluster.local\tweb\n"), "{text}");
        assert!(text.contains("10.1.2.3\tfoo.local\tbar.local\n"), "{text}");
        let on_host = super::tests::pod(json!({"hostNetwork": true}));
        let text = hosts_file(&on_host, &[], "cluster.local", "127.0.0.1 edge-1");
        assert!(text.ends_with("127.0.0.1 edge-1\n"), "{text}");
    }

    #[test]
    fn only_host_ports_are_mapped() {
        let ports = host_ports(&pod(json!({})));
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0].container_port, ports[0].host_port), (80, 8080));
        assert!(host_ports(&pod(json!({"hostNetwork": true}))).is_empty());
    }

    #[test]
    fn a_host_name_is_cut_to_what_the_kernel_takes() {
        let mut pod = pod(json!({}));
        pod.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b"));
        assert_eq!(hostname(&pod, "cluster.local").0, "a".repeat(62));
    }
}
