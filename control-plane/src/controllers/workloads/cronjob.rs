//! CronJobs: a job at each time of a schedule.
//!
//! Owns: which time is due, whether its job may start, the history of jobs. Called by: the loop in
//! `mod.rs` of the workloads. See kubernetes.io/docs/concepts/workloads/controllers/cron-jobs.

use serde_json::{Value, json};

use super::world::World;
use super::{Action, Context, Kind, Note, Plan, Target, job, number, owner_reference};
use crate::http::delete::Propagation;
use crate::registry::meta;
use crate::registry::schedule::Schedule;

/// When a job was due by its schedule.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times beyond which something is said.
const MANY: usize = 100;

pub(crate) fn reconcile(world: &World, key: &str, cx: &Context) -> Plan {
    let mut plan = Plan::default();
    let Some(cron) = world.get(Kind::CronJob, key) else { return plan };
    if meta::is_terminating(cron) {
        return plan;
    }
    let jobs = world.owned(Kind::Job, meta::uid(cron));
    let mut status = cron["status"].clone();
    note_finished(cron, &jobs, &mut status, &mut plan);
    forget_old(cron, &jobs, &mut plan);
    start(cron, &jobs, &mut status, cx, &mut plan);
    plan.status(Kind::CronJob, cron, status);
    plan
}

fn active(status: &Value) -> impl Iterator<Item = &Value> {
    status["active"].as_array().into_iter().flatten()
}

/// Takes jobs that have finished, or are gone, from the list of active ones.
fn note_finished(cron: &Value, jobs: &[&Value], status: &mut Value, plan: &mut Plan) {
    let mut list: Vec<Value> = active(&cron["status"]).cloned().collect();
    for job in jobs {
        let listed = list.iter().any(|a| a["uid"] == job["metadata"]["uid"]);
        let ended = meta::text(job, "/status/completionTime");
        let is_newest = ended > meta::text(status, "/lastSuccessfulTime");
        // A job that ended before anybody saw it run counts, too.
        if job::finished(job) == Some("Complete") && is_newest {
            status["lastSuccessfulTime"] = ended.into();
        }
        match job::finished(job) {
            Some(how) if listed => {
                list.retain(|a| a["uid"] != job["metadata"]["uid"]);
                let message = format!("Saw completed job: {}, condition: {how}", meta::name(job));
                plan.event(Note::normal("SawCompletedJob", message));
            }
            // Made by us, and not noted yet.
            None if !listed && is_scheduled(job) => list.push(reference(job)),
            // What somebody makes by hand stands in nobody's way.
            None if !listed => plan.event(Note::warning(
                "UnexpectedJob",
                format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    meta::name(job)
                ),
            )),
            _ => {}
        }
    }
    list.retain(|a| jobs.iter().any(|j| j["metadata"]["uid"] == a["uid"]));
    if list.is_empty() {
        status.as_object_mut().and_then(|m| m.remove("active"));
    } else {
        status["active"] = list.into();
    }
}

/// Whether a job was made for a time of the schedule.
fn is_scheduled(job: &Value) -> bool {
    job["metadata"]["annotations"].get(SCHEDULED).is_some()
}

fn reference(job: &Value) -> Value {
    let m = &job["metadata"];
    json!({"kind": "Job", "apiVersion": "batch/v1", "name": m["name"], "namespace": m["namespace"],
        "uid": m["uid"], "resourceVersion": m["resourceVersion"]})
}

/// Deletes finished jobs beyond the history that is to be kept.
fn forget_old(cron: &Value, jobs: &[&Value], plan: &mut Plan) {
    for (how, field, default) in
        [("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)]
    {
        let keep = number(cron, &format!("/spec/{field}"), default);
        let mut of: Vec<&&Value> = jobs.iter().filter(|j| job::finished(j) == Some(how)).collect();
        of.sort_by_key(|j| {
            (meta::text(j, "/status/startTime").to_owned(), meta::name(j).to_owned())
        });
        let surplus = of.len().saturating_sub(usize::try_from(keep).unwrap_or(0));
        for job in of.into_iter().take(surplus).filter(|j| !meta::is_terminating(j)) {
            let note = Note::normal("SuccessfulDelete", format!("Deleted job {}", meta::name(job)));
            let target = Target::of(Kind::Job, job);
            plan.push(Action::Delete(target, Some(Propagation::Background), Some(note)));
        }
    }
}

/// The newest time that is due after `since`, and how many there were, up to a hundred and one.
fn due(
    schedule: &Schedule,
    since: jiff::Timestamp,
    now: jiff::Timestamp,
) -> Option<(jiff::Timestamp, usize)> {
    let last = schedule.last(since, now)?;
    let (mut missed, mut at) = (0, since);
    while missed <= MANY
        && let Some(next) = schedule.next(at).filter(|t| *t <= last)
    {
        missed += 1;
        at = next;
    }
    Some((last, missed))
}

fn start(cron: &Value, jobs: &[&Value], status: &mut Value, cx: &Context, plan: &mut Plan) {
    let spec = &cron["spec"];
    if spec["suspend"] == true {
        return;
    }
    let text = spec["schedule"].as_str().unwrap_or_default();
    let schedule = match Schedule::read(text, spec["timeZone"].as_str()) {
        Ok(s) => s,
        Err(e) => {
            plan.event(Note::warning(
                "UnparseableSchedule",
                format!("unparseable schedule {text:?}: {e}"),
            ));
            return;
        }
    };
    let read = |t: &str| t.parse::<jiff::Timestamp>().ok();
    let created = read(meta::text(cron, "/metadata/creationTimestamp")).unwrap_or(cx.now);
    let mut since = read(meta::text(&cron["status"], "/lastScheduleTime")).unwrap_or(created);
    let deadline = spec["startingDeadlineSeconds"].as_i64();
    if let Some(d) = deadline {
        since = since.max(meta::later(cx.now, d.saturating_neg()));
    }
    if let Some(next) = schedule.next(cx.now) {
        plan.look_at(next);
    }
    let Some((at, missed)) = due(&schedule, since, cx.now) else { return };
    if missed > MANY {
        plan.event(Note::warning("TooManyMissedTimes", format!(
            "too many missed start times: more than {MANY}. Set or decrease .spec.startingDeadlineSeconds or check clock skew")));
    }
    let name = format!("{}-{}", meta::name(cron), at.as_second() / 60);
    if jobs.iter().any(|j| meta::name(j) == name) {
        // It was made already; only the note of it is missing.
        status["lastScheduleTime"] = meta::timestamp(at).into();
        return;
    }
    let noted = |j: &Value| active(status).any(|a| a["uid"] == j["metadata"]["uid"]);
    let running: Vec<&&Value> =
        jobs.iter().filter(|j| job::finished(j).is_none() && noted(j)).collect();
    match spec["concurrencyPolicy"].as_str() {
        Some("Forbid") if !running.is_empty() => {
            plan.event(Note::normal("JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid"));
            return;
        }
        Some("Replace") => {
            for job in running.into_iter().filter(|j| !meta::is_terminating(j)) {
                let note =
                    Note::normal("SuccessfulDelete", format!("Deleted job {}", meta::name(job)));
                let target = Target::of(Kind::Job, job);
                plan.push(Action::Delete(target, Some(Propagation::Background), Some(note)));
            }
        }
        _ => {}
    }
    let note = Note::normal("SuccessfulCreate", format!("Created job {name}"));
    plan.push(Action::Create(Kind::Job, made(cron, &name, at), Some(note)));
    status["lastScheduleTime"] = meta::timestamp(at).into();
}

/// The job for a time.
fn made(cron: &Value, name: &str, at: jiff::Timestamp) -> Value {
    let template = &cron["spec"]["jobTemplate"];
    let of = |f: &str| template["metadata"][f].as_object().cloned().unwrap_or_default();
    let mut annotations = of("annotations");
    let zone = cron["spec"]["timeZone"].as_str().and_then(|z| jiff::tz::TimeZone::get(z).ok());
    let local = at.to_zoned(zone.unwrap_or(jiff::tz::TimeZone::UTC));
    let shown = local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    annotations.insert(SCHEDULED.into(), shown.into());
    json!({"metadata": {"name": name, "namespace": meta::namespace(cron), "labels": of("labels"),
        "annotations": annotations, "ownerReferences": [owner_reference(Kind::CronJob, cron)]},
        "spec": template["spec"]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn cron(spec: Value) -> Value {
        let mut c = json!({"metadata": {"name": "j", "namespace": "d", "uid": "c", "resourceVersion": "5",
                "creationTimestamp": "2026-01-01T00:00:30Z"},
            "spec": {"schedule": "*/5 * * * *", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 1, "jobTemplate": {"metadata": {}, "spec": {"template": {}}}}, "status": {}});
        json_patch::merge(&mut c["spec"], &spec);
        c
    }

    fn job(cron: &Value, name: &str, done: Option<&str>) -> Value {
        let mut j = json!({"metadata": {"name": name, "namespace": "d", "uid": name,
            "annotations": {SCHEDULED: "2026-01-01T00:00:00Z"}, "ownerReferences": [owner_reference(Kind::CronJob, cron)]}, "status": {"startTime": name}});
        if let Some(how) = done {
            j["status"]["conditions"] = json!([{"type": how, "status": "True"}]);
            j["status"]["completionTime"] = "2026-01-01T00:03:00Z".into();
        }
        j
    }

    fn plan(cron: &Value, jobs: &[Value], now: &str) -> Plan {
        let (mut world, mut touched) = (World::default(), BTreeSet::new());
        world.put(Kind::CronJob, cron.clone(), &mut touched);
        jobs.iter().for_each(|j| world.put(Kind::Job, j.clone(), &mut touched));
        reconcile(&world, "d/j", &Context { now: now.parse().unwrap(), failed: None })
    }

    fn made_names(plan: &Plan) -> Vec<&str> {
        let mut out = Vec::new();
        for a in &plan.actions {
            if let Action::Create(_, j, _) = a {
                out.push(meta::name(j));
            }
        }
        out
    }

    #[test]
    fn a_job_starts_at_its_time_and_the_next_one_is_waited_for() {
        let c = cron(json!({}));
        let before = plan(&c, &[], "2026-01-01T00:04:59Z");
        assert_eq!(made_names(&before), Vec::<&str>::new());
        assert_eq!(before.again, Some("2026-01-01T00:05:00Z".parse().unwrap()));
        let p = plan(&c, &[], "2026-01-01T00:05:00Z");
        assert_eq!(made_names(&p), ["j-29453765"]);
        let Some(Action::Status(_, _, status)) = p.actions.last() else { panic!("a status") };
        assert_eq!(status["lastScheduleTime"], "2026-01-01T00:05:00Z");
    }

    #[test]
    fn of_several_missed_times_only_the_last_is_made_up_for_and_not_after_its_deadline() {
        let p = plan(&cron(json!({})), &[], "2026-01-01T00:18:00Z");
        assert_eq!(made_names(&p), ["j-29453775"]);
        let late = cron(json!({"startingDeadlineSeconds": 60}));
        assert_eq!(made_names(&plan(&late, &[], "2026-01-01T00:18:00Z")), Vec::<&str>::new());
        assert_eq!(made_names(&plan(&late, &[], "2026-01-01T00:15:30Z")), ["j-29453775"]);
    }

    #[test]
    fn the_concurrency_policy_decides_about_a_job_that_still_runs() {
        let now = "2026-01-01T00:05:00Z";
        let forbid = cron(json!({"concurrencyPolicy": "Forbid"}));
        assert_eq!(
            made_names(&plan(&forbid, &[job(&forbid, "old", None)], now)),
            Vec::<&str>::new()
        );
        let replace = cron(json!({"concurrencyPolicy": "Replace"}));
        let p = plan(&replace, &[job(&replace, "old", None)], now);
        assert!(matches!(&p.actions[0], Action::Delete(t, ..) if t.name == "old"));
        assert_eq!(made_names(&p).len(), 1);
        assert_eq!(made_names(&plan(&cron(json!({"suspend": true})), &[], now)).len(), 0);
    }

    #[test]
    fn finished_jobs_are_noted_and_old_ones_go() {
        let mut c = cron(json!({"successfulJobsHistoryLimit": 1}));
        c["status"]["active"] = json!([{"uid": "b"}]);
        let jobs = [
            job(&c, "a", Some("Complete")),
            job(&c, "b", Some("Complete")),
            job(&c, "f", Some("Failed")),
        ];
        let p = plan(&c, &jobs, "2026-01-01T00:04:00Z");
        assert!(p.actions.contains(&Action::Event(Note::normal(
            "SawCompletedJob",
            "Saw completed job: b, condition: Complete"
        ))));
        assert!(p.actions.iter().any(|a| matches!(a, Action::Delete(t, ..) if t.name == "a")));
        let Some(Action::Status(_, _, status)) = p.actions.last() else { panic!("a status") };
        assert_eq!(*status, json!({"lastSuccessfulTime": "2026-01-01T00:03:00Z"}));
    }

    // `kubectl create job --from=cronjob/j`: https://kubernetes.io/docs/reference/kubectl/generated/kubectl_create/kubectl_create_job/
    #[test]
    fn a_job_that_somebody_makes_of_it_by_hand_does_not_keep_it_from_its_next() {
        let forbid = cron(json!({"concurrencyPolicy": "Forbid"}));
        let mut by_hand = job(&forbid, "mine", None);
        by_hand["metadata"]["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
        let p = plan(&forbid, &[by_hand], "2026-01-01T00:05:00Z");
        assert_eq!(made_names(&p), ["j-29453765"]);
        let Some(Action::Status(_, _, status)) = p.actions.last() else { panic!("a status") };
        assert_eq!(status.get("active"), None);
    }
}
