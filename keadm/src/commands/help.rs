//! `keadm help`

use crate::context::Context;
use crate::errors::{CommandError, EXIT_CODES, Kind};

/// Print the help of a command, or of a topic: `exit-codes`
#[derive(clap::Args, Debug)]
pub struct HelpArgs {
    /// A command, its subcommand, or `exit-codes`
    #[arg(value_name = "COMMAND")]
    topic: Vec<String>,
}

/// Prints the help.
///
/// # Errors
/// When there is no such command.
pub fn help(args: &HelpArgs, cx: &Context) -> Result<(), CommandError> {
    if args.topic == ["exit-codes"] {
        for (code, meaning) in EXIT_CODES {
            cx.printer.data(format!("{code:>3}  {meaning}"))?;
        }
        return Ok(());
    }
    let mut command = crate::command();
    command.build();
    let mut at = &mut command;
    for name in &args.topic {
        let names = at.get_subcommands().map(clap::Command::get_name).chain(["exit-codes"]);
        let near = super::nearest(name, names).map(str::to_owned);
        at = at.find_subcommand_mut(name).ok_or_else(|| {
            let said = args.topic.join(" ");
            CommandError::new(Kind::Usage, format!("there is no command `{said}`")).hint(match near
            {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`keadm help` lists the commands".to_owned(),
            })
        })?;
    }
    let help = at.render_long_help();
    let colour = cx.printer.manner().data_colour;
    let text = if colour { help.ansi().to_string() } else { help.to_string() };
    Ok(cx.printer.data(text.trim_end())?)
}
