//! `init` where it cannot go on. That it does go on is for the end-to-end tests to show.

use crate::host::Process;
use crate::host::fake::Fake;
use crate::testing::Machine;

fn kubeconfig(machine: &Machine, server: &str) -> String {
    let path = machine.path("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: \
         {{cluster: k, user: u}}\nclusters:\n- name: k\n  cluster: {{server: '{server}'}}\nusers:\n\
         - name: u\n  user: {{token: secret-of-the-user}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_api_server_that_is_away_is_named_and_nothing_is_changed() {
    let machine = Machine::new(Fake::default());
    let file = kubeconfig(&machine, "http://127.0.0.1:1");
    let text = machine.keadm(&format!("keadm init --kube-config {file}"));
    insta::assert_snapshot!(text);
    assert!(!text.contains("secret-of-the-user"));
    assert_eq!(machine.tree(), "kubeconfig 0644");
}

#[test]
fn a_kubeconfig_that_is_not_there_is_not_found() {
    let machine = Machine::new(Fake::default());
    insta::assert_snapshot!(machine.keadm("keadm init --kube-config /nowhere/kubeconfig"));
}

#[test]
fn a_port_in_use_is_told_with_its_owner() {
    let machine = Machine::new(Fake::new(|state| {
        state.ports.insert(10000, Process { pid: 42, name: "nginx".into() });
        state.ports.insert(6443, Process { pid: 43, name: "kube-apiserver".into() });
    }));
    insta::assert_snapshot!(machine.keadm("keadm init --embedded"));
}

#[test]
fn a_dry_run_shows_every_phase_and_changes_nothing() {
    let machine = Machine::new(Fake::default());
    let line = "keadm init --embedded --advertise-address 10.0.4.2 --dry-run --skip-phases crds";
    insta::assert_snapshot!(machine.keadm(line));
    insta::assert_snapshot!("init_phases", machine.keadm("keadm init phase"));
    assert_eq!(machine.tree(), "");
}

#[test]
fn a_token_cannot_be_had_from_an_api_server_that_is_away() {
    let machine = Machine::new(Fake::default());
    let file = kubeconfig(&machine, "http://127.0.0.1:1");
    let text = machine.keadm(&format!("keadm gettoken --kube-config {file}"));
    assert!(text.contains("exit code: 6"), "{text}");
    assert!(text.contains("error: cannot read the token at `http://127.0.0.1:1`"), "{text}");
}
