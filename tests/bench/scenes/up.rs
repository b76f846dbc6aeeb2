//! `keadm up`: the first thing that anybody sees.

use nix::sys::signal::Signal;
use tests::host::Host;
use tests::keadm::{Running, command};

use super::{Group, MAIN, NOTHING_INSIDE};
use crate::page::{Figure, Unit};
use crate::site::PATIENCE;

pub(super) const GROUP: Group = Group { name: "up", title: MAIN, figures, inside: NOTHING_INSIDE };

fn figures() -> Vec<Figure> {
    vec![Figure {
        what: "`keadm up` to the sample pod Running",
        original: "",
        unit: Unit::Seconds,
        at_most: 5.0,
        values: (0..5).map(|_| up()).collect(),
        method: "from starting the process on an empty folder to its line about the pod; embedded runtime",
    }]
}

fn up() -> f64 {
    let (host, folder) = (Host::new(), tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let args = ["up", "--node-name", "edge-1", "--data-dir", data.to_str().unwrap()];
    let mut keadm = Running::start(command(&host, args), &folder.path().join("up.log"));
    let time = keadm.until_said("is Running", PATIENCE);
    keadm.signal(Signal::SIGINT);
    assert_eq!(keadm.until_ended(PATIENCE).code(), Some(0));
    time.as_secs_f64()
}
