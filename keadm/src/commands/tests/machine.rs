//! What `keadm debug` prints on a machine that is made of values.

use crate::host::fake::Fake;
use crate::testing::{Machine, keadm, without_numbers};

#[test]
fn a_machine_is_looked_into() {
    let fake = Fake::new(|state| {
        let file = |text: &str| (0o444, text.as_bytes().to_vec());
        state.files.insert("/proc/sys/kernel/pid_max".into(), file("1000\n"));
        state.files.insert("/proc/loadavg".into(), file("0 0 0 2/500 7\n"));
    });
    let lines = [
        "keadm debug check pid",
        "keadm debug check pid -o json",
        "keadm debug check mem",
        "keadm debug check disk",
        "keadm debug check cpu",
        "keadm debug diagnose install",
        "keadm debug diagnose install -o json",
    ];
    let all: Vec<String> = lines.iter().map(|line| keadm(line, &fake)).collect();
    insta::assert_snapshot!("debug", all.join("\n"));
}

#[test]
fn what_a_bug_report_needs_is_collected_and_listed() {
    let machine = Machine::new(Fake::default());
    for (path, text) in [
        ("etc/kubeedge/config/edgecore.yaml", "modules: {}\n"),
        ("var/log/kubeedge/edgecore.log", "INFO it runs\n"),
        ("out/mark", ""),
    ] {
        let path = machine.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let collect = format!("keadm debug collect --output-path {}/out", machine.root());
    let all: Vec<String> = ["", " -o json", " --dry-run", " --dry-run -o json"]
        .iter()
        .map(|options| machine.keadm(&format!("{collect}{options}")))
        .collect();
    // How many digits a size has moves it to the side.
    let all = without_numbers(&all.join("\n"));
    let lines: Vec<&str> = all.lines().map(str::trim_start).collect();
    insta::assert_snapshot!("debug_collect", lines.join("\n"));
}
