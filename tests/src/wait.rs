//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Asks `probe` until it gives a value, at most for `limit`; returns the value and how long it took.
///
/// # Panics
/// After the limit, with `what` and the last reason that `probe` gave.
#[track_caller]
pub fn until<T>(
    what: &str,
    limit: Duration,
    probe: impl FnMut() -> Result<T, String>,
) -> (T, Duration) {
    match at_most(limit, probe) {
        Ok(got) => got,
        Err(why) => panic!("{what}: not within {limit:?}; last seen: {why}"),
    }
}

/// [`until`] for where nothing may panic.
///
/// # Errors
/// After the limit, the last reason that `probe` gave.
pub fn at_most<T>(
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> Result<(T, Duration), String> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match probe() {
            Ok(value) => return Ok((value, start.elapsed())),
            Err(why) if start.elapsed() >= limit => return Err(why),
            Err(_) => std::thread::park_timeout(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// [`until`] for a condition without a value.
///
/// # Panics
/// After the limit.
#[track_caller]
pub fn until_true(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) -> Duration {
    until(what, limit, || if probe() { Ok(()) } else { Err("not yet".to_owned()) }).1
}

/// [`until`] for a probe that has to wait itself.
///
/// # Panics
/// After the limit, with `what` and the last reason that `probe` gave.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> (T, Duration) {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let why = match probe().await {
            Ok(value) => return (value, start.elapsed()),
            Err(why) => why,
        };
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}; last seen: {why}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
