//! The programs' own log, for developers: what they say through aya-log becomes events of `tracing`, target `ebpf`.

use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::links::Programs;

/// The programs' log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the programs' log: {0}; was the kernel object built without its feature `log`?")]
pub struct LoggingError(String);

/// Starts the task that reads the log. Needs a tokio runtime. Once for a set of programs.
pub fn spawn(programs: &Programs) -> Result<JoinHandle<()>, LoggingError> {
    let fail = |error: &dyn std::fmt::Display| LoggingError(error.to_string());
    let logger = EbpfLogger::init_with_logger(&mut programs.lock(), ToTracing).map_err(|error| fail(&error))?;
    // SAFETY: the logger owns its descriptor, open and unchanged until it is dropped, and nothing replaces the logger in here.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger.map_err(|error| fail(&std::io::Error::from(error)))?;
    Ok(tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }))
}

/// Hands records of the crate `log`, which aya-log writes, to `tracing`.
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let (text, program) = (record.args(), record.target());
        match record.level() {
            Level::Error => tracing::error!(target: "ebpf", program, "{text}"),
            Level::Warn => tracing::warn!(target: "ebpf", program, "{text}"),
            Level::Info => tracing::info!(target: "ebpf", program, "{text}"),
            Level::Debug => tracing::debug!(target: "ebpf", program, "{text}"),
            Level::Trace => tracing::trace!(target: "ebpf", program, "{text}"),
        }
    }

    fn flush(&self) {}
}
