//! A reader in an async runtime: a future that waits for a sample may be dropped at any moment, as
//! `select!` and timeouts do, and neither the reader nor a sample is lost.
//!
//! The library has no runtime and no thread, so a wait needs a thread that may block.
//! `spawn_blocking` stands for that of the runtime: with tokio,
//! `tokio::task::spawn_blocking(f).await`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shmslot::{Code, Interrupter, Reader, Result, Sample};

/// A reader that outlives the futures which wait for it.
pub struct AsyncReader {
    reader: Mutex<Reader>,
    interrupter: Interrupter,
}

impl AsyncReader {
    pub fn new(reader: Reader) -> Arc<AsyncReader> {
        let interrupter = reader.interrupter();
        Arc::new(AsyncReader { reader: Mutex::new(reader), interrupter })
    }

    /// The next sample. Of several futures of one reader each gets another sample.
    pub async fn next(self: &Arc<Self>) -> Result<Sample<'static>> {
        loop {
            // Read here and not in the thread that waits: a sample that it had read would be lost
            // with the future. This blocks while a wait is on its way out, and no longer.
            if let Some(sample) = self.lock().read()? {
                return Ok(sample.into_owned());
            }
            let cancelled = Arc::new(AtomicBool::new(false));
            let guard = CancelOnDrop { interrupter: &self.interrupter, cancelled: &cancelled };
            let (reader, has_ended) = (Arc::clone(self), Arc::clone(&cancelled));
            let waited = spawn_blocking(move || {
                let reader = reader.lock();
                // A wait that begins after its future was dropped would be interrupted by nobody.
                if has_ended.load(Ordering::Acquire) { Ok(()) } else { reader.wait(None) }
            })
            .await;
            std::mem::forget(guard);
            match waited {
                // The interrupt of a future that was dropped before its wait began.
                Err(error) if error.code() == Code::Interrupted => {}
                waited => waited?,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the wait of a future that is dropped, so that its thread lets go of the reader.
struct CancelOnDrop<'a> {
    interrupter: &'a Interrupter,
    cancelled: &'a AtomicBool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        // It fails in a forked child only, which has no thread that waits.
        let _ = self.interrupter.interrupt();
    }
}

/// Runs a call on a thread of its own; the future of its result.
async fn spawn_blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    type Shared<T> = Arc<Mutex<(Option<T>, Option<std::task::Waker>)>>;
    let shared: Shared<T> = Arc::new(Mutex::new((None, None)));
    let theirs = Arc::clone(&shared);
    std::thread::spawn(move || {
        let result = call();
        let mut shared = theirs.lock().unwrap_or_else(PoisonError::into_inner);
        shared.0 = Some(result);
        if let Some(waker) = shared.1.take() {
            waker.wake();
        }
    });
    std::future::poll_fn(move |context| {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.0.take() {
            Some(result) => std::task::Poll::Ready(result),
            None => {
                shared.1 = Some(context.waker().clone());
                std::task::Poll::Pending
            }
        }
    })
    .await
}
