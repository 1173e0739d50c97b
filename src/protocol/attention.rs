//! Attention: whether commits and marks must look for others.
//!
//! Nearly always nobody sleeps, joins or leaves. Then a commit or a mark that must look whether
//! somebody does would pay a fence for nothing. So it does not pay: it makes its change, keeps the
//! compiler from moving the next load before it (`light_fence`), and loads this one word. While the
//! word says *calm*, and has not changed since the audience was loaded, there is nothing to do. A
//! process that does need to be seen changes the word, and has every processor pass a fence
//! (`heavy_fence`): then each commit and mark has either made its change visible, or will see the
//! word.
//!
//! One heavy fence for each sleep would cost more than the sleep. So the first sleeper makes the
//! segment *alert*, and as long as it is, commits and marks do what they do without this word: they
//! pass a real fence, and look at the bells. After many such commits a writer that finds nobody
//! asleep makes it calm again.

use super::bounds::RETRY_LIMIT;
use crate::atomics::{AtomicU64, Ordering, Reach, fence, heavy_fence, nap};
use crate::layout::bits::attention as bits;

/// A view of the word of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a>(pub(crate) &'a AtomicU64);

/// Nobody sleeps: the hot calls look at nothing but this word.
const CALM: u64 = 0;
/// Somebody is about to sleep, and has not yet passed the heavy fence.
const RAISED: u64 = 1;
/// The hot calls look at the bells. Sleepers need nothing more than to be armed.
const ALERT: u64 = 2;
/// As alert, for the hot calls; but a process that found nobody asleep is about to make it calm.
const SETTLING: u64 = 3;
/// As alert, for good: some participant has no heavy fence, or the kind of the segment is not one
/// that can be calm.
const PINNED: u64 = 4;
/// To be pinned, as soon as somebody has passed a heavy fence.
const PINNING: u64 = 5;

const ONE_CHANGE: u64 = bits::COUNT.put(1);

/// The word at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook(u64);

impl Outlook {
    /// One that the word never equals in a segment that can be calm, because it is not calm itself.
    pub(crate) const NEVER: Outlook = Outlook(bits::STATE.mask());
    /// As [`Outlook::NEVER`], while a thread replaces what a writer knows.
    pub(crate) const LEARNING: Outlook = Outlook(bits::STATE.mask() - 1);
    /// The word of a new segment that cannot be calm.
    pub(crate) const PINNED: Outlook = Outlook(PINNED);

    pub(crate) fn of(word: u64) -> Outlook {
        Outlook(word)
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn is_calm(self) -> bool {
        self.state() == CALM
    }

    #[inline(always)]
    fn state(self) -> u64 {
        bits::STATE.get(self.0)
    }

    /// The word after a change to this state.
    fn next(self, state: u64) -> Outlook {
        let changed = self.0.wrapping_add(ONE_CHANGE);
        Outlook(changed & bits::COUNT.mask() | bits::STATE.put(state))
    }
}

impl Attention<'_> {
    /// The word now. For a caller that has made a change, after a light fence.
    #[inline(always)]
    pub(crate) fn look(self) -> Outlook {
        // Acquire: what a process stored before it changed the word, as the readers that joined, is
        // visible; pairs with the exchanges below.
        Outlook(self.0.load(Ordering::Acquire))
    }

    fn change(self, from: Outlook, to: Outlook) -> bool {
        self.0.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Makes a change of the membership known, which the caller has made before. After this, each
    /// commit either has made its sample and its marks visible, or will look at the membership
    /// again.
    pub(crate) fn tell(self) {
        // AcqRel: pairs with `look`.
        let before = Outlook(self.0.fetch_add(ONE_CHANGE, Ordering::AcqRel));
        self.pass_as(before);
    }

    /// Has every commit and mark pass a fence, or see what the caller has stored.
    pub(crate) fn pass(self) {
        self.pass_as(self.look());
    }

    /// The same. It costs a system call unless the segment is alert now and was so at `since`: then
    /// commits and marks have passed real fences anyway, and so does this.
    pub(crate) fn pass_since(self, since: Outlook) {
        fence(Ordering::SeqCst);
        let now = self.look();
        if now != since || !matches!(now.state(), ALERT | PINNED) {
            self.pass_as(now);
        }
    }

    /// False if the segment had to be pinned for this.
    fn pass_as(self, seen: Outlook) -> bool {
        if seen.state() == PINNED {
            // Commits and marks pass real fences.
            fence(Ordering::SeqCst);
        } else if !heavy_fence(Reach::Registered) {
            self.pin();
            return false;
        }
        true
    }

    /// Whether a participant waits for another to pass a heavy fence for it.
    pub(crate) fn asks_for_help(self) -> bool {
        self.look().state() == PINNING
    }

    /// Makes the hot calls look at the bells from now on. The caller has armed a bell, and has passed
    /// a sequentially consistent fence since.
    pub(crate) fn raise(self) {
        // Each round means that another process has changed the word.
        for _ in 0..RETRY_LIMIT {
            let seen = self.look();
            match seen.state() {
                CALM => {
                    self.change(seen, seen.next(RAISED));
                }
                // Another sleeper may be stopped here, or dead.
                RAISED => {
                    if !self.pass_as(seen) || self.change(seen, seen.next(ALERT)) {
                        return;
                    }
                }
                // The settling process has looked at the bells before this caller's was armed.
                SETTLING => {
                    if self.change(seen, seen.next(ALERT)) {
                        return;
                    }
                }
                PINNING => {
                    self.complete_pin(seen);
                }
                // Alert, pinned, or what no honest process stores.
                _ => return,
            }
        }
    }

    /// What a writer does from time to time while the segment is not calm: if `nobody_listens`, it
    /// makes the segment calm.
    pub(crate) fn settle(self, nobody_listens: impl FnOnce() -> bool) {
        let seen = self.look();
        match seen.state() {
            // Another settling process may be stopped here, or dead.
            ALERT | SETTLING => {
                let settling = seen.next(SETTLING);
                if !self.change(seen, settling) {
                    return;
                }
                // Either a sleeper that arms its bell sees that the segment is settling, or this
                // process sees that the bell is armed. Pairs with the fence in `Bell::announce`.
                fence(Ordering::SeqCst);
                let state = if nobody_listens() { CALM } else { ALERT };
                self.change(settling, settling.next(state));
            }
            // A sleeper was stopped or killed before it could say that it has passed its fence. Those
            // after it each pass one, until somebody says so.
            RAISED => {
                self.pass_as(seen);
                self.change(seen, seen.next(ALERT));
            }
            PINNING => self.complete_pin(seen),
            _ => {}
        }
    }

    /// Completes what a participant without a heavy fence has asked for.
    fn complete_pin(self, seen: Outlook) {
        if heavy_fence(Reach::Registered) {
            self.change(seen, seen.next(PINNED));
        }
    }

    /// Makes the segment alert for good, for a participant that has no heavy fence. Another
    /// participant passes one for it, at its next commit. If none does for a while, what those that
    /// were in a commit or a mark have stored is visible by then.
    #[cold]
    pub(crate) fn pin(self) {
        /// A processor makes its stores visible within microseconds.
        const NAPS: u32 = 100;
        let mut naps = 0;
        for _ in 0..RETRY_LIMIT {
            let seen = self.look();
            match seen.state() {
                PINNED => break,
                PINNING if naps < NAPS => {
                    naps += 1;
                    nap();
                }
                PINNING => {
                    self.change(seen, seen.next(PINNED));
                }
                _ => {
                    self.change(seen, seen.next(PINNING));
                }
            }
        }
        fence(Ordering::SeqCst);
    }
}
