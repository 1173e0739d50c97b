//! The receiver: it maps regions that arrived over a channel, and resolves references to addresses
//! in them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::channel::{Announced, Channel, ChannelOptions, is_shortage};
use crate::error::{Code, Error, Result};
use crate::pool::body::Body;
use crate::sys::socket::Foreign;
use crate::sys::{self, ForkGuard};
use crate::wait::{deadline_of, timeout_code};

/// The regions of one sender that are mapped here. Any thread.
pub struct Attachments {
    birth: ForkGuard,
    channel: Option<Channel>,
    unsealed: bool,
    regions: Mutex<Regions>,
    /// Bytes of this sender that are mapped here, including those that only resolved references
    /// still use.
    bytes: Arc<AtomicU64>,
    /// The limit of these bytes.
    most: u64,
}

#[derive(Default)]
struct Regions {
    known: BTreeMap<u32, Known>,
    /// Regions that could not be mapped yet.
    waiting: BTreeSet<u32>,
}

/// The newest region of a number that has arrived.
struct Known {
    /// From its message.
    generation: u32,
    identity: (u64, u64),
    length: u64,
    memory: Memory,
}

enum Memory {
    Mapped(Arc<Counted>),
    /// There was no memory, or no room, to map it: it will be tried again.
    Waiting(Announced),
}

/// A mapping that counts in its sender's bytes as long as it lives.
struct Counted {
    body: Body,
    bytes: Arc<AtomicU64>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Relaxed: a count, on which nothing else depends.
        self.bytes.fetch_sub(self.body.mapped(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachments").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Most regions of one sender: a hostile one must not use up this process's mappings.
const MAX_REGIONS: usize = 1 << 14;
/// Most regions that wait to be mapped while others are received: each keeps a descriptor open.
const MAX_WAITING: usize = 64;
/// Messages that one call receives; more than a socket holds.
const DRAINED_AT_ONCE: u32 = 1 << 12;

impl Attachments {
    /// Attachments for the messages of a channel, if one is given, and for descriptors that arrive
    /// by other means. Make one for each channel.
    pub fn new(channel: Option<&Channel>, options: &ChannelOptions) -> Result<Attachments> {
        if let Some(channel) = channel {
            channel.link().here()?;
        }
        Ok(Attachments {
            birth: ForkGuard::of_this_process()?,
            channel: channel.cloned(),
            unsealed: options.unsealed,
            regions: Mutex::default(),
            bytes: Arc::default(),
            // Regions of an honest sender have memory behind them: at most all of it. A region that
            // the sender has retired may still be in use here while its memory is reused.
            most: sys::machine_memory().saturating_mul(2),
        })
    }

    /// Whether this is the process that made them.
    pub(crate) fn here(&self) -> Result<()> {
        if self.birth.same_process() { Ok(()) } else { Err(Code::Forked.into()) }
    }

    /// Releases every region; what was resolved stays mapped.
    pub(crate) fn close(&self) {
        if let Ok(mut regions) = self.regions() {
            *regions = Regions::default();
        }
    }

    // A panic cannot have left a region half recorded.
    fn regions(&self) -> Result<MutexGuard<'_, Regions>> {
        self.here()?;
        Ok(self.regions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Maps every region that has arrived over the channel, and returns how many. Never waits. A
    /// region for which there is no memory is kept, and the error says so; the others are mapped
    /// anyway.
    pub fn drain(&self) -> Result<u32> {
        let mut regions = self.regions()?;
        let (count, short) = self.drain_into(&mut regions)?;
        short.map_or(Ok(count), Err)
    }

    /// How many regions were mapped, and the error of one that was not and will be tried again.
    fn drain_into(&self, regions: &mut Regions) -> Result<(u32, Option<Error>)> {
        let Some(channel) = &self.channel else { return Ok((0, None)) };
        let mut short = None;
        let mut count: u32 = 0;
        for map_id in regions.waiting.clone() {
            match self.map_waiting(regions, map_id) {
                Ok(()) => count = count.saturating_add(1),
                Err(error) if is_local(&error) => short = Some(error),
                Err(error) => return Err(error),
            }
        }
        // A sender that never stops does not block the caller for ever: it calls again.
        for _ in 0..DRAINED_AT_ONCE {
            let Some(region) = channel.link().next_region()? else { break };
            match self.learn(regions, &region) {
                Ok(()) => count = count.saturating_add(1),
                Err(error) if is_shortage(&error) => {
                    if regions.waiting.len() >= MAX_WAITING {
                        channel.link().put_back(region);
                        return Err(error);
                    }
                    regions.set(region.map_id, Known::waiting(region));
                    short = Some(error);
                }
                Err(error) if is_local(&error) => short = Some(error),
                Err(error) => return Err(channel.link().poison(error)),
            }
        }
        Ok((count, short))
    }

    /// Maps a region whose descriptor arrived by other means. A region that is already known is
    /// unchanged.
    pub fn attach_fd(
        &self,
        map_id: u32,
        generation: u32,
        length: u64,
        file: OwnedFd,
    ) -> Result<()> {
        let mut regions = self.regions()?;
        let file = Foreign::new(sys::keep(file)?)?;
        let facts = Announced::check(map_id, length, file.proved()?, self.unsealed)?;
        self.learn(&mut regions, &Announced { map_id, generation, length, file, facts })?;
        if let Some(channel) = &self.channel {
            channel.link().announce();
        }
        Ok(())
    }

    /// Maps a region, unless this generation of it or a newer one is known. Releases the previous
    /// one.
    fn learn(&self, regions: &mut Regions, region: &Announced) -> Result<()> {
        let known = regions.known.get(&region.map_id);
        if known.is_some_and(|known| !is_newer(region.generation, known.now())) {
            return Ok(());
        }
        if known.is_none() && regions.known.len() >= MAX_REGIONS {
            return Err(Error::new(Code::Invalid)
                .about(format_args!(
                    "region {} is one more than the {MAX_REGIONS} that a sender may have",
                    region.map_id
                ))
                .with_numbers([region.map_id.into(), MAX_REGIONS as u64, 0]));
        }
        let memory = match known.map(|known| (&known.memory, known.identity, known.length)) {
            // A new generation of one file keeps the mapping, and its pages stay present.
            Some((Memory::Mapped(memory), identity, length))
                if identity == region.facts.identity && length == region.length =>
            {
                Arc::clone(memory)
            }
            _ => self.map(region)?,
        };
        regions.set(region.map_id, Known::mapped(region, memory));
        Ok(())
    }

    /// Maps a region that is kept for lack of memory, if it is one.
    fn map_waiting(&self, regions: &mut Regions, map_id: u32) -> Result<()> {
        let Some(Known { memory: Memory::Waiting(region), .. }) = regions.known.get(&map_id) else {
            return Ok(());
        };
        match self.map(region) {
            Ok(memory) => {
                let known = Known::mapped(region, memory);
                regions.set(map_id, known);
                Ok(())
            }
            Err(error) if is_shortage(&error) => Err(error),
            Err(error) if is_local(&error) => {
                regions.forget(map_id);
                Err(error)
            }
            Err(error) => Err(match &self.channel {
                Some(channel) => channel.link().poison(error),
                None => error,
            }),
        }
    }

    fn map(&self, region: &Announced) -> Result<Arc<Counted>> {
        // Relaxed: a count. It grows only under the lock of the regions.
        let total = self.bytes.load(Ordering::Relaxed).saturating_add(region.length);
        if total > self.most {
            return Err(Error::new(Code::Invalid)
                .about(format_args!(
                    "region {} makes {total} bytes of this sender mapped, more than {}",
                    region.map_id, self.most
                ))
                .with_numbers([region.map_id.into(), total, self.most]));
        }
        let body = Body::attach(region.file.proved()?, region.length, region.facts.size)?;
        self.bytes.fetch_add(body.mapped(), Ordering::Relaxed);
        Ok(Arc::new(Counted { body, bytes: Arc::clone(&self.bytes) }))
    }

    /// The address of a reference. Receives what has arrived over the channel if the region is not
    /// known; never waits.
    pub fn resolve(&self, map_id: u32, generation: u32, offset: u64, len: u64) -> Result<Mapped> {
        self.look_up(map_id, generation, offset, len, Some(Duration::ZERO), Code::UnknownMapping)
    }

    /// As [`resolve`](Attachments::resolve), but waits for the region's message if it may still
    /// arrive: [`Code::Again`] or [`Code::Timeout`] if it has not arrived in time.
    pub fn resolve_wait(
        &self,
        map_id: u32,
        generation: u32,
        offset: u64,
        len: u64,
        timeout: Option<Duration>,
    ) -> Result<Mapped> {
        self.look_up(map_id, generation, offset, len, timeout, timeout_code(timeout))
    }

    /// `late` is the code of a region whose message has not come in time.
    fn look_up(
        &self,
        map_id: u32,
        generation: u32,
        offset: u64,
        len: u64,
        timeout: Option<Duration>,
        late: Code,
    ) -> Result<Mapped> {
        let unknown = |code| {
            Err(Error::new(code)
                .about(format_args!("region {map_id} with generation {generation} is not known"))
                .with_numbers([map_id.into(), generation.into(), 0]))
        };
        if offset.checked_add(len).is_none() {
            return Err(Error::new(Code::Overflow)
                .about(format_args!("offset {offset} and length {len} add up to more than 64 bits"))
                .with_numbers([offset, len, 0]));
        }
        let deadline = deadline_of(timeout);
        loop {
            let mut regions = self.regions()?;
            if let Some(reason) =
                self.channel.as_ref().and_then(|channel| channel.link().poisoned())
            {
                return Err(reason);
            }
            let mut events = 0;
            let unheard_of =
                regions.newest(map_id).is_none_or(|newest| is_newer(generation, newest));
            if let (true, Some(channel)) = (unheard_of, &self.channel) {
                // Before the check: the wait notices what arrives after that.
                events = channel.link().events();
                let drained = self.drain_into(&mut regions);
                // What arrived before the end stays valid; otherwise the end is the answer.
                if regions.newest(map_id) != Some(generation) {
                    drained?;
                }
            }
            // The region may be in a later generation than its message says.
            self.map_waiting(&mut regions, map_id)?;
            match regions.known.get(&map_id).map(|known| (known, known.now())) {
                Some((known, newest)) if newest == generation => {
                    return Mapped::new(known, offset, len);
                }
                Some((_, newest)) if is_newer(newest, generation) => {
                    return unknown(Code::UnknownMapping);
                }
                _ => {}
            }
            drop(regions);
            let Some(channel) = &self.channel else { return unknown(Code::UnknownMapping) };
            if timeout == Some(Duration::ZERO) || !channel.link().wait(events, deadline)? {
                return unknown(late);
            }
        }
    }
}

impl Regions {
    fn newest(&self, map_id: u32) -> Option<u32> {
        self.known.get(&map_id).map(Known::now)
    }

    /// Removes all traces of a region: its descriptor was taken away before it could be mapped.
    fn forget(&mut self, map_id: u32) {
        self.waiting.remove(&map_id);
        self.known.remove(&map_id);
    }

    /// Replaces what was known of this region.
    fn set(&mut self, map_id: u32, known: Known) {
        match known.memory {
            Memory::Mapped(_) => self.waiting.remove(&map_id),
            Memory::Waiting(_) => self.waiting.insert(map_id),
        };
        self.known.insert(map_id, known);
    }
}

impl Known {
    fn mapped(region: &Announced, memory: Arc<Counted>) -> Known {
        let Announced { generation, length, .. } = *region;
        Known {
            generation,
            identity: region.facts.identity,
            length,
            memory: Memory::Mapped(memory),
        }
    }

    fn waiting(region: Announced) -> Known {
        let Announced { generation, length, .. } = region;
        Known {
            generation,
            identity: region.facts.identity,
            length,
            memory: Memory::Waiting(region),
        }
    }

    /// Its current generation, from its page if it has one. The message may be much older.
    fn now(&self) -> u32 {
        match &self.memory {
            Memory::Mapped(memory) => memory.body.generation().unwrap_or(self.generation),
            Memory::Waiting(_) => self.generation,
        }
    }
}

/// Whether this process, and not the sender, is the reason why a region cannot be mapped: it lacks
/// a resource, or closed the descriptor.
fn is_local(error: &Error) -> bool {
    is_shortage(error) || error.code() == Code::DescriptorLost
}

/// Generations wrap, so the shorter distance counts.
fn is_newer(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}

/// Bytes of a region, mapped as long as the value lives. They belong to the sender, which may
/// change them once it has released the lease.
#[derive(Clone)]
pub struct Mapped {
    memory: Arc<Counted>,
    offset: u64,
    len: usize,
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("offset", &self.offset).field("len", &self.len).finish()
    }
}

impl Mapped {
    fn new(known: &Known, offset: u64, len: u64) -> Result<Mapped> {
        match (&known.memory, usize::try_from(len)) {
            (Memory::Mapped(memory), Ok(size)) if memory.body.at(offset, len).is_some() => {
                Ok(Mapped { memory: Arc::clone(memory), offset, len: size })
            }
            _ => {
                let total = known.length;
                Err(Error::new(Code::OutOfBounds)
                    .about(format_args!(
                        "offset {offset} and length {len} end beyond a region of {total} bytes"
                    ))
                    .with_numbers([offset, len, total]))
            }
        }
    }

    /// The address of the bytes. Readable for [`Mapped::len`] bytes while the value lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.memory
            .body
            .at(self.offset, self.len as u64)
            .map_or(std::ptr::null(), <*mut u8>::cast_const)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of the whole region that contains them. It is mapped as long as they are.
    pub fn region_ptr(&self) -> *const u8 {
        self.memory.body.at(0, 0).map_or(std::ptr::null(), <*mut u8>::cast_const)
    }

    /// The number of bytes of the region.
    pub fn region_len(&self) -> u64 {
        self.memory.body.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.memory.body.read(self.offset, &mut bytes);
        bytes
    }

    /// Copies the first bytes into `buffer`, up to its length, and returns how many.
    pub fn copy_to(&self, buffer: &mut [u8]) -> usize {
        let len = self.len.min(buffer.len());
        let Some(target) = buffer.get_mut(..len) else { return 0 };
        if self.memory.body.read(self.offset, target) { len } else { 0 }
    }
}
