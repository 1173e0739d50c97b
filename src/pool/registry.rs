//! The sender: it leases memory in regions, and announces each region to every channel before the
//! first lease.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::channel::{Channel, Sent, encode};
use crate::error::{Code, Error, Result};
use crate::pool::body::{self, Body};
use crate::sys::socket::Bell;
use crate::sys::{self, ForkGuard, KeptFd};
use crate::wait::deadline_of;

/// Describes a region's file in errors.
const OF_REGION: &str = "of a region";

/// How a registry makes regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Bytes of a region, rounded up to pages; a larger payload gets a region of its own size.
    pub region_size: u64,
    /// Alignment of each lease, a power of two from 64 to 4096.
    pub align: u32,
    /// Most bytes of idle regions that are kept, to be reused without the cost of new pages.
    pub max_idle: u64,
    /// Most bytes of all regions together; 0 is no limit. The extra page of each region does not
    /// count.
    pub max_bytes: u64,
    /// The receivers are other software: they may map regions writable, and are told of each
    /// generation by a message. A process that gets a region can then change any of its bytes at
    /// any time, including leases that were not sent to it.
    pub foreign_receivers: bool,
}

impl Default for RegistryOptions {
    fn default() -> RegistryOptions {
        RegistryOptions {
            region_size: 1 << 20,
            align: 64,
            max_idle: 64 << 20,
            max_bytes: 0,
            foreign_receivers: false,
        }
    }
}

/// The current state of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PoolInfo {
    /// Bytes of all regions.
    pub bytes: u64,
    /// Bytes of idle regions.
    pub idle_bytes: u64,
    /// Leases that are not released.
    pub leases: u64,
    /// Regions.
    pub regions: u32,
    /// Channels on which regions are announced.
    pub channels: u32,
}

/// Region numbers are small and reused. Not 2^32, because the last number is that of segments.
const MAX_REGIONS: usize = 1 << 24;

/// Leases memory that other processes can map. Any thread.
pub struct Registry {
    inner: Arc<Inner>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

struct Inner {
    birth: ForkGuard,
    options: RegistryOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By map_id.
    places: Vec<Place>,
    /// Numbers of places without a region.
    vacant: Vec<u32>,
    /// The region that small leases are cut from.
    current: Option<u32>,
    idle: Idle,
    bytes: u64,
    leases: u64,
    regions: u32,
    peers: Vec<Peer>,
    /// Rung once when a channel is removed, because others may wait for it to have room.
    bell: Option<Arc<Bell>>,
    /// The errors of channels that were removed since the last query.
    removed: Vec<Error>,
    /// How often a region had to be announced.
    news: u64,
    /// The page announced in place of retired regions, so that receivers unmap them.
    stone: Option<KeptFd>,
    /// The registry is gone, but leases remain.
    closed: bool,
}

/// A region number, with its current region and generation.
#[derive(Default)]
struct Place {
    generation: u32,
    region: Option<Region>,
}

struct Region {
    file: KeptFd,
    memory: Arc<Body>,
    /// The last announcement that every channel must have received: that the region exists, or for
    /// foreign receivers its generation.
    news: u64,
    /// Everything before this offset is or was leased.
    used: u64,
    leases: u64,
    /// When it became idle.
    since: u64,
}

/// A channel, and what the other side has been told.
struct Peer {
    channel: Channel,
    /// By region, the last announcement that was sent.
    told: BTreeMap<u32, u64>,
    /// Regions that are gone, of which the other side has not been told yet.
    gone: Vec<u32>,
}

/// Idle regions, by size and by age.
#[derive(Default)]
struct Idle {
    by_size: BTreeSet<(u64, u32)>,
    by_age: BTreeMap<u64, u32>,
    bytes: u64,
    clock: u64,
}

impl Idle {
    fn insert(&mut self, map_id: u32, region: &mut Region) {
        self.clock += 1;
        region.since = self.clock;
        self.by_age.insert(region.since, map_id);
        self.by_size.insert((region.memory.len(), map_id));
        self.bytes += region.memory.len();
    }

    fn remove(&mut self, map_id: u32, region: &Region) {
        self.by_age.remove(&region.since);
        self.by_size.remove(&(region.memory.len(), map_id));
        self.bytes -= region.memory.len();
    }

    /// The smallest region that has room and does not waste much.
    fn best(&self, size: u64) -> Option<u32> {
        let most = size.saturating_mul(2);
        self.by_size.range((size, 0)..=(most, u32::MAX)).next().map(|(_, map_id)| *map_id)
    }

    fn oldest(&self) -> Option<u32> {
        self.by_age.first_key_value().map(|(_, map_id)| *map_id)
    }
}

impl Registry {
    /// A registry, which makes regions only when they are needed.
    pub fn new(options: &RegistryOptions) -> Result<Registry> {
        let bad = |field| Err(Error::new(Code::BadOptions).about(field));
        let mut options = options.clone();
        if !options.align.is_power_of_two() || !(64..=4096).contains(&options.align) {
            return bad("align");
        }
        match pages(options.region_size) {
            Some(size) if size > 0 && size <= sys::machine_memory() => options.region_size = size,
            _ => return bad("region_size"),
        }
        let birth = ForkGuard::of_this_process()?;
        Ok(Registry { inner: Arc::new(Inner { birth, options, state: Mutex::default() }) })
    }

    /// Announces regions on this channel from now on, beginning with all that have leases.
    pub fn add(&self, channel: &Channel, timeout: Option<Duration>) -> Result<()> {
        let deadline = deadline_of(timeout);
        let mut peer = Peer { channel: channel.clone(), told: BTreeMap::new(), gone: Vec::new() };
        channel.link().here()?;
        loop {
            let mut state = self.inner.state()?;
            if state.peers.iter().any(|known| known.channel.is(channel)) {
                return Ok(());
            }
            if state.introduce(&mut peer)? == Sent::Yes {
                state.peers.push(peer);
                return Ok(());
            }
            // Others must not wait for the lock meanwhile.
            drop(state);
            channel.wait_for_room(None, timeout, deadline)?;
        }
    }

    /// Stops announcing regions on this channel.
    pub fn remove(&self, channel: &Channel) -> Result<()> {
        let mut state = self.inner.state()?;
        state.peers.retain(|peer| !peer.channel.is(channel));
        // Callers that wait for this channel to have room need not wait any more.
        if let Some(bell) = state.bell.take() {
            bell.ring();
        }
        Ok(())
    }

    /// The errors of channels that were removed automatically since the last query: their other
    /// ends are gone, or have violated the protocol.
    pub fn take_removed(&self) -> Result<Vec<Error>> {
        Ok(std::mem::take(&mut self.inner.state()?.removed))
    }

    /// Unmaps and closes all idle regions now, and returns how many.
    pub fn reclaim(&self) -> Result<u32> {
        let mut state = self.inner.state()?;
        let unused = state.reclaim();
        drop(state);
        // Unmapping takes time.
        Ok(u32::try_from(unused.len()).unwrap_or(u32::MAX))
    }

    /// The current state of the registry.
    pub fn info(&self) -> Result<PoolInfo> {
        let state = self.inner.state()?;
        Ok(PoolInfo {
            bytes: state.bytes,
            idle_bytes: state.idle.bytes,
            leases: state.leases,
            regions: state.regions,
            channels: u32::try_from(state.peers.len()).unwrap_or(u32::MAX),
        })
    }

    /// Leases memory for `len` bytes in a region that every channel has been told of. Waits for a
    /// channel whose other end does not read; removes a channel whose other end is gone.
    pub fn alloc(&self, len: usize, timeout: Option<Duration>) -> Result<Lease> {
        let inner = &self.inner;
        let too_large = || {
            let memory = sys::machine_memory();
            Error::new(Code::NoMemory)
                .about(format_args!("{len} bytes are more than the machine has ({memory})"))
                .with_numbers([len as u64, memory, 0])
        };
        if len as u64 > sys::machine_memory() {
            return Err(too_large());
        }
        // An empty lease has an address of its own, too.
        let align = u64::from(inner.options.align);
        let room = (len as u64).max(1).checked_next_multiple_of(align);
        let room = room.ok_or_else(too_large)?;
        let deadline = deadline_of(timeout);
        loop {
            let mut state = inner.state()?;
            state.announce_all_retired();
            let map_id = state.region_with(room, &inner.options)?;
            let Some(full) = state.tell(map_id)? else {
                return state.lease(inner, map_id, room, len);
            };
            state.put_aside(map_id);
            // Leases are released, and made in other regions, meanwhile. Without a bell only the
            // channel itself ends the wait.
            state.bell = state.bell.take().or_else(|| Bell::new().ok().map(Arc::new));
            let bell = state.bell.clone();
            drop(state);
            full.wait_for_room(
                bell.as_ref().map(|bell| bell.fd()).transpose()?,
                timeout,
                deadline,
            )?;
        }
    }
}

impl Registry {
    /// Whether this is the process that made it.
    pub(crate) fn here(&self) -> Result<()> {
        self.inner.here()
    }

    /// Releases everything except regions with leases.
    pub(crate) fn close(&self) {
        let Ok(mut state) = self.inner.state() else { return };
        state.closed = true;
        state.peers.clear();
        // Leases keep their regions.
        let unused = state
            .places
            .iter_mut()
            .filter(|place| place.region.as_ref().is_some_and(|region| region.leases == 0));
        let unused: Vec<Option<Region>> = unused.map(|place| place.region.take()).collect();
        drop(state);
        drop(unused);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn here(&self) -> Result<()> {
        if self.birth.same_process() { Ok(()) } else { Err(Code::Forked.into()) }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.here()?;
        // Nothing here panics while the state is half changed.
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Releases one lease of a region.
    fn give_back(&self, map_id: u32) {
        // A forked child has nothing to release.
        let Ok(mut state) = self.state() else { return };
        let unused = state.give_back(map_id, self.options.max_idle);
        drop(state);
        // Unmapping takes time.
        drop(unused);
    }
}

impl State {
    fn region(&mut self, map_id: u32) -> Option<(u32, &mut Region)> {
        let place = self.places.get_mut(map_id as usize)?;
        Some((place.generation, place.region.as_mut()?))
    }

    /// A region with room for so many bytes: the current one, an idle one, or a new one.
    fn region_with(&mut self, room: u64, options: &RegistryOptions) -> Result<u32> {
        let large = room > options.region_size;
        if let Some(map_id) = self.current.filter(|_| !large) {
            let fits = |region: &Region| region.memory.len() - region.used >= room;
            match self.region(map_id) {
                Some((_, region)) if fits(region) => return Ok(map_id),
                Some((_, region)) if region.leases == 0 => {
                    self.reset(map_id, options);
                    return Ok(map_id);
                }
                _ => self.current = None,
            }
        }
        let size = if large { pages(room).ok_or(Code::NoMemory)? } else { options.region_size };
        let map_id = match self.idle.best(size) {
            Some(map_id) => {
                if let Some(region) =
                    self.places.get(map_id as usize).and_then(|place| place.region.as_ref())
                {
                    self.idle.remove(map_id, region);
                }
                self.reset(map_id, options);
                map_id
            }
            None => self.make(size, options)?,
        };
        if !large {
            self.current = Some(map_id);
        }
        Ok(map_id)
    }

    /// Reuses a region from its start, in the next generation if anything was ever leased in this
    /// one: no reference is given out twice.
    fn reset(&mut self, map_id: u32, options: &RegistryOptions) {
        let Some(place) = self.places.get_mut(map_id as usize) else { return };
        if let Some(region) = place.region.as_mut().filter(|region| region.used > 0) {
            region.used = 0;
            place.generation = place.generation.wrapping_add(1);
            // A receiver that knows the page after the region needs no message.
            region.memory.begin(place.generation);
            if options.foreign_receivers {
                self.news += 1;
                region.news = self.news;
            }
        }
    }

    fn make(&mut self, size: u64, options: &RegistryOptions) -> Result<u32> {
        let limit = if options.max_bytes == 0 { u64::MAX } else { options.max_bytes };
        if let (true, Some(map_id)) = (self.bytes.saturating_add(size) > limit, self.current) {
            if self.region(map_id).is_some_and(|(_, region)| region.leases == 0) {
                self.current = None;
                self.put_aside(map_id);
            }
        }
        // Idle regions that do not fit are retired to make room for one that does.
        while self.bytes.saturating_add(size) > limit {
            let Some(oldest) = self.idle.oldest() else { break };
            drop(self.retire_idle(oldest));
        }
        if self.bytes.saturating_add(size) > limit {
            let used = self.bytes;
            return Err(Error::new(Code::NoMemory)
                .about(format_args!(
                    "no room for a region of {size} bytes: {used} are in use, max_bytes is {limit}"
                ))
                .advice("release leases, or raise max_bytes")
                .with_numbers([size, used, limit]));
        }
        if self.vacant.is_empty() && self.places.len() >= MAX_REGIONS {
            return Err(Error::new(Code::NoMemory)
                .about(format_args!("the registry has {MAX_REGIONS} regions, which is the limit"))
                .advice("release leases, or make region_size larger")
                .with_numbers([MAX_REGIONS as u64, 0, 0]));
        }
        let (file, memory) = Body::make(size, options.foreign_receivers)?;
        let file = KeptFd::new(file, OF_REGION)?;
        let map_id = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            // Fewer than MAX_REGIONS.
            self.places.len() as u32 - 1
        });
        if let Some(place) = self.places.get_mut(map_id as usize) {
            place.generation = place.generation.wrapping_add(1);
            memory.begin(place.generation);
            self.news += 1;
            let (memory, news) = (Arc::new(memory), self.news);
            place.region = Some(Region { file, memory, news, used: 0, leases: 0, since: 0 });
        }
        self.bytes += size;
        self.regions += 1;
        Ok(map_id)
    }

    /// Cuts a lease from a region that has room.
    fn lease(&mut self, inner: &Arc<Inner>, map_id: u32, room: u64, len: usize) -> Result<Lease> {
        let (generation, region) = self.region(map_id).ok_or(Code::Panic)?;
        let offset = region.used;
        region.used += room;
        region.leases += 1;
        let memory = Arc::clone(&region.memory);
        self.leases += 1;
        Ok(Lease {
            part: Arc::new(Part {
                registry: Arc::clone(inner),
                memory,
                map_id,
                generation,
                offset,
                len,
            }),
        })
    }

    /// Makes a region idle that was chosen and has no lease, unless it is the current one.
    fn put_aside(&mut self, map_id: u32) {
        if self.current == Some(map_id) {
            return;
        }
        let State { places, idle, .. } = self;
        let region = places.get_mut(map_id as usize).and_then(|place| place.region.as_mut());
        if let Some(region) = region.filter(|region| region.leases == 0) {
            idle.insert(map_id, region);
        }
    }

    /// Takes all idle regions out of use, and the current one if it has no lease.
    fn reclaim(&mut self) -> Vec<Region> {
        if let Some(map_id) = self.current {
            if self.region(map_id).is_some_and(|(_, region)| region.leases == 0) {
                self.current = None;
                self.put_aside(map_id);
            }
        }
        self.retire_idle_down_to(0)
    }

    /// Takes the oldest idle regions out of use while there are too many bytes of them.
    fn retire_idle_down_to(&mut self, max_idle: u64) -> Vec<Region> {
        let mut unused = Vec::new();
        while self.idle.bytes > max_idle {
            let Some(oldest) = self.idle.oldest() else { break };
            unused.extend(self.retire_idle(oldest));
        }
        if !unused.is_empty() {
            self.announce_all_retired();
        }
        unused
    }

    /// Releases a lease, and returns the regions to be unmapped after the lock is released.
    fn give_back(&mut self, map_id: u32, max_idle: u64) -> Vec<Region> {
        self.leases -= 1;
        let Some((_, region)) = self.region(map_id) else { return Vec::new() };
        region.leases -= 1;
        if region.leases > 0 {
            return Vec::new();
        }
        if self.closed {
            return self
                .places
                .get_mut(map_id as usize)
                .and_then(|place| place.region.take())
                .into_iter()
                .collect();
        }
        // The current region continues where it is, until it is full.
        self.put_aside(map_id);
        self.retire_idle_down_to(max_idle)
    }

    /// Takes an idle region out of use.
    fn retire_idle(&mut self, map_id: u32) -> Option<Region> {
        let place = self.places.get_mut(map_id as usize)?;
        let region = place.region.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.idle.remove(map_id, &region);
        self.bytes -= region.memory.len();
        self.regions -= 1;
        self.vacant.push(map_id);
        for peer in &mut self.peers {
            if peer.told.contains_key(&map_id) {
                peer.gone.push(map_id);
            }
        }
        Some(region)
    }

    /// Announces a region on every channel that has not been told of it; returns a channel that is
    /// full, if there is one.
    fn tell(&mut self, map_id: u32) -> Result<Option<Channel>> {
        let State { places, peers, removed, .. } = self;
        let Some(place) = places.get(map_id as usize) else { return Ok(None) };
        let mut full = None;
        let mut failed = None;
        peers.retain_mut(|peer| match peer.announce_to(map_id, place) {
            Ok(Sent::Yes) => true,
            Ok(Sent::Full) => {
                full = Some(peer.channel.clone());
                true
            }
            Err(error) if error.code() == Code::ChannelBroken => {
                removed.push(error);
                false
            }
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        match failed {
            Some(error) => {
                self.put_aside(map_id);
                Err(error)
            }
            None => Ok(full),
        }
    }

    /// Announces all regions with leases on a new channel.
    fn introduce(&mut self, peer: &mut Peer) -> Result<Sent> {
        for (map_id, place) in (0..).zip(&self.places) {
            if place.region.as_ref().is_some_and(|region| region.leases > 0)
                && peer.announce_to(map_id, place)? == Sent::Full
            {
                return Ok(Sent::Full);
            }
        }
        // Regions that were retired while this channel was full.
        let gone = |map_id: &&u32| {
            self.places.get(**map_id as usize).is_none_or(|place| place.region.is_none())
        };
        peer.gone = peer.told.keys().filter(gone).copied().collect();
        Ok(Sent::Yes)
    }

    /// Announces one page in place of each retired region, so that the other sides unmap it. A
    /// channel that is full is told later.
    fn announce_all_retired(&mut self) {
        if self.peers.iter().all(|peer| peer.gone.is_empty()) {
            return;
        }
        if self.stone.is_none() {
            // Without it the memory stays mapped there until the number is reused.
            self.stone = body::tombstone().and_then(|file| KeptFd::new(file, OF_REGION)).ok();
        }
        let State { places, peers, removed, stone: Some(stone), .. } = self else { return };
        peers.retain_mut(|peer| match peer.announce_retired(places, stone) {
            Err(error) if error.code() == Code::ChannelBroken => {
                removed.push(error);
                false
            }
            _ => true,
        });
    }
}

impl Peer {
    fn announce_to(&mut self, map_id: u32, place: &Place) -> Result<Sent> {
        let Some(region) = &place.region else { return Ok(Sent::Yes) };
        if self.told.get(&map_id) == Some(&region.news) {
            return Ok(Sent::Yes);
        }
        let message = encode(map_id, place.generation, region.memory.len());
        let sent = self.channel.link().send(&message, region.file.proved()?.as_fd())?;
        if sent == Sent::Yes {
            self.told.insert(map_id, region.news);
        }
        Ok(sent)
    }

    fn announce_retired(&mut self, places: &[Place], stone: &KeptFd) -> Result<()> {
        while let Some(map_id) = self.gone.last().copied() {
            // If its number is in use again, the new region already replaces the old one.
            if let Some(place) = places.get(map_id as usize).filter(|place| place.region.is_none())
            {
                let message = encode(map_id, place.generation, sys::page_size() as u64);
                if self.channel.link().send(&message, stone.proved()?.as_fd())? == Sent::Full {
                    return Ok(());
                }
                self.told.remove(&map_id);
            }
            self.gone.pop();
        }
        Ok(())
    }
}

/// Rounded up to whole pages.
fn pages(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(sys::page_size() as u64)
}

/// Leased memory. It stays, and its bytes belong to the holder, until the last clone is dropped.
#[derive(Clone)]
pub struct Lease {
    part: Arc<Part>,
}

struct Part {
    registry: Arc<Inner>,
    memory: Arc<Body>,
    map_id: u32,
    generation: u32,
    offset: u64,
    len: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.registry.give_back(self.map_id);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("map_id", &self.map_id())
            .field("generation", &self.generation())
            .field("offset", &self.offset())
            .field("len", &self.len())
            .finish()
    }
}

impl Lease {
    /// The region's number.
    pub fn map_id(&self) -> u32 {
        self.part.map_id
    }

    /// The generation of the region.
    pub fn generation(&self) -> u32 {
        self.part.generation
    }

    /// The offset in the region.
    pub fn offset(&self) -> u64 {
        self.part.offset
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.part.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.part.len == 0
    }

    /// The address of the bytes: valid for [`Lease::len`] bytes while the lease lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.part.memory.at(self.part.offset, self.part.len as u64).unwrap_or(std::ptr::null_mut())
    }

    /// The address of the whole region that contains the bytes. It is mapped as long as they are;
    /// only the lease's own bytes may be used.
    pub fn region_ptr(&self) -> *mut u8 {
        self.part.memory.at(0, 0).unwrap_or(std::ptr::null_mut())
    }

    /// The number of bytes of the region.
    pub fn region_len(&self) -> u64 {
        self.part.memory.len()
    }

    /// Copies to the start of the memory. Only before the lease is cloned, because bytes that
    /// others may read must not change.
    pub fn copy_from(&mut self, bytes: &[u8]) -> Result<()> {
        let part = Arc::get_mut(&mut self.part).ok_or_else(|| {
            Error::new(Code::Held).about("the lease was cloned").advice("copy before you clone")
        })?;
        if bytes.len() <= part.len && part.memory.write(part.offset, bytes) {
            return Ok(());
        }
        let (wanted, room) = (bytes.len(), part.len);
        Err(Error::new(Code::BadLength)
            .about(format_args!("{wanted} bytes do not fit a lease of {room}"))
            .advice("allocate as many bytes as you copy")
            .with_numbers([wanted as u64, room as u64, 0]))
    }
}
