//! What a writer does, whichever threads may use it.
#![forbid(unsafe_code)]

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::cache;
use crate::error::{Code, Error, HotResult, Packed, Result};
use crate::events::{Arm, Descriptor, InSet, Waiter};
use crate::layout::Policy;
use crate::protocol::bounds::RACE_LIMIT;
use crate::protocol::calm::{self, Hand, Manner, PublishBy, Right};
use crate::protocol::commit::{self, Owed};
use crate::protocol::history;
use crate::protocol::loan;
use crate::protocol::order;
use crate::protocol::reclaim;
use crate::protocol::region;
use crate::protocol::rows;
use crate::protocol::shape::{Any, Calm, Dropping, Kind, KindOf, Shape};
use crate::protocol::table::Table;
use crate::protocol::words::{Loan as Loaned, Owner, Place, Reserved, Token, Wanted};
use crate::segment::attachment::Attachment;
use crate::segment::payload::Bytes;
use crate::segment::writable::Writable;
use crate::sys;
use crate::wait::{EndWaits, Interrupter, WaitFor, deadline_of, interrupt, sleep_until, spin};
use crate::writer::calm::CalmWriter;
use crate::writer::guess::{Cycle, First, RECENT, Recent};

/// How many samples ahead a payload's line is prefetched. Readers may be at the next few.
const AHEAD: u64 = 4;

/// How many times a writer that finds the next slot taken looks for a run of free ones before it
/// tries that slot again.
const POLLS_FOR_A_RUN: u32 = 64;

/// A writer, without the promise of [`Writer`](super::Writer) about threads. It is `pub` in a
/// private module, for the trait of that module, which cannot be used outside. It is `Sync`,
/// because its fields are, and what they share is atomic.
///
/// On a single-writer segment a reserve claims its slot by a plain store. There two threads that
/// reserve at once can get one slot, and the caller must prevent that.
pub struct Core {
    pub(super) segment: Writable,
    owner: Owner,
    pub(super) hand: Hand,
    /// Current loans, counted only if there is a limit.
    loans: AtomicU32,
    first: First,
    pub(super) kind: KindOf,
    pub(super) short: Short,
    /// The commit of this kind of a loan that its caller alone has. Chosen once, so that no commit
    /// compares kinds.
    commit_own: fn(&Core, Token, u64) -> Packed,
    pub(super) calm: CalmWriter,
    recent: Recent,
    cycle: Cycle,
    /// Where the last search for the oldest unread sample ended.
    resume: AtomicU64,
    /// Whether the last search for a slot out of order found none: then slots are freed in order,
    /// and it pays to poll only the next ones.
    in_order: AtomicBool,
    /// Whether a reader had not marked the sample before the last one, when that was last checked.
    readers_lag: AtomicBool,
    /// Up to this sequence, slots in the order seemed free; and the sequence from which it pays to
    /// check again. Hints for prefetching: threads that disagree about them do no harm, so all
    /// accesses are relaxed.
    run_end: AtomicU64,
    next_look: AtomicU64,
    interrupted: Arc<AtomicBool>,
    end_at_signals: AtomicBool,
    end_at_retirement: AtomicBool,
    /// What it waits behind in an event loop.
    waiter: Waiter,
}

/// A reserve of less than this is short: the next slot in the order is tried first, and no loan is
/// counted. There is one limit for each common kind, and it is 0 unless the segment is of that kind:
/// so one comparison asks both.
#[derive(Default)]
pub(super) struct Short {
    alone_below: u64,
    among_below: u64,
    dropping_below: u64,
}

impl Short {
    fn of(shape: &Shape, first: First, max_loans: u32) -> Short {
        if first != First::Next || max_loans != 0 {
            return Short::default();
        }
        let below = shape.capacity + 1;
        match shape.kind() {
            KindOf::CalmAlone => Short { alone_below: below, ..Short::default() },
            KindOf::CalmAmong => Short { among_below: below, ..Short::default() },
            KindOf::Dropping => Short { dropping_below: below, ..Short::default() },
            KindOf::Any => Short::default(),
        }
    }

    pub(super) fn has(&self, len: u64) -> bool {
        len < self.alone_below.max(self.among_below).max(self.dropping_below)
    }
}

impl Core {
    pub(crate) fn open(segment: Arc<Attachment>) -> Result<Core> {
        let participant = segment.writable()?;
        let segment = Writable::open(segment)?;
        let owner = Owner::new(participant, segment.number());
        if segment.geometry().single_writer {
            become_the_writer(&segment, owner)?;
        }
        let slots = segment.geometry().slot_count;
        let first = First::of(segment.geometry().slot_capacity, slots);
        // With fewer slots a reader is always near.
        let looks_ahead = first != First::Few && u64::from(slots) >= 4 * AHEAD;
        Ok(Core {
            first,
            kind: segment.shape().kind(),
            short: Short::of(segment.shape(), first, segment.max_loans()),
            commit_own: match segment.shape().kind() {
                KindOf::CalmAlone => Core::commit_own_calmly::<true>,
                KindOf::CalmAmong => Core::commit_own_calmly::<false>,
                KindOf::Dropping => Core::commit_own_as::<Dropping>,
                KindOf::Any => Core::commit_own_as::<Any>,
            },
            calm: CalmWriter::new(slots),
            recent: Recent::default(),
            cycle: Cycle::default(),
            segment,
            owner,
            hand: Hand::of(owner),
            loans: AtomicU32::new(0),
            resume: AtomicU64::new(0),
            in_order: AtomicBool::new(false),
            readers_lag: AtomicBool::new(false),
            run_end: AtomicU64::new(0),
            next_look: AtomicU64::new(if looks_ahead { 0 } else { u64::MAX }),
            interrupted: Arc::default(),
            end_at_signals: AtomicBool::new(false),
            end_at_retirement: AtomicBool::new(false),
            waiter: Waiter::default(),
        })
    }

    pub(crate) fn write(&self, bytes: Bytes<'_>, timeout: Option<Duration>) -> Result<u64> {
        let len = bytes.len();
        let token = self.reserve_token(len as u64, timeout)?;
        // It fits: as many bytes were reserved.
        self.segment.fill(self.segment.place_of_loan(token.slot(), len as u64), bytes);
        Ok(self
            .commit_token(token, len as u64, Right::Sole)
            .inspect_err(|_| self.discard_loan(token))?)
    }

    pub(crate) fn wait_space(&self, timeout: Option<Duration>) -> Result<()> {
        let table = self.segment.table()?;
        Ok(self.wait_until(timeout, || loan::has_space(table))?)
    }

    pub(crate) fn wait_readers(&self, count: u32, timeout: Option<Duration>) -> Result<()> {
        let table = self.segment.table()?;
        let most = self.segment.geometry().max_readers;
        if count > most {
            return Err(Error::new(Code::Invalid)
                .about(format_args!("{count} readers can never join: max_readers is {most}"))
                .advice("wait for fewer, or create the segment with a larger max_readers")
                .with_numbers([count.into(), most.into(), 0]));
        }
        self.wait_until(timeout, || rows::joined(table) >= count).map_err(|code| match code {
            Code::Again | Code::Timeout => {
                let joined = rows::joined(table);
                Error::new(code)
                    .about(format_args!("{joined} of {count} readers have joined"))
                    .with_numbers([count.into(), joined.into(), 0])
            }
            _ => code.into(),
        })
    }

    fn wait_until(&self, timeout: Option<Duration>, is_so: impl Fn() -> bool) -> HotResult<()> {
        let ready = || Ok(is_so().then_some(()));
        if is_so() {
            return Ok(());
        }
        if timeout == Some(Duration::ZERO) {
            return self.try_armed(ready)?.ok_or_else(|| match self.is_over() {
                true => Code::Retired,
                false => Code::Again,
            });
        }
        self.wait(timeout, ready, ready)
    }

    /// If this writer waits in an event loop, arms that and tries again.
    fn try_armed<T>(
        &self,
        mut attempt: impl FnMut() -> HotResult<Option<T>>,
    ) -> HotResult<Option<T>> {
        if !self.waiter.arm_if_any(&self.segment, WaitFor::Space)? {
            return Ok(None);
        }
        let found = attempt()?;
        if found.is_some() {
            self.waiter.has_found(&self.segment);
        }
        Ok(found)
    }

    /// What a reserve does that has found nothing and does not wait.
    fn try_at_last<T>(&self, mut attempt: impl FnMut() -> HotResult<Option<T>>) -> HotResult<T> {
        let mut found = if self.segment.recover_if_due()? { attempt()? } else { None };
        if found.is_none() {
            found = self.try_armed(attempt)?;
        }
        found.ok_or_else(|| match self.waiter.is_used() && self.is_over() {
            true => Code::Retired,
            false => Code::NoFreeSlot,
        })
    }

    /// The descriptor for an event loop; made at the first call.
    pub(crate) fn descriptor(&self, arm: Arm) -> Result<&Descriptor> {
        self.segment.writable()?;
        self.waiter.descriptor(&self.segment, arm)
    }

    /// Becomes a member of a set.
    pub(crate) fn enter(&self, member: &Arc<InSet>) -> Result<()> {
        self.waiter.enter(member)
    }

    /// Arms what it waits behind; whether there is a slot to reserve all the same.
    pub(crate) fn arm(&self) -> HotResult<bool> {
        let table = self.segment.table()?;
        self.waiter.arm(&self.segment, WaitFor::Space)?;
        if loan::has_space(table) {
            self.waiter.has_found(&self.segment);
            return Ok(true);
        }
        if self.is_over() { Err(Code::Retired) } else { Ok(false) }
    }

    /// Whether the segment has lost its name, if that ends waits.
    fn is_over(&self) -> bool {
        self.end_at_retirement.load(Ordering::Relaxed) && self.segment.lost_its_name()
    }

    pub(crate) fn interrupter(&self) -> Interrupter {
        Interrupter::new(&self.segment, &self.interrupted, WaitFor::Space)
    }

    pub(crate) fn interrupt(&self) -> HotResult<()> {
        interrupt(&self.segment, &self.interrupted, WaitFor::Space)
    }

    pub(crate) fn end_waits(&self, when: EndWaits) -> Result<()> {
        self.segment.table()?;
        let when = when.not_of_readers()?;
        self.end_at_signals.store(when.signal, Ordering::Relaxed);
        self.end_at_retirement.store(when.retired, Ordering::Relaxed);
        self.waiter.look_again(&self.segment);
        Ok(())
    }

    pub(crate) fn blockers(&self) -> Result<u64> {
        Ok(loan::blockers(self.segment.table()?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.owner.0
    }

    pub(crate) fn segment(&self) -> &Writable {
        &self.segment
    }

    /// Loans out; 0 if there is no limit, because then they are not counted.
    pub(crate) fn loan_count(&self) -> u32 {
        self.loans.load(Ordering::Relaxed)
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    #[inline(always)]
    pub(crate) fn reserve_token(&self, len: u64, timeout: Option<Duration>) -> HotResult<Token> {
        match self.try_reserve(len) {
            Some(token) => Ok(token),
            None => self.reserve_after(len, timeout),
        }
    }

    /// The same where the oldest samples are dropped.
    #[inline(always)]
    fn try_reserve_dropping(&self, len: u64) -> Option<Token> {
        if len < self.short.dropping_below { self.try_claim_dropping(len) } else { None }
    }

    #[inline(never)]
    fn try_claim_dropping(&self, len: u64) -> Option<Token> {
        self.try_claim_home::<Dropping>(self.segment.table().ok()?, len)
    }

    /// The same after [`Core::try_reserve`].
    #[inline(always)]
    pub(crate) fn reserve_after(&self, len: u64, timeout: Option<Duration>) -> HotResult<Token> {
        match self.try_reserve_dropping(len) {
            Some(token) => Ok(token),
            None => self.reserve_slow(len, timeout),
        }
    }

    /// The same in the most common cases; `None` in all others, and then nothing has changed.
    #[inline(always)]
    pub(crate) fn try_reserve(&self, len: u64) -> Option<Token> {
        let table = self.segment.table().ok()?;
        if len < self.short.alone_below {
            self.try_claim_home::<Calm<true>>(table, len)
        } else if len < self.short.among_below {
            self.try_claim_home::<Calm<false>>(table, len)
        } else {
            None
        }
    }

    /// The slot that the next sequence has in a segment of this kind, if it is free.
    #[inline(always)]
    fn try_claim_home<K: Kind>(&self, table: &Table<'_>, len: u64) -> Option<Token> {
        // Relaxed: a guess, which the claim checks.
        let mut next = table.hot.tail.0.load(Ordering::Relaxed);
        let shape = K::known(&table.shape);
        if shape.receipts && !shape.single_writer {
            next = self.calm.next(next);
        }
        loan::try_claim::<K>(table, self.hand.first, table.slots.home(next), len)
    }

    /// A free slot for callers that do not need the order, in the common case: the next one for
    /// small payloads, or one that this writer had before.
    #[inline(always)]
    pub(crate) fn try_claim_free(&self, table: &Table<'_>, len: u64) -> Option<Token> {
        match self.first {
            First::Next => self.try_claim_next(table, len),
            First::Last | First::Few => {
                self.recent.first().and_then(|slot| self.try_claim(table, slot, len))
            }
        }
    }

    /// The next slot in the order, if it is free, or else the one that is guessed to be.
    #[inline(always)]
    fn try_claim_next(&self, table: &Table<'_>, len: u64) -> Option<Token> {
        // Without a jump through a table.
        let claimed = if self.kind == KindOf::CalmAlone {
            self.try_claim_home::<Calm<true>>(table, len)
        } else if self.kind == KindOf::CalmAmong {
            self.try_claim_home::<Calm<false>>(table, len)
        } else {
            let tail = table.hot.tail.0.load(Ordering::Relaxed);
            self.try_claim(table, table.shape.home_of_plain(tail), len)
        };
        match claimed {
            None => self.try_claim_guess(table, len),
            claimed => claimed,
        }
    }

    /// The slot that is guessed to be free, unless slots are freed in order: then it is not, and a
    /// look at it would take its line from the reader.
    #[inline(never)]
    fn try_claim_guess(&self, table: &Table<'_>, len: u64) -> Option<Token> {
        if self.in_order.load(Ordering::Relaxed) {
            return None;
        }
        let slot = self.cycle.guess()?;
        let claimed = self.try_claim(table, slot, len)?;
        self.cycle.note(slot);
        Some(claimed)
    }

    /// The slot of a number, if it is free and the kind is a common one.
    #[inline(never)]
    fn try_claim(&self, table: &Table<'_>, slot: u32, len: u64) -> Option<Token> {
        let first = self.hand.first;
        let slot = (slot, table.slots.get(slot)?);
        match self.kind {
            KindOf::CalmAlone => loan::try_claim::<Calm<true>>(table, first, slot, len),
            KindOf::CalmAmong => loan::try_claim::<Calm<false>>(table, first, slot, len),
            KindOf::Dropping => loan::try_claim::<Dropping>(table, first, slot, len),
            KindOf::Any => None,
        }
    }

    /// A free slot, wherever it is.
    pub(crate) fn claim_free(&self, table: &Table<'_>) -> HotResult<Option<Loaned>> {
        if let Some(loan) = self.claim_used(table)? {
            return Ok(Some(loan));
        }
        match self.reserve_first(table)? {
            None => self.claim_from_map(table),
            found => Ok(found),
        }
    }

    /// A slot that this writer had before, without a search of the vacancy map.
    fn claim_used(&self, table: &Table<'_>) -> HotResult<Option<Loaned>> {
        match self.first {
            First::Next => self.cycle.search(|slot| loan::claim_slot(table, self.owner, slot)),
            First::Last | First::Few => self.reserve_recent(table, 1),
        }
    }

    /// A free slot where this writer looks first.
    #[inline(always)]
    fn reserve_first(&self, table: &Table<'_>) -> HotResult<Option<Loaned>> {
        match self.first {
            First::Next => loan::claim_home(table, self.owner),
            First::Last | First::Few => self.reserve_used(table),
        }
    }

    /// A free slot that was used recently, if there is one, and otherwise the next in the order.
    #[inline(never)]
    fn reserve_used(&self, table: &Table<'_>) -> HotResult<Option<Loaned>> {
        let few = self.first == First::Few;
        let mut found = self.reserve_recent(table, if few { RECENT } else { 1 })?;
        if few && found.is_none() {
            // The lowest one, which may have been used, too.
            found = self.claim_from_map(table)?;
        }
        if found.is_some() {
            return Ok(found);
        }
        // With few slots, the last resort: a process that is stopped before it has set a hint keeps
        // a slot out of the map.
        let found = loan::claim_home(table, self.owner)?;
        Ok(found.inspect(|loan| self.recent.note(loan.slot)))
    }

    /// One of the slots that this writer got recently, if it is free again, without a search of the
    /// vacancy map.
    fn reserve_recent(&self, table: &Table<'_>, most: usize) -> HotResult<Option<Loaned>> {
        for slot in self.recent.slots().take(most) {
            if let Some(loan) = loan::claim_slot(table, self.owner, slot)? {
                self.recent.note(slot);
                return Ok(Some(loan));
            }
        }
        Ok(None)
    }

    fn claim_from_map(&self, table: &Table<'_>) -> HotResult<Option<Loaned>> {
        let found = loan::claim_from_map(table, self.owner)?;
        Ok(found.inspect(|loan| match self.first {
            First::Next => self.cycle.note(loan.slot),
            First::Last | First::Few => self.recent.note(loan.slot),
        }))
    }

    /// A reserve where the first looks have found nothing.
    #[inline(never)]
    fn reserve_slow(&self, len: u64, timeout: Option<Duration>) -> HotResult<Token> {
        let table = self.segment.table()?;
        if self.kind == KindOf::CalmAmong {
            self.calm.move_tail(table);
        }
        if len > table.shape.capacity {
            let slot = |wanted| self.slot_for_region(table, wanted);
            return Ok(self.reserve_large(table, len, timeout, slot)?);
        }
        if self.short.has(len) {
            if let Some(token) = self.try_claim_guess(table, len) {
                return Ok(token);
            }
        }
        self.count_loan()?;
        let found = match self.reserve_first(table) {
            Ok(Some(loan)) => Ok(loan),
            Ok(None) => self.reserve_contended(table, timeout),
            Err(code) => Err(code),
        };
        found
            .and_then(|loan| {
                store_reservation(
                    table,
                    Token::new(loan.slot, loan.generation),
                    len,
                    Place::Slot(loan.slot),
                )
            })
            .inspect_err(|_| self.uncount_loan())
    }

    /// Reserves for a payload that goes to a region. `slot` claims the slot: any, or one whose
    /// sample has a region.
    pub(crate) fn reserve_large(
        &self,
        table: &Table<'_>,
        len: u64,
        timeout: Option<Duration>,
        slot: impl Fn(Wanted) -> HotResult<Option<Loaned>>,
    ) -> Result<Token> {
        if len > table.shape.max_payload {
            return Err(Code::TooLarge.into());
        }
        self.count_loan()?;
        let found = self.find_region(table, len, timeout, slot);
        let made = found.map_err(Error::from).and_then(|(loan, region)| {
            self.segment.provide(region, len).map(|()| (loan, region)).inspect_err(|_| {
                // This frees the region, too. The first error is the one to report.
                let _ = loan::discard(table, loan);
            })
        });
        made.and_then(|(loan, region)| {
            Ok(store_reservation(
                table,
                Token::new(loan.slot, loan.generation),
                len,
                Place::Region(region),
            )?)
        })
        .inspect_err(|_| self.uncount_loan())
    }

    /// A slot and a region, as the policy says.
    fn find_region(
        &self,
        table: &Table<'_>,
        len: u64,
        timeout: Option<Duration>,
        slot: impl Fn(Wanted) -> HotResult<Option<Loaned>>,
    ) -> HotResult<(Loaned, u32)> {
        let attempt = || try_region(table, len, &slot);
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if !self.may_wait(timeout) {
            return self.try_at_last(attempt);
        }
        let cheap = || if region::any_free(table)? { attempt() } else { Ok(None) };
        self.wait(timeout, cheap, attempt).map_err(nothing_free)
    }

    /// A slot for a payload in a region: any, or one whose sample has a region and may be taken
    /// from its readers.
    fn slot_for_region(&self, table: &Table<'_>, wanted: Wanted) -> HotResult<Option<Loaned>> {
        match wanted {
            Wanted::AnySlot => match loan::claim_home(table, self.owner)? {
                None => self.try_contended(table),
                found => Ok(found),
            },
            Wanted::Region if table.shape.drop_oldest => {
                reclaim::reclaim_oldest(table, self.owner, wanted, &self.resume)
            }
            Wanted::Region => Ok(None),
        }
    }

    fn may_wait(&self, timeout: Option<Duration>) -> bool {
        self.segment.geometry().policy != Policy::Fail && timeout != Some(Duration::ZERO)
    }

    #[inline(never)]
    fn reserve_contended(
        &self,
        table: &Table<'_>,
        mut timeout: Option<Duration>,
    ) -> HotResult<Loaned> {
        let may_wait = self.may_wait(timeout);
        let blocks = self.segment.geometry().policy == Policy::Block;
        if may_wait && blocks && self.first != First::Few && self.in_order.load(Ordering::Relaxed) {
            let since = sys::monotonic_ns();
            if let Some(loan) = self.spin_for_free_run(table, timeout)? {
                return Ok(loan);
            }
            let spent = Duration::from_nanos(sys::monotonic_ns().saturating_sub(since));
            timeout = timeout.map(|timeout| timeout.saturating_sub(spent));
        }
        if let Some(loan) = self.try_contended(table)? {
            return Ok(loan);
        }
        let anywhere = || match self.reserve_first(table)? {
            Some(loan) => Ok(Some(loan)),
            None => self.try_contended(table),
        };
        if !may_wait {
            return self.try_at_last(anywhere);
        }
        let cheap = || match self.first {
            First::Next | First::Last => loan::claim_home(table, self.owner),
            First::Few => self.claim_from_map(table),
        };
        self.wait(timeout, cheap, anywhere).map_err(nothing_free)
    }

    /// Polls for the next slots in the order, where slots are freed in order: there nobody writes
    /// to the vacancy map, and a search of it would be the first to.
    ///
    /// A writer that takes each slot as soon as it is freed follows the reader closely, and both
    /// wait for one line at each sample. So this waits for a run of free slots, but not for long,
    /// because the reader may have stopped.
    fn spin_for_free_run(
        &self,
        table: &Table<'_>,
        timeout: Option<Duration>,
    ) -> HotResult<Option<Loaned>> {
        let limit = timeout.map_or(self.segment.spin(), |timeout| timeout.min(self.segment.spin()));
        let mut polls = POLLS_FOR_A_RUN - 1;
        let found = spin(limit, || {
            polls = (polls + 1) % POLLS_FOR_A_RUN;
            if polls == 0 || loan::has_free_run(table) {
                loan::claim_home(table, self.owner)
            } else {
                Ok(None)
            }
        })?;
        if found.is_some() { Ok(found) } else { loan::claim_home(table, self.owner) }
    }

    /// A slot out of order, or one taken from readers if the policy allows it.
    fn try_contended(&self, table: &Table<'_>) -> HotResult<Option<Loaned>> {
        if !self.in_order.load(Ordering::Relaxed) {
            if let Some(loan) = self.claim_used(table)? {
                return Ok(Some(loan));
            }
        }
        let found = self.claim_from_map(table)?;
        self.in_order.store(found.is_none(), Ordering::Relaxed);
        if found.is_some() {
            return Ok(found);
        }
        history::help_history(table)?;
        let found = self.claim_from_map(table)?;
        if found.is_some() || !table.shape.drop_oldest {
            return Ok(found);
        }
        match reclaim::reclaim_oldest(table, self.owner, Wanted::AnySlot, &self.resume)? {
            // A slot that was held when the search passed it may be free by now.
            None => self.claim_from_map(table),
            found => Ok(found),
        }
    }

    /// Polls `cheap`, then sleeps until `thorough` has an answer. The caller has already checked,
    /// and wants to wait.
    fn wait<T>(
        &self,
        timeout: Option<Duration>,
        cheap: impl FnMut() -> HotResult<Option<T>>,
        mut thorough: impl FnMut() -> HotResult<Option<T>>,
    ) -> HotResult<T> {
        let deadline = deadline_of(timeout);
        let limit = timeout.map_or(self.segment.spin(), |timeout| timeout.min(self.segment.spin()));
        if let Some(answer) = spin(limit, cheap)? {
            return Ok(answer);
        }
        // A dead process may have what it waits for.
        self.segment.recover_if_due()?;
        let interrupted = |signalled| {
            self.interrupted.swap(false, Ordering::Acquire)
                || signalled && self.end_at_signals.load(Ordering::Relaxed)
        };
        let found_or_over = || {
            let found = thorough()?;
            if found.is_none() && self.is_over() { Err(Code::Retired) } else { Ok(found) }
        };
        sleep_until(&[&self.segment], WaitFor::Space, deadline, found_or_over, interrupted)
    }

    #[inline(always)]
    pub(crate) fn count_loan(&self) -> HotResult<()> {
        if self.segment.max_loans() == 0 {
            return Ok(());
        }
        self.count_limited_loan()
    }

    /// Never above the limit, not even for a moment: another thread would be refused for that.
    #[inline(never)]
    fn count_limited_loan(&self) -> HotResult<()> {
        let one_more = |loans| (loans < self.segment.max_loans()).then(|| loans + 1);
        match self.loans.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(()),
            Err(_) => Err(Code::LoanLimit),
        }
    }

    #[inline(always)]
    pub(crate) fn uncount_loan(&self) {
        if self.segment.max_loans() != 0 {
            self.loans.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Publishes for the joined readers.
    #[inline(always)]
    pub(crate) fn commit_token(&self, token: Token, len: u64, right: Right) -> HotResult<u64> {
        match self.try_commit(token, len, right) {
            Some(sequence) => Ok(sequence.get()),
            None => self.commit_attentively(token, len, right).unpack(),
        }
    }

    /// Publishes in a segment that is calm; `None` if it is not, or if an error is to be told: then
    /// nothing has changed.
    #[inline(always)]
    pub(crate) fn try_commit(&self, token: Token, len: u64, right: Right) -> Option<NonZeroU64> {
        if self.kind == KindOf::CalmAlone {
            self.commit_calmly::<true>(token, len, right)
        } else if self.kind == KindOf::CalmAmong {
            self.commit_calmly::<false>(token, len, right)
        } else {
            None
        }
    }

    #[inline(always)]
    pub(crate) fn kind(&self) -> KindOf {
        self.kind
    }

    /// [`Core::try_commit`] in a segment of this kind.
    #[inline(always)]
    pub(crate) fn commit_calmly<const ALONE: bool>(
        &self,
        token: Token,
        len: u64,
        right: Right,
    ) -> Option<NonZeroU64> {
        let segment: &Attachment = &self.segment;
        let table = segment.table().ok()?;
        let known = self.calm.memory.known();
        let guess = || self.calm.guess();
        let publish_by = || match self.readers_lag.load(Ordering::Relaxed) {
            true => PublishBy::Store,
            false => PublishBy::Exchange,
        };
        let manner = Manner { right, publish_by };
        let sequence = calm::commit::<ALONE>(table, &self.hand, known, token, len, manner, guess)?;
        if !ALONE {
            self.calm.note(table, sequence.get(), 1);
        }
        self.prefetch_payload(segment, table, sequence.get());
        Some(sequence)
    }

    /// Publishes in a segment that has changed, or that is not calm.
    #[inline(never)]
    fn commit_attentively(&self, token: Token, len: u64, right: Right) -> Packed {
        // A loan that is counted does not end in the calm path.
        let may_be_calm = self.kind == KindOf::CalmAlone || self.kind == KindOf::CalmAmong;
        if may_be_calm
            && self.segment.max_loans() == 0
            && self.segment.table().is_ok_and(|table| self.calm.memory.learn(table))
        {
            if let Some(sequence) = self.try_commit(token, len, right) {
                return Packed::sequence(sequence.get());
            }
        }
        self.commit_to(token, len, Owed::Members)
    }

    /// Publishes for the joined readers and for `readers`, which the caller tracks.
    #[inline(always)]
    pub(crate) fn commit_named(&self, token: Token, len: u64, readers: u64) -> HotResult<u64> {
        self.commit_to(token, len, Owed::External(readers)).unpack()
    }

    /// [`Core::commit_token`] for a loan that its caller alone has. What it calls is out of line, so
    /// that it is not compiled into every caller of [`Loan::commit`](super::Loan::commit).
    #[inline(always)]
    pub(super) fn commit_loan(&self, token: Token, len: u64) -> HotResult<u64> {
        (self.commit_own)(self, token, len).unpack()
    }

    fn commit_own_calmly<const ALONE: bool>(&self, token: Token, len: u64) -> Packed {
        match self.commit_calmly::<ALONE>(token, len, Right::Sole) {
            Some(sequence) => Packed::sequence(sequence.get()),
            None => self.commit_attentively(token, len, Right::Sole),
        }
    }

    fn commit_own_as<K: Kind>(&self, token: Token, len: u64) -> Packed {
        self.commit_as::<K>(token, len, Owed::Members)
    }

    /// Prefetches the line of a payload that will be used soon, if the next slots are free, because
    /// the cache of its last reader has it. It happens after a commit, when polling readers have
    /// the sample.
    #[inline(always)]
    pub(super) fn prefetch_payload(&self, segment: &Attachment, table: &Table<'_>, sequence: u64) {
        let ahead = sequence.wrapping_add(AHEAD);
        if ahead < self.run_end.load(Ordering::Relaxed) {
            let (slot, _) = table.slots.home(ahead);
            cache::prefetch_write(segment.payload_in_slot(slot));
        } else if ahead >= self.next_look.load(Ordering::Relaxed) {
            self.look_for_run(table, sequence);
        }
    }

    /// Whether it pays to prefetch: checked once per half lap while it does, and once per eighth
    /// while it does not, since each check takes a line from a reader.
    #[inline(never)]
    fn look_for_run(&self, table: &Table<'_>, sequence: u64) {
        let slots = u64::from(table.shape.slots);
        let previous = table.shape.home_of_plain(sequence.wrapping_sub(1));
        self.readers_lag.store(!loan::seems_free(table, previous), Ordering::Relaxed);
        if loan::has_free_run(table) {
            self.run_end.store(sequence.wrapping_add(slots / 2), Ordering::Relaxed);
        }
        self.next_look.store(sequence.wrapping_add(AHEAD + slots / 8), Ordering::Relaxed);
    }

    /// Publishes for the readers that `owed` names, in any segment: the general form of
    /// [`Core::commit_token`].
    #[inline(always)]
    fn commit_to(&self, token: Token, len: u64, owed: Owed) -> Packed {
        // Compiled separately, so that each has fewer registers to save.
        match self.kind {
            KindOf::CalmAlone => self.commit_as::<Calm<true>>(token, len, owed),
            KindOf::CalmAmong => self.commit_as::<Calm<false>>(token, len, owed),
            KindOf::Dropping => self.commit_as::<Dropping>(token, len, owed),
            KindOf::Any => self.commit_as::<Any>(token, len, owed),
        }
    }

    #[inline(never)]
    fn commit_as<K: Kind>(&self, token: Token, len: u64, owed: Owed) -> Packed {
        self.commit_in::<K>(token, len, owed).into()
    }

    #[inline(always)]
    fn commit_in<K: Kind>(&self, token: Token, len: u64, owed: Owed) -> HotResult<u64> {
        let table = self.segment.table()?;
        let loan = self.loaned(token);
        let sequence = commit::commit::<K>(table, loan, len, owed, sys::monotonic_ns)?;
        if table.shape.receipts {
            self.calm.settle(table, 1);
        }
        self.uncount_loan();
        Ok(sequence)
    }

    pub(crate) fn discard_token(&self, token: Token) -> HotResult<()> {
        loan::discard(self.segment.table()?, self.loaned(token))?;
        self.uncount_loan();
        Ok(())
    }

    /// Gives back a loan that has not ended.
    #[inline(never)]
    pub(super) fn discard_loan(&self, token: Token) {
        // In a segment that was corrupted meanwhile there is nothing to give back.
        let _ = self.discard_token(token);
    }

    /// How many bytes a loan was reserved for; stale if it has ended.
    pub(crate) fn reserved(&self, token: Token) -> HotResult<u64> {
        let reserved = self.reservation(token)?;
        Ok(reserved.len().min(self.segment.table()?.room(reserved.place(token.slot()))?))
    }

    /// What a loan was reserved for, as the segment records it; stale if it has ended.
    #[inline(always)]
    pub(crate) fn reservation(&self, token: Token) -> HotResult<Reserved> {
        let table = self.segment.table()?;
        if !loan::is_loaned(table, self.loaned(token)) {
            return Err(Code::Stale);
        }
        Ok(Reserved(table.claim(token.slot())?.aux.load(Ordering::Relaxed)))
    }

    #[inline(always)]
    fn loaned(&self, token: Token) -> Loaned {
        Loaned { slot: token.slot(), generation: token.generation(), owner: self.owner }
    }

    /// The loan with this payload address, if it is one of this writer's.
    pub(crate) fn token_at(&self, payload: *const u8) -> HotResult<Token> {
        let table = self.segment.table()?;
        let (slot, place) = self.segment.slot_of(payload).ok_or(Code::Stale)?;
        let loan = loan::loan_of(table, slot, self.owner)?;
        // A loan that was reserved for a slot cannot be in a region, and the other way round.
        if Reserved(table.claim(slot)?.aux.load(Ordering::Relaxed)).place(slot) != place {
            return Err(Code::Stale);
        }
        Ok(Token::new(loan.slot, loan.generation))
    }
}

/// What a reserve returns when its time is over.
fn nothing_free(code: Code) -> Code {
    if code == Code::Timeout { Code::NoFreeSlot } else { code }
}

/// Stores beside the claim what a loan was reserved for.
#[inline(always)]
fn store_reservation(table: &Table<'_>, token: Token, len: u64, place: Place) -> HotResult<Token> {
    // Relaxed: only the holder of the token loads it.
    table.claim(token.slot())?.aux.store(Reserved::new(len, place).0, Ordering::Relaxed);
    Ok(token)
}

pub(crate) fn user_header_too_large(wanted: usize, room: u32) -> Error {
    Error::new(Code::TooLarge)
        .about(format_args!("{wanted} bytes do not fit a user header of {room}"))
        .advice("write less, or create the segment with a larger user_header_size")
        .with_numbers([wanted as u64, room.into(), 0])
}

pub(crate) fn too_large(wanted: u64, most: u64) -> Error {
    Error::new(Code::TooLarge)
        .about(format_args!("the payload has {wanted} bytes, and the segment takes at most {most}"))
        .with_numbers([wanted, most, 0])
}

/// Tries again as long as others are faster.
fn try_region(
    table: &Table<'_>,
    len: u64,
    slot: &impl Fn(Wanted) -> HotResult<Option<Loaned>>,
) -> HotResult<Option<(Loaned, u32)>> {
    for _ in 0..RACE_LIMIT {
        match try_region_once(table, len, slot)? {
            Try::Found(loan, region) => return Ok(Some((loan, region))),
            Try::Lost => {}
            Try::Nothing => break,
        }
    }
    Ok(None)
}

fn try_region_once(
    table: &Table<'_>,
    len: u64,
    slot: &impl Fn(Wanted) -> HotResult<Option<Loaned>>,
) -> HotResult<Try> {
    let mut some_free = region::any_free(table)?;
    if !some_free {
        history::help_history(table)?;
        some_free = region::any_free(table)?;
    }
    let Some(loan) = slot(if some_free { Wanted::AnySlot } else { Wanted::Region })? else {
        // A region that was in use when a search passed it may be free by now, and a free one may
        // have been taken.
        return Ok(if !some_free && region::any_free(table)? { Try::Lost } else { Try::Nothing });
    };
    match region::lease(table, loan, len) {
        Ok(Some(region)) => Ok(Try::Found(loan, region)),
        lost => {
            loan::discard(table, loan)?;
            lost.map(|_| Try::Lost)
        }
    }
}

/// The result of an attempt to get a slot and a region.
enum Try {
    Found(Loaned, u32),
    /// Others were faster.
    Lost,
    Nothing,
}

/// Makes `owner` the only writer of a single-writer segment.
fn become_the_writer(segment: &Attachment, owner: Owner) -> Result<()> {
    let table = segment.table()?;
    let word = &table.hot.lifecycle.0.writer;
    // AcqRel: the next writer sees everything that the previous one has done.
    let take =
        || word.compare_exchange(0, owner.0 + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if !take() {
        // It may belong to a dead writer. It may be free now, whoever recovered it.
        segment.recover()?;
        if !take() {
            return Err(Code::WriterExists.into());
        }
    }
    // The previous writer may have been stopped between its last publication and the tail.
    order::settled_tail(table).map(drop).map_err(|code| {
        word.store(0, Ordering::Release);
        code.into()
    })
}

impl Drop for Core {
    /// Discards the remaining loans. The segment takes the writer's number back.
    fn drop(&mut self) {
        let Ok(table) = self.segment.table() else { return };
        for slot in 0..table.shape.slots {
            if let Ok(token) = loan::loan_of(table, slot, self.owner) {
                // Nobody else ends a loan of this writer.
                let _ = loan::discard(table, token);
            }
        }
        if self.segment.geometry().single_writer {
            // Release: pairs with the exchange in `become_the_writer`.
            table.hot.lifecycle.0.writer.store(0, Ordering::Release);
        }
    }
}
