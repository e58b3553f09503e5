//! How a target takes its input apart and runs on it.

/// The first byte chooses, the rest is the input.
pub(super) fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

/// Runs what is asynchronous to its end, on this thread.
///
/// # Panics
/// When it takes longer than a minute: it hangs.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let limited = async { tokio::time::timeout(std::time::Duration::from_secs(60), future).await };
    runtime.expect("a runtime").block_on(limited).expect("it hangs")
}
