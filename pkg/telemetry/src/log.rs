//! The log: lines on standard error, where systemd and a terminal both look for them.

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, fmt, layer::SubscriberExt, registry::LookupSpan, reload,
    util::SubscriberInitExt,
};

use crate::traces::Recorder;

/// Shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogShape {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("log.level: {filter:?} is neither a level nor a filter such as husk_pods=debug,info")]
    Filter {
        /// As written.
        filter: String,
        /// What the parser says.
        #[source]
        source: ParseError,
    },
    /// A subscriber is installed already.
    #[error("logging was set up before")]
    Installed,
    /// The subscriber is gone.
    #[error("the log cannot be changed any more")]
    Gone,
}

/// Changes the filter while running.
#[derive(Debug, Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

/// Installs the log of this process, and beside it what records traces. The filter is the log's alone.
///
/// # Errors
/// When `filter` cannot be parsed, or on a second call.
pub fn init(filter: &str, shape: LogShape, recorder: Option<Recorder>) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry();
    let installed = match recorder {
        None => registry.with(filter).with(lines(shape)).try_init(),
        Some(recorder) => registry
            .with(lines(shape).with_filter(filter))
            .with(recorder.with_filter(Recorder::filter()))
            .try_init(),
    };
    installed.map_err(|_| LogError::Installed)?;
    Ok(LogHandle(handle))
}

fn lines<S>(shape: LogShape) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match shape {
        LogShape::Text => {
            fmt::layer().with_writer(std::io::stderr).with_ansi(false).log_internal_errors(false).boxed()
        }
        LogShape::Json => fmt::layer().with_writer(std::io::stderr).json().log_internal_errors(false).boxed(),
    }
}

impl LogHandle {
    /// Replaces the filter.
    ///
    /// # Errors
    /// When it cannot be parsed; then the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        self.0.reload(parse(filter)?).map_err(|_| LogError::Gone)
    }
}
