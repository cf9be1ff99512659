//! `muster log level`: how much a running daemon says.

use clap::{Subcommand, ValueEnum};
use muster_proto::spire::{
    agent::logger as agent,
    server::logger as server,
    types::{LogLevel, Logger},
};
use serde_json::json;

use crate::{
    args::DaemonSocket,
    connect::{Daemon, connect},
    failure::Failure,
    output::{self, Answer},
};

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the level, or set it until the daemon's next start.
    Level(Level),
}

impl LogCommand {
    pub(crate) async fn run(self) -> Result<Answer, Failure> {
        let Self::Level(command) = self;
        command.run().await
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Level {
    /// The new level; `reset` goes back to the one of the start.
    #[arg(value_enum)]
    to: Option<To>,
    #[command(flatten)]
    socket: DaemonSocket,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum To {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
    Reset,
}

impl To {
    /// Nothing for `reset`.
    fn level(self) -> Option<LogLevel> {
        match self {
            Self::Error => Some(LogLevel::Error),
            Self::Warn => Some(LogLevel::Warn),
            Self::Info => Some(LogLevel::Info),
            Self::Debug => Some(LogLevel::Debug),
            Self::Trace => Some(LogLevel::Trace),
            Self::Reset => None,
        }
    }
}

impl Level {
    async fn run(self) -> Result<Answer, Failure> {
        let path = self.socket.path();
        let to = self.to.map(To::level);
        // Two services, alike but for their names.
        let logger = if self.socket.agent {
            let mut client =
                agent::logger_client::LoggerClient::new(connect(path, Daemon::AgentAdmin).await?);
            match to {
                None => client.get_logger(agent::GetLoggerRequest {}).await,
                Some(None) => client.reset_log_level(agent::ResetLogLevelRequest {}).await,
                Some(Some(level)) => {
                    client
                        .set_log_level(agent::SetLogLevelRequest {
                            new_level: level.into(),
                        })
                        .await
                }
            }
        } else {
            let mut client = server::logger_client::LoggerClient::new(connect(path, Daemon::Server).await?);
            match to {
                None => client.get_logger(server::GetLoggerRequest {}).await,
                Some(None) => client.reset_log_level(server::ResetLogLevelRequest {}).await,
                Some(Some(level)) => {
                    client
                        .set_log_level(server::SetLogLevelRequest {
                            new_level: level.into(),
                        })
                        .await
                }
            }
        }
        .map_err(|status| {
            let what = if to.is_some() {
                "could not set the log level"
            } else {
                "could not read the log level"
            };
            Failure::status(what, &status)
        })?
        .into_inner();
        Ok(answer(&logger))
    }
}

fn answer(logger: &Logger) -> Answer {
    let name = |level: LogLevel| level.as_str_name().to_lowercase();
    let (now, start) = (name(logger.current_level()), name(logger.launch_level()));
    let text = output::block([("Level", now.clone()), ("At start", start.clone())]);
    Answer::new(text, json!({ "level": now, "at_start": start }))
}
