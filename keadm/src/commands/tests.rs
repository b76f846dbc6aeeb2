//! The help of every command, and the commands that need nothing.

use crate::host::fake::Fake;
use crate::testing::keadm;

#[test]
fn help_of_every_command() {
    let mut command = crate::command().term_width(80);
    command.build();
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .map(|c| c.get_name().to_owned())
        .collect();
    insta::assert_snapshot!("help", command.render_long_help());
    for name in names {
        let sub = command.find_subcommand_mut(&name).unwrap();
        insta::assert_snapshot!(format!("help_{name}"), sub.render_long_help());
    }
}

#[test]
fn version_in_all_forms() {
    let fake = Fake::default();
    let all = ["", " -o yaml", " -o json", " -o short"]
        .map(|form| keadm(&format!("keadm version{form}"), &fake));
    insta::assert_snapshot!(all.join("\n").replace(env!("CARGO_PKG_VERSION"), "X.Y.Z"));
}

#[test]
fn the_exit_codes_are_documented() {
    insta::assert_snapshot!(keadm("keadm help exit-codes", &Fake::default()));
}

#[test]
fn help_of_what_is_not_there_is_a_usage_error() {
    insta::assert_snapshot!(keadm("keadm help frobnicate", &Fake::default()));
}

#[test]
fn a_configuration_that_is_not_yaml_is_told_with_the_line() {
    let fake = Fake::new(|state| {
        let broken = b"modules:\n  edgeHub: [1\n".to_vec();
        state.files.insert("/etc/kubeedge/config/edgecore.yaml".into(), (0o600, broken));
    });
    insta::assert_snapshot!(keadm("keadm config check edgecore", &fake));
    insta::assert_snapshot!("no_such_file", keadm("keadm edgecore --config /x.yaml", &fake));
}

#[test]
fn a_non_root_up_is_told_what_is_missing_in_one_sentence() {
    let fake = Fake::new(|state| state.not_root = true);
    insta::assert_snapshot!(keadm("keadm up --data-dir /nowhere", &fake));
}
