//! `spire.api.server.logger.v1.Logger`: the log level, until the process ends.

use std::sync::Arc;

use muster_audit::{Action, Event, Outcome};
use muster_proto::spire::server::logger::logger_server::Logger;
use muster_proto::spire::server::logger::{GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest};
use muster_proto::spire::types;
use muster_runtime::logging::Level;
use tonic::{Request, Response, Status};

use super::{Caller, Context, Refusal};

/// Reads and changes the log level.
#[derive(Clone)]
pub struct LoggerService {
    context: Arc<Context>,
}

impl LoggerService {
    /// Changes the level that `context` holds.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn standing(&self) -> Response<types::Logger> {
        let level = &self.context.log_level;
        Response::new(types::Logger {
            current_level: to_wire(level.current()).into(),
            launch_level: to_wire(level.at_launch()).into(),
        })
    }

    async fn record(&self, caller: &Caller, level: Level) -> Result<(), Refusal> {
        let event = Event::new(caller.actor(), Action::LogLevelSet, Outcome::Done).fact("level", level);
        self.context.record(event).await
    }
}

#[tonic::async_trait]
impl Logger for LoggerService {
    async fn get_logger(&self, _: Request<GetLoggerRequest>) -> Result<Response<types::Logger>, Status> {
        Ok(self.standing())
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let caller = Caller::of(&request)?;
        let level = from_wire(request.get_ref().new_level)?;
        self.record(&caller, level).await?;
        self.context.log_level.set(level);
        Ok(self.standing())
    }

    async fn reset_log_level(
        &self,
        request: Request<ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let caller = Caller::of(&request)?;
        self.record(&caller, self.context.log_level.at_launch()).await?;
        self.context.log_level.reset();
        Ok(self.standing())
    }
}

fn to_wire(level: Level) -> types::LogLevel {
    match level {
        Level::Error => types::LogLevel::Error,
        Level::Warn => types::LogLevel::Warn,
        Level::Info => types::LogLevel::Info,
        Level::Debug => types::LogLevel::Debug,
        Level::Trace => types::LogLevel::Trace,
    }
}

fn from_wire(level: i32) -> Result<Level, Refusal> {
    match types::LogLevel::try_from(level) {
        // We have nothing above error: these show what is most severe.
        Ok(types::LogLevel::Panic | types::LogLevel::Fatal | types::LogLevel::Error) => Ok(Level::Error),
        Ok(types::LogLevel::Warn) => Ok(Level::Warn),
        Ok(types::LogLevel::Info) => Ok(Level::Info),
        Ok(types::LogLevel::Debug) => Ok(Level::Debug),
        Ok(types::LogLevel::Trace) => Ok(Level::Trace),
        Ok(types::LogLevel::Unspecified) => {
            Err(Refusal::invalid("newLevel value cannot be LogLevel_UNSPECIFIED"))
        }
        Err(_) => Err(Refusal::invalid(format!("unsupported log level {level}"))),
    }
}
