//! `spire.api.agent.logger.v1.Logger`: the log level, while the daemon runs.

use async_trait::async_trait;
use muster_proto::spire::agent::logger::logger_server::{Logger as LoggerService, LoggerServer};
use muster_proto::spire::agent::logger::{GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest};
use muster_proto::spire::types;
use muster_runtime::Reference;
use muster_runtime::logging::{Level, LogLevel};
use muster_transport::AdminPeer;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

/// The service.
#[derive(Debug)]
pub struct Logger(LogLevel);

impl Logger {
    /// The service over `level`.
    pub fn service(level: LogLevel) -> LoggerServer<Self> {
        LoggerServer::new(Self::new(level))
    }

    pub(super) fn new(level: LogLevel) -> Self {
        Self(level)
    }

    fn answer(&self) -> Response<types::Logger> {
        Response::new(types::Logger {
            current_level: to_wire(self.0.current()).into(),
            launch_level: to_wire(self.0.at_launch()).into(),
        })
    }
}

#[async_trait]
impl LoggerService for Logger {
    async fn get_logger(
        &self,
        _request: Request<GetLoggerRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        Ok(self.answer())
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        let who = request.extensions().get::<AdminPeer>().copied();
        let wanted =
            types::LogLevel::try_from(request.get_ref().new_level).unwrap_or(types::LogLevel::Unspecified);
        let level = match wanted {
            types::LogLevel::Unspecified => {
                let reference = Reference::new();
                warn!(%reference, caller = ?who, "refused: no log level was given");
                return Err(Status::invalid_argument(
                    reference.sign("newLevel value cannot be LogLevel_UNSPECIFIED"),
                ));
            }
            // Nothing of ours is worse than an error.
            types::LogLevel::Panic | types::LogLevel::Fatal | types::LogLevel::Error => Level::Error,
            types::LogLevel::Warn => Level::Warn,
            types::LogLevel::Info => Level::Info,
            types::LogLevel::Debug => Level::Debug,
            types::LogLevel::Trace => Level::Trace,
        };
        self.0.set(level);
        info!(caller = ?who, ?level, "log level set");
        Ok(self.answer())
    }

    async fn reset_log_level(
        &self,
        request: Request<ResetLogLevelRequest>,
    ) -> Result<Response<types::Logger>, Status> {
        self.0.reset();
        info!(caller = ?request.extensions().get::<AdminPeer>(), "log level reset");
        Ok(self.answer())
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
