//! `keadm gettoken`

use std::time::{Duration, SystemTime};

use cloudcore::apiserver::ApiError;
use cloudcore::cloudhub::secrets::{self, SecretError};
use cloudcore::cloudhub::tokens::{Issued, TokenId};
use serde_json::json;

use crate::cloud::{Cloud, ClusterArgs};
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::https::utc;
use crate::pki::api_server;

/// Print a token with which an edge node can join
///
/// The token is bound to the CA of this cloudcore and valid for 24 hours; with `--ttl` a new one
/// is made that is valid for as long as you say.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct GetTokenArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Make a new token that is valid for this long, for example `30m`, `12h`, `7d`
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    ttl: Option<Duration>,
    /// Say until when a new token would be valid, and make none
    #[arg(long, requires = "ttl")]
    dry_run: bool,
    /// The form of the result
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<super::JsonOutput>,
    #[command(subcommand)]
    action: Option<TokenAction>,
}

/// What else can be done with tokens.
#[derive(clap::Subcommand, Debug)]
pub enum TokenAction {
    /// List the tokens by their identifiers, with the time they end
    List {
        #[command(flatten)]
        #[allow(missing_docs, reason = "documented at its type")]
        cluster: ClusterArgs,
        /// The form of the list
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<super::JsonOutput>,
    },
    /// Refuse a token from now on
    Revoke {
        #[command(flatten)]
        #[allow(missing_docs, reason = "documented at its type")]
        cluster: ClusterArgs,
        /// The identifier, as `keadm gettoken list` shows it
        id: String,
        /// Look whether there is such a token, and go on accepting it
        #[arg(long)]
        dry_run: bool,
        /// The form of the result
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        output: Option<super::JsonOutput>,
    },
}

/// Prints, lists or revokes.
///
/// # Errors
/// When the API server does not answer or cloudcore has made no token yet.
pub fn gettoken(args: &GetTokenArgs, cx: &Context) -> Result<(), CommandError> {
    let cluster = match &args.action {
        Some(TokenAction::List { cluster, .. } | TokenAction::Revoke { cluster, .. }) => cluster,
        None => &args.cluster,
    };
    let limit = cluster.limit.request_timeout;
    // Each question is repeated, and there are several.
    let whole = async {
        tokio::time::timeout(limit, run(args, cx)).await.unwrap_or_else(|_| {
            let text = format!("no answer came within {}", crate::phases::human(limit));
            Err(CommandError::new(Kind::TimedOut, "the API server does not answer")
                .because(text)
                .hint("`--request-timeout` waits longer"))
        })
    };
    cx.block_on(whole)
}

async fn run(args: &GetTokenArgs, cx: &Context) -> Result<(), CommandError> {
    match &args.action {
        Some(TokenAction::List { cluster, output }) => {
            list(cx, &cluster.client(cx).await?, *output).await
        }
        Some(TokenAction::Revoke { cluster, id, dry_run, output }) => {
            let cloud = cluster.client(cx).await?;
            revoke(cx, &cloud, id, *dry_run).await?;
            match output {
                None => Ok(()),
                Some(super::JsonOutput::Json) => Ok(cx
                    .printer
                    .json(&json!({ "id": id, "dryRun": dry_run, "revoked": !dry_run }))?),
            }
        }
        None => {
            let cloud = args.cluster.client(cx).await?;
            let token = match args.ttl {
                Some(ttl) if args.dry_run => return would_make(args, &cloud, ttl, cx).await,
                Some(ttl) => make(&cloud, ttl).await?,
                None => current(cx, &cloud).await?,
            };
            if args.output.is_some() {
                let until = expires(&token).map(|end| utc(end.max(0) as u64));
                return Ok(cx.printer.json(&json!({ "token": token, "expires": until }))?);
            }
            Ok(cx.printer.data(token)?)
        }
    }
}

/// The token that cloudcore keeps ready.
///
/// # Errors
/// When there is none yet, or it has expired.
pub(crate) async fn current(cx: &Context, cloud: &Cloud) -> Result<String, CommandError> {
    let api = api_server(cloud);
    let none = || {
        CommandError::new(Kind::NotFound, format!("there is no token at `{}` yet", cloud.server))
            .because("cloudcore makes it when it starts")
            .hint("`keadm check cloud` tells whether cloudcore is running")
    };
    let said = |e: &SecretError| failed(cloud, "read the token", e);
    let token = secrets::stored_token(&api).await.map_err(|e| said(&e))?.ok_or_else(none)?;
    match expires(&token) {
        Some(end) if end <= seconds(cx.host.now()) => Err(CommandError::new(
            Kind::Refused,
            format!("the token at `{}` has expired", cloud.server),
        )
        .because(format!("it was valid until {}", utc(end.max(0) as u64)))
        .hint("cloudcore renews it every 12 hours: is it running? see `keadm check cloud`")
        .hint("`keadm gettoken --ttl 24h` makes one now")),
        _ => Ok(token),
    }
}

/// When a token says that it ends.
fn expires(token: &str) -> Option<i64> {
    use base64::Engine as _;
    let claims = token.split('.').nth(2)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<serde_json::Value>(&claims).ok()?.get("exp")?.as_i64()
}

/// Looks for what a token is made with.
async fn would_make(
    args: &GetTokenArgs,
    cloud: &Cloud,
    ttl: Duration,
    cx: &Context,
) -> Result<(), CommandError> {
    let ca = secrets::stored_ca(&api_server(cloud)).await;
    ca.map_err(|e| failed(cloud, "make a token", &e))?.ok_or_else(|| no_ca(cloud))?;
    let end = seconds(cx.host.now() + ttl);
    let until = utc(end.max(0) as u64);
    match args.output {
        Some(_) => Ok(cx.printer.json(&json!({ "dryRun": true, "expires": until }))?),
        None => Ok(cx.printer.data(format!("would make a token that is valid until {until}"))?),
    }
}

fn no_ca(cloud: &Cloud) -> CommandError {
    CommandError::new(Kind::NotFound, format!("there is no CA at `{}` yet", cloud.server))
        .hint("cloudcore makes it when it starts: `keadm check cloud` tells whether it runs")
}

async fn make(cloud: &Cloud, ttl: Duration) -> Result<String, CommandError> {
    let api = api_server(cloud);
    let made = async {
        let Some(ca) = secrets::stored_ca(&api).await? else { return Ok(None) };
        secrets::issue_token(&api, &ca, ttl, "keadm gettoken").await.map(Some)
    };
    let (token, _) =
        made.await.map_err(|e| failed(cloud, "make a token", &e))?.ok_or_else(|| no_ca(cloud))?;
    Ok(token.as_str().to_owned())
}

async fn list(
    cx: &Context,
    cloud: &Cloud,
    output: Option<super::JsonOutput>,
) -> Result<(), CommandError> {
    let ledger = secrets::list_tokens(&api_server(cloud))
        .await
        .map_err(|e| failed(cloud, "list the tokens", &e))?;
    if output.is_some() {
        return Ok(cx.printer.json(&ledger.0)?);
    }
    cx.printer.data(format!("{:<18}{:<10}{:<23}{}", "ID", "STATE", "VALID UNTIL", "PURPOSE"))?;
    for (id, Issued { expires, purpose, revoked, .. }) in ledger.0 {
        let state = if revoked { "revoked" } else { "valid" };
        let until = utc(expires.max(0) as u64);
        cx.printer.data(format!("{:<18}{state:<10}{until:<23}{purpose}", id.0))?;
    }
    Ok(())
}

async fn revoke(cx: &Context, cloud: &Cloud, id: &str, dry: bool) -> Result<(), CommandError> {
    let none = || {
        CommandError::new(Kind::NotFound, format!("there is no token `{id}`"))
            .hint("`keadm gettoken list` shows them")
    };
    let wanted = TokenId(id.to_owned());
    if dry {
        let ledger = secrets::list_tokens(&api_server(cloud))
            .await
            .map_err(|e| failed(cloud, "list the tokens", &e))?;
        if !ledger.0.contains_key(&wanted) {
            return Err(none());
        }
        cx.printer.say(format!("token `{id}` would be refused from now on"));
        return Ok(());
    }
    secrets::revoke_token(&api_server(cloud), &wanted).await.map_err(|e| {
        if matches!(e, SecretError::NoToken(_)) {
            none()
        } else {
            failed(cloud, "revoke the token", &e)
        }
    })?;
    cx.printer.say(format!("token `{id}` is refused from now on; nodes that have joined stay"));
    Ok(())
}

fn failed(cloud: &Cloud, doing: &str, e: &SecretError) -> CommandError {
    let kind = match e {
        SecretError::Api { source: ApiError::Unreachable(_), .. } => Kind::Unreachable,
        SecretError::Api { source: ApiError::Refused(status), .. }
            if matches!(status.code, 401 | 403) =>
        {
            Kind::Refused
        }
        _ => Kind::Failed,
    };
    let error =
        CommandError::new(kind, format!("cannot {doing} at `{}`", cloud.server)).caused_by(e);
    match kind {
        Kind::Unreachable => {
            error.hint(format!("is it running? try `curl -k {}/readyz`", cloud.server))
        }
        Kind::Refused => error.hint("use the kubeconfig of a cluster administrator"),
        _ => error,
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration is a number with `m`, `h` or `d`, for example `12h`".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    match number.checked_mul(unit) {
        Some(1..=315_360_000) => Ok(Duration::from_secs(number * unit)),
        _ => Err("a token is valid for at most ten years".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read_from_its_claims() {
        assert_eq!(
            expires("77c3.eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3OTU0MDc1NzR9.x"),
            Some(1795407574)
        );
        assert_eq!(expires("77c3.a.!!.x"), None);
    }

    #[test]
    fn a_ttl_has_a_unit_and_an_end() {
        assert_eq!(parse_ttl("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_ttl("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "h", "5", "5x", "-1h", "99999999999999999999d", "0h", "11000d", "5é"] {
            assert!(parse_ttl(wrong).is_err(), "{wrong}");
        }
    }
}
