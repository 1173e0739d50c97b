//! The receiver: regions that came over a channel, mapped to be read, and references resolved to places in them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::region::channel::{Channel, ChannelOptions};
use crate::region::link::Announced;
use crate::sys::mapping::Mapping;
use crate::sys::{self, Birth};
use crate::waiting::deadline_of;

/// The regions of one sender that are mapped here. Any thread.
pub struct Attachments {
    birth: Birth,
    channel: Option<Channel>,
    unsealed: bool,
    regions: Mutex<BTreeMap<u32, Known>>,
}

/// The newest generation of a region.
struct Known {
    generation: u32,
    identity: (u64, u64),
    memory: Arc<Mapping>,
}

impl fmt::Debug for Attachments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachments").field("channel", &self.channel).finish_non_exhaustive()
    }
}

type Regions<'a> = MutexGuard<'a, BTreeMap<u32, Known>>;

/// Most regions of one sender: a hostile one shall not use up this process's mappings.
const MAX_REGIONS: usize = 1 << 14;
/// Messages that one call takes in; more than a socket holds.
const DRAINED_AT_ONCE: u32 = 1 << 12;

impl Attachments {
    /// Of what comes over a channel, if one is given, and of descriptors that come by other means. One for each channel.
    pub fn new(channel: Option<&Channel>, options: &ChannelOptions) -> Result<Attachments> {
        if let Some(channel) = channel {
            channel.link().here()?;
        }
        Ok(Attachments {
            birth: Birth::of_this_process()?,
            channel: channel.cloned(),
            unsealed: options.unsealed,
            regions: Mutex::default(),
        })
    }

    /// Whether this is the process that made them.
    pub(crate) fn here(&self) -> Result<()> {
        if self.birth.is_here() { Ok(()) } else { Err(Code::Forked.into()) }
    }

    /// Lets go of every region; what was resolved stays mapped.
    pub(crate) fn close(&self) {
        if let Ok(mut regions) = self.regions() {
            regions.clear();
        }
    }

    // A panic cannot have left a region half known.
    fn regions(&self) -> Result<Regions<'_>> {
        self.here()?;
        Ok(self.regions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Maps every region that has come over the channel; how many. Never waits.
    pub fn drain(&self) -> Result<u32> {
        let mut regions = self.regions()?;
        self.drain_into(&mut regions)
    }

    fn drain_into(&self, regions: &mut Regions<'_>) -> Result<u32> {
        let Some(channel) = &self.channel else { return Ok(0) };
        let mut count: u32 = 0;
        // A sender that never stops does not keep the caller for ever: it calls again.
        for _ in 0..DRAINED_AT_ONCE {
            let Some(region) = channel.link().next_region()? else { break };
            match learn(regions, &region) {
                Ok(()) => count = count.saturating_add(1),
                // It will have room another time.
                Err(error) if error.code() == Code::NoMemory => {
                    channel.link().put_back(region);
                    return Err(error);
                }
                Err(error) => return Err(channel.link().spoil(error)),
            }
        }
        Ok(count)
    }

    /// Maps a region whose descriptor came by other means. A region that is known already stays as it is.
    pub fn attach_fd(&self, map_id: u32, generation: u32, length: u64, file: OwnedFd) -> Result<()> {
        let mut regions = self.regions()?;
        let region = Announced::check(map_id, generation, length, sys::keep(file)?, self.unsealed)?;
        learn(&mut regions, &region)?;
        if let Some(channel) = &self.channel {
            channel.link().announce();
        }
        Ok(())
    }

    /// Where a reference points to. Takes in what has come over the channel if the region is not known; never waits.
    pub fn resolve(&self, map_id: u32, generation: u32, offset: u64, len: u64) -> Result<Mapped> {
        self.resolve_wait(map_id, generation, offset, len, Some(Duration::ZERO))
    }

    /// The same, and waits for the region's message if it has not come yet. `UnknownMapping` if it does not.
    pub fn resolve_wait(
        &self,
        map_id: u32,
        generation: u32,
        offset: u64,
        len: u64,
        timeout: Option<Duration>,
    ) -> Result<Mapped> {
        let unknown = || {
            let numbers = [u64::from(map_id), u64::from(generation), 0];
            Err(Error::with_numbers(Code::UnknownMapping, "region #, generation #", numbers))
        };
        if offset.checked_add(len).is_none() {
            return Err(Error::with_numbers(Code::Overflow, "offset # and length #", [offset, len, 0]));
        }
        let deadline = deadline_of(timeout);
        loop {
            let mut regions = self.regions()?;
            if let Some(reason) = self.channel.as_ref().and_then(|channel| channel.link().spoiled()) {
                return Err(reason);
            }
            let mut events = 0;
            let unheard_of = newest(&regions, map_id).is_none_or(|newest| is_newer(generation, newest));
            if let (true, Some(channel)) = (unheard_of, &self.channel) {
                // Before looking: what comes after that is noticed by the wait.
                events = channel.link().events();
                let drained = self.drain_into(&mut regions);
                // What was known before the end stays so; else the end is the answer.
                if newest(&regions, map_id) != Some(generation) {
                    drained?;
                }
            }
            match regions.get(&map_id) {
                Some(known) if known.generation == generation => return Mapped::new(known, offset, len),
                Some(known) if is_newer(known.generation, generation) => return unknown(),
                _ => {}
            }
            drop(regions);
            let Some(channel) = &self.channel else { return unknown() };
            if timeout == Some(Duration::ZERO) || !channel.link().wait(events, deadline)? {
                return unknown();
            }
        }
    }
}

fn newest(regions: &Regions<'_>, map_id: u32) -> Option<u32> {
    regions.get(&map_id).map(|known| known.generation)
}

/// Generations wrap: the nearer way round counts.
fn is_newer(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}

/// Maps a region, unless this generation of it, or a newer one, is known. The one before it is let go.
fn learn(regions: &mut Regions<'_>, region: &Announced) -> Result<()> {
    let known = regions.get(&region.map_id);
    if known.is_some_and(|known| !is_newer(region.generation, known.generation)) {
        return Ok(());
    }
    if known.is_none() && regions.len() >= MAX_REGIONS {
        let numbers = [u64::from(region.map_id), MAX_REGIONS as u64, 0];
        return Err(Error::with_numbers(Code::Invalid, "region #, while as many as # are known", numbers));
    }
    // The same file with a new generation keeps its mapping, and the pages that were touched stay so.
    let memory = match known {
        Some(known) if known.identity == region.identity && known.memory.len() == region.length => {
            Arc::clone(&known.memory)
        }
        _ => Arc::new(Mapping::new(region.file.as_fd(), region.length, false)?),
    };
    let known = Known { generation: region.generation, identity: region.identity, memory };
    regions.insert(region.map_id, known);
    Ok(())
}

/// Bytes of a region: mapped as long as the value lives. They are the sender's, who may change them once the lease is
/// given back.
#[derive(Clone)]
pub struct Mapped {
    memory: Arc<Mapping>,
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
        match (known.memory.at(offset, len), usize::try_from(len)) {
            (Some(_), Ok(len)) => Ok(Mapped { memory: Arc::clone(&known.memory), offset, len }),
            _ => {
                let about = "offset # and length # in a region of # bytes";
                Err(Error::with_numbers(Code::OutOfBounds, about, [offset, len, known.memory.len()]))
            }
        }
    }

    /// Where the bytes are. Readable for [`Mapped::len`] bytes while the value lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.at(self.offset, self.len as u64).map_or(std::ptr::null(), <*mut u8>::cast_const)
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.memory.read(self.offset, &mut bytes);
        bytes
    }

    /// Copies the first bytes, as many as there are and as `buffer` takes; how many.
    pub fn copy_to(&self, buffer: &mut [u8]) -> usize {
        let len = self.len.min(buffer.len());
        let Some(target) = buffer.get_mut(..len) else { return 0 };
        if self.memory.read(self.offset, target) { len } else { 0 }
    }
}
