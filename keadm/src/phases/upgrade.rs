//! The phases of `upgrade edge`.
//!
//! Each finds what it needs on the disk, so that each runs alone.

use std::time::Duration;

use hyper::Method;

use super::{Outcome, Phase, Step};
use crate::commands::upgrade::Upgrade;
use crate::errors::{CommandError, Kind, file_error};
use crate::host::ServiceState;
use crate::made::{Installer, Role};
use crate::node_api::{InstalledApiArgs, NodeApiArgs};
use crate::node_upgrade::{self, SERVICE};

/// An image may come over a bad line.
const FETCH_LIMIT: Duration = Duration::from_secs(1800);

/// Looks before anything is changed.
pub const PREFLIGHT: Phase<Upgrade> = Phase {
    name: "preflight",
    about: "check that this is an edge node, and that there is room",
    would: |up| vec![format!("check root, the service, and room below `{}`", up.cx.paths.etc())],
    run: |up, _| Box::pin(preflight(up)),
};

/// Gets the new program.
pub const PROGRAM: Phase<Upgrade> = Phase {
    name: "program",
    about: "get the new program, and let it say its version",
    would: |up| {
        vec![match (&up.from, &up.image) {
            (Some(file), _) => format!("copy `{file}` to `{}`", up.new),
            (None, Some(image)) => {
                format!("let edgecore take keadm out of `{image}:{}` to `{}`", up.to, up.new)
            }
            (None, None) => format!("use `{}`", up.new),
        }]
    },
    run: |up, step| Box::pin(program(up, step)),
};

/// Keeps the old program.
pub const KEEP: Phase<Upgrade> = Phase {
    name: "keep",
    about: "keep the program that is installed",
    would: |up| vec![format!("copy `{}` to `{}`", up.program(), up.previous)],
    run: |up, _| Box::pin(std::future::ready(keep(up))),
};

/// Puts the new program in its place.
pub const REPLACE: Phase<Upgrade> = Phase {
    name: "replace",
    about: "put the new program in the place of the old one, whole or not at all",
    would: |up| vec![format!("put `{}` in the place of `{}`", up.new, up.program())],
    run: |up, _| Box::pin(std::future::ready(replace(up))),
};

/// Starts the service anew.
pub const RESTART: Phase<Upgrade> = Phase {
    name: "restart",
    about: "restart edgecore; containers go on",
    would: |up| vec![format!("restart `{SERVICE}`, a {}", up.cx.host.service_manager())],
    run: |up, _| Box::pin(restart(up)),
};

/// Waits for the node.
pub const WAIT: Phase<Upgrade> = Phase {
    name: "wait",
    about: "wait until edgecore is ready; if it is not in time, put the old program back",
    would: |up| vec![format!("wait at most {} s", up.timeout.as_secs())],
    run: |up, step| Box::pin(wait(up, step)),
};

async fn preflight(up: &mut Upgrade) -> Outcome {
    let cx = &up.cx;
    if !cx.host.is_root() {
        return Err(CommandError::new(Kind::Refused, "an upgrade needs root").hint("use `sudo`"));
    }
    if cx.host.service_state(SERVICE) == ServiceState::Absent {
        return Err(CommandError::new(Kind::NotFound, "edgecore is no service on this machine")
            .hint("`keadm join` installs it"));
    }
    let etc = cx.paths.etc();
    let space = cx.host.space(&etc).map_err(|e| file_error("look at", &etc, &e))?;
    let size = cx.host.size(&up.installed.program).unwrap_or(0);
    if space.free < 3 * size {
        let what = format!("{} MiB are free below `{etc}`", space.free >> 20);
        return Err(CommandError::new(Kind::Failed, what)
            .because(format!("{} MiB are needed", (3 * size) >> 20)));
    }
    up.was_ready = node_upgrade::is_ready().await;
    Ok(format!("{} is installed", up.version))
}

async fn program(up: &mut Upgrade, step: Step) -> Outcome {
    let (cx, new) = (&up.cx, &up.new);
    let installer = Installer::open(cx, Role::Edge)?;
    if let Some(folder) = new.parent() {
        installer.folder(folder, 0o700)?;
    }
    if let Some(file) = &up.from {
        cx.host.copy(file, new).map_err(|e| file_error("copy", file, &e))?;
    } else if let Some(image) = &up.image {
        step.waiting(format!("edgecore gets `{image}:{}`", up.to));
        // Both were looked at: nothing in them has a meaning in a query.
        let digest = up.digest.as_ref().map(|d| format!("&digest={d}")).unwrap_or_default();
        let path = format!("/api/v1/taskupgrade/fetch?version={}&image={image}{digest}", up.to);
        let request_timeout = up.api.request_timeout.max(FETCH_LIMIT);
        let api: NodeApiArgs = InstalledApiArgs { request_timeout, ..up.api.clone() }.into();
        api.json(Method::POST, &path, cx).await?;
    } else if !cx.host.exists(new) {
        return Err(CommandError::new(Kind::NotFound, format!("there is no program at `{new}`"))
            .hint("name an image with `--image`, or a file with `--from`"));
    }
    let said = cx.host.version_of(new).map_err(|e| {
        CommandError::new(Kind::Failed, format!("the new program `{new}` is of no use here"))
            .caused_by(&e)
            .hint("is it for this machine's architecture, and a keadm that is an edgecore?")
    })?;
    Ok(said)
}

fn keep(up: &mut Upgrade) -> Outcome {
    let (cx, program) = (&up.cx, &up.installed.program);
    // Gone on with after a power cut: what was there before is kept already.
    if cx.host.same(program, &up.new) && cx.host.exists(&up.previous) {
        return Ok(format!("`{}` is there", up.previous));
    }
    cx.host.copy(program, &up.previous).map_err(|e| file_error("write", &up.previous, &e))?;
    Ok(format!("`{}`", up.previous))
}

fn replace(up: &mut Upgrade) -> Outcome {
    let (cx, program) = (&up.cx, &up.installed.program);
    if !cx.host.exists(&up.previous) {
        return Err(CommandError::new(Kind::NotFound, "the old program is not kept")
            .hint("`keadm upgrade edge phase keep --to-version ..` keeps it"));
    }
    if cx.host.same(program, &up.new) {
        up.replaced = true;
        return Ok("it is there".to_owned());
    }
    cx.host.copy(&up.new, program).map_err(|e| file_error("write", program, &e))?;
    up.replaced = true;
    Ok(format!("`{program}`"))
}

async fn restart(up: &mut Upgrade) -> Outcome {
    node_upgrade::restart(&up.cx).await
}

async fn wait(up: &mut Upgrade, step: Step) -> Outcome {
    node_upgrade::up(&up.cx, &step, up.was_ready, up.timeout).await
}

/// Puts the old program back and starts it.
pub(crate) async fn put_back(up: &Upgrade, step: Step) -> Outcome {
    let (cx, program) = (&up.cx, &up.installed.program);
    cx.host.copy(&up.previous, program).map_err(|e| file_error("write", program, &e))?;
    node_upgrade::restart(cx).await?;
    node_upgrade::up(cx, &step, up.was_ready, up.timeout).await
}
