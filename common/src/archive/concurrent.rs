//! Several waits at once on one thread, in a fixed order, so that a seeded test repeats.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Most calls to the store under way at once.
pub(super) const AT_ONCE: usize = 16;

/// Runs all futures, at most [`AT_ONCE`] at a time; the outputs are in their order.
pub(super) async fn all<F: Future>(work: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = work.iter().map(|_| None).collect();
    let mut waiting = work.into_iter().map(Box::pin).enumerate();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    poll_fn(|context| {
        loop {
            running.extend(waiting.by_ref().take(AT_ONCE - running.len()));
            let before = running.len();
            running.retain_mut(|(i, future)| match future.as_mut().poll(context) {
                Poll::Ready(output) => {
                    outputs[*i] = Some(output);
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return if running.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    })
    .await;
    outputs.into_iter().map(|output| output.expect("every future has run to its end")).collect()
}

/// Runs all futures to their end, then fails if any failed.
pub(super) async fn try_all<T, E, F: Future<Output = Result<T, E>>>(work: Vec<F>) -> Result<Vec<T>, E> {
    all(work).await.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_keep_their_order_and_few_run_at_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let running = std::cell::Cell::new(0);
            let most = std::cell::Cell::new(0);
            let work = (0..100_u64).map(|i| {
                let (running, most) = (&running, &most);
                async move {
                    running.set(running.get() + 1);
                    most.set(most.get().max(running.get()));
                    for _ in 0..=i % 7 {
                        tokio::task::yield_now().await;
                    }
                    running.set(running.get() - 1);
                    i
                }
            });
            assert_eq!(all(work.collect()).await, (0..100).collect::<Vec<_>>());
            assert_eq!(most.get(), AT_ONCE);
        });
    }
}
