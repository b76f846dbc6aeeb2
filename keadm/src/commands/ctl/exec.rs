//! `keadm ctl exec`: a command in a container of this node.

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::raw::{Raw, Winch, typed};
use super::shown::Shown;
use super::which;
use crate::commands::NamespaceArg;
use crate::context::Context;
use crate::errors::{CommandError, Kind};
use crate::node_api::NodeApiArgs;
use crate::pod_name::PodName;

/// What is run, and where.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: keadm ctl exec web -- ls /data")]
pub struct ExecArgs {
    /// The pod
    #[arg(value_name = "POD", add = completions::ArgValueCompleter::new(crate::complete::pods))]
    pod: String,
    /// The command and its arguments, after `--`; no shell reads them
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// The container [default: the first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal, and what is typed here
    #[arg(short, long)]
    tty: bool,
    /// Say in which container it would run, and run nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: NodeApiArgs,
}

/// The streams of a command, by the number that stands before each message.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

impl ExecArgs {
    /// The path and its parameters. Pure.
    fn path(&self, pod: &PodName, container: &str) -> String {
        let mut query = String::from("output=1");
        for (on, name) in
            [(!self.tty, "error"), (self.stdin || self.tty, "input"), (self.tty, "tty")]
        {
            if on {
                query.push_str(&format!("&{name}=1"));
            }
        }
        for word in &self.command {
            query.push_str("&command=");
            for byte in word.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                        query.push(char::from(byte));
                    }
                    _ => query.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        let PodName { namespace, name } = pod;
        format!("/exec/{namespace}/{name}/{container}?{query}")
    }
}

/// Runs it.
pub(super) fn exec(args: &ExecArgs, cx: &Context) -> Result<(), CommandError> {
    let pod = PodName::read(&args.pod, &args.namespace.namespace)?;
    cx.block_on(async {
        let found = which::pod(&args.api, &pod, cx).await?;
        let container = which::container(args.container.as_deref(), &pod, &found, cx)?;
        if args.dry_run {
            let command = args.command.join(" ");
            let text =
                format!("would run in container `{container}` of pod/{}: {command}", pod.name);
            return Ok(cx
                .printer
                .data(api::printable::printable(&text, usize::MAX).to_string())?);
        }
        let socket = args.api.streams(&args.path(&pod, &container), cx).await?;
        // As it was when this returns, whatever happens.
        let raw = match args.tty {
            true => Raw::enter().map_err(|e| {
                CommandError::new(Kind::Failed, "cannot take over the terminal").caused_by(&e)
            })?,
            false => None,
        };
        if args.tty && raw.is_none() {
            cx.printer
                .say("note: standard input is no terminal; the command gets one all the same");
        }
        carry(args, socket, cx).await
    })
}

async fn carry(
    args: &ExecArgs,
    socket: WebSocketStream<TcpStream>,
    cx: &Context,
) -> Result<(), CommandError> {
    let (sink, source) = socket.split();
    let keys = (args.stdin || args.tty).then(typed);
    let told = async {
        tell(sink, keys, args.tty).await;
        // Whoever runs the command says when it is over.
        std::future::pending().await
    };
    tokio::select! {
        ended = hear(source, args.tty, cx) => ended,
        () = told => Ok(()),
        () = super::raw::told_to_end() => {
            Err(CommandError::new(Kind::Interrupted, "told to end before the command did"))
        }
    }
}

/// Hands over what is typed, and the size of the terminal, until neither comes any more.
async fn tell(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut keys: Option<mpsc::Receiver<Vec<u8>>>,
    tty: bool,
) {
    let mut winch = Winch::new(tty);
    loop {
        let (channel, data) = tokio::select! {
            piece = next(&mut keys) => match piece {
                Some(piece) => (STDIN, piece),
                None => {
                    keys = None;
                    (CLOSE, vec![STDIN])
                }
            },
            Some((width, height)) = winch.next() => {
                (RESIZE, json!({ "Width": width, "Height": height }).to_string().into_bytes())
            }
            else => return,
        };
        let message: Vec<u8> = std::iter::once(channel).chain(data).collect();
        if sink.send(Message::Binary(message.into())).await.is_err() {
            return;
        }
    }
}

async fn next(keys: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match keys {
        Some(keys) => keys.recv().await,
        None => std::future::pending().await,
    }
}

/// Shows what the command says, until it is said how it ended.
async fn hear(
    mut source: SplitStream<WebSocketStream<TcpStream>>,
    tty: bool,
    cx: &Context,
) -> Result<(), CommandError> {
    let mut out = if tty { Shown::raw(cx) } else { Shown::new(cx) };
    let mut err = Shown::errors(cx);
    let lost = || CommandError::new(Kind::Unreachable, "edgecore broke the command off");
    loop {
        let message = match source.next().await {
            Some(Ok(Message::Binary(message))) => message,
            Some(Ok(Message::Close(_))) | None => {
                out.end().and(err.end())?;
                return Err(lost().hint("it may still run"));
            }
            Some(Ok(_)) => continue,
            Some(Err(e)) => {
                out.end().and(err.end())?;
                return Err(lost().caused_by(&e).hint("it may still run"));
            }
        };
        match message.split_first() {
            Some((&STDOUT, data)) => out.add(data)?,
            Some((&STDERR, data)) => err.add(data)?,
            Some((&OUTCOME, data)) => {
                out.end().and(err.end())?;
                return outcome(data);
            }
            _ => {}
        }
    }
}

/// What is said of the end of a command. Pure.
fn outcome(status: &[u8]) -> Result<(), CommandError> {
    let status: Value = serde_json::from_slice(status).map_err(|e| {
        CommandError::new(Kind::Failed, "how the command ended makes no sense").caused_by(&e)
    })?;
    if status["status"] == "Success" {
        return Ok(());
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let mut codes = causes.filter(|cause| cause["reason"] == "ExitCode");
    let code = codes.next().and_then(|cause| cause["message"].as_str()?.parse::<u8>().ok());
    match code {
        Some(code) => Err(CommandError::ended(code)),
        None => {
            let why = status["message"].as_str().unwrap_or_default();
            Err(CommandError::new(Kind::Failed, "the command was not run")
                .because(api::printable::printable(why, 400).to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        exec: ExecArgs,
    }

    #[test]
    fn a_command_is_a_list_of_words_whatever_is_in_them() {
        let path = |line: &[&str]| {
            let args = Line::try_parse_from(line).unwrap_or_else(|e| panic!("{e}")).exec;
            args.path(&PodName::read("web", &args.namespace.namespace).unwrap(), "main")
        };
        assert_eq!(
            path(&["exec", "web", "--", "sh", "-c", "echo a&b=ü"]),
            "/exec/default/web/main?output=1&error=1&command=sh&command=-c&command=echo%20a%26b%3D%C3%BC"
        );
        assert_eq!(
            path(&["exec", "web", "-it", "-n", "shop", "--", "sh"]),
            "/exec/shop/web/main?output=1&input=1&tty=1&command=sh"
        );
        assert!(Line::try_parse_from(["exec", "web"]).is_err(), "nothing to run");
    }

    #[test]
    fn the_exit_code_is_the_commands_own() {
        assert!(outcome(br#"{"metadata":{},"status":"Success"}"#).is_ok());
        let said = br#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
        assert_eq!(outcome(said).unwrap_err().exit_code(), 42);
        let said = br#"{"status":"Failure","reason":"InternalError","message":"no such file"}"#;
        let e = outcome(said).unwrap_err();
        assert_eq!((e.exit_code(), e.causes()), (1, &["no such file".to_owned()][..]));
        assert!(outcome(b"nonsense").is_err());
    }
}
