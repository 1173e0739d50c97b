//! Defects of vox-shm and its relatives in payloads of mapped regions, which must not exist here:
//! one test per defect, each in the situation that shows it there. `docs/known-defects.md` lists
//! them all.
#![allow(unsafe_code)]

mod defects;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use defects::{NOW, code, page_faults, this_thread, until_asleep};
use shmslot::{
    Attachments, Channel, ChannelOptions, Code, Lease, Mapped, Registry, RegistryOptions, Result,
};

const PAGE: usize = 4096;
/// Longer than anything takes, so that a hanging test fails.
const PATIENT: Option<Duration> = Some(Duration::from_secs(100));

/// Tests that count or take away what the whole process has open or mapped must not run beside
/// others.
fn alone() -> MutexGuard<'static, ()> {
    static COUNTING: Mutex<()> = Mutex::new(());
    COUNTING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn registry(region_size: usize, max_idle: usize) -> Registry {
    let (region_size, max_idle) = (region_size as u64, max_idle as u64);
    Registry::new(&RegistryOptions { region_size, max_idle, ..RegistryOptions::default() })
        .expect("a registry")
}

fn pair() -> (Channel, Channel) {
    Channel::pair(&ChannelOptions::default()).expect("a pair")
}

fn attachments(channel: &Channel) -> Attachments {
    Attachments::new(Some(channel), &ChannelOptions::default()).expect("attachments")
}

/// Both ends, connected.
fn connected(region_size: usize, max_idle: usize) -> (Registry, Attachments) {
    let (near, far) = pair();
    let registry = registry(region_size, max_idle);
    registry.add(&near, NOW).expect("it is empty");
    (registry, attachments(&far))
}

fn filled(registry: &Registry, bytes: &[u8]) -> Lease {
    let mut lease = registry.alloc(bytes.len(), NOW).expect("memory");
    lease.copy_from(bytes).expect("it fits");
    lease
}

fn resolve(attachments: &Attachments, lease: &Lease) -> Result<Mapped> {
    attachments.resolve(lease.map_id(), lease.generation(), lease.offset(), lease.len() as u64)
}

/// Leases of one page, a region each, until the channel is full.
fn fill_the_channel(registry: &Registry) -> Vec<Lease> {
    let mut leases = Vec::new();
    loop {
        match registry.alloc(PAGE, NOW) {
            Ok(mut lease) => {
                lease.copy_from(&(leases.len() as u64).to_le_bytes()).expect("it fits");
                leases.push(lease);
            }
            Err(error) => {
                assert_eq!(error.code(), Code::Again);
                return leases;
            }
        }
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Bytes of regions that this process maps.
fn mapped_bytes() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    let address = |text| usize::from_str_radix(text, 16).expect("an address");
    let sizes = maps.lines().filter(|line| line.contains("shmslot-region")).map(|line| {
        let (start, end) =
            line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        address(end) - address(start)
    });
    sizes.sum()
}

/// Whether the kernel shows this thread in poll, which is one sleep and not many short ones. If the
/// kernel does not say, any sleep counts.
fn is_in_poll(thread: &Path) -> bool {
    let Ok(call) = std::fs::read_to_string(thread.join("syscall")) else { return true };
    call.split(' ').next() == Some(&libc::SYS_ppoll.to_string())
}

/// Waits in a separate thread, and wakes it once it sleeps in poll.
fn asleep_in_poll<T: Send>(wait: impl FnOnce() -> T + Send, wake: impl FnOnce()) -> T {
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = scope.spawn(move || {
            tell.send(this_thread()).expect("the other thread listens");
            wait()
        });
        let thread = told.recv().expect("it tells");
        until_asleep(&thread);
        while !is_in_poll(&thread) {
            assert!(!sleeper.is_finished(), "it came back without having been woken");
            std::thread::yield_now();
        }
        wake();
        sleeper.join().expect("no panic")
    })
}

/// There regions were made and never given back.
#[test]
fn vox_mmap_never_reclaimed() {
    let _alone = alone();
    let (registry, attachments) = connected(PAGE, 4 * PAGE);
    let mut most = (0, 0);
    for round in 0..500 {
        // Sizes for which idle regions are mostly too small or too large.
        let bytes = vec![round as u8; (1 + round * 7 % 40) * PAGE];
        let lease = filled(&registry, &bytes);
        assert_eq!(resolve(&attachments, &lease).expect("announced").to_vec(), bytes);
        let now = (open_descriptors(), mapped_bytes());
        if round < 100 {
            most = (most.0.max(now.0), most.1.max(now.1));
        }
        assert!(now.0 <= most.0 && now.1 <= most.1, "{now:?} in round {round}, before {most:?}");
    }
    let info = registry.info().expect("info");
    assert!(info.bytes <= 5 * PAGE as u64, "{info:?}");
}

/// No descriptor can be opened while this lives.
struct NoDescriptors(libc::rlimit);

impl NoDescriptors {
    fn left() -> NoDescriptors {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a live struct, which the call fills.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
        let none = libc::rlimit { rlim_cur: 0, ..limit };
        // SAFETY: a live struct; open descriptors stay open.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) }, 0);
        NoDescriptors(limit)
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        // SAFETY: a live struct, with the previous limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &self.0) };
    }
}

/// There the link died when no descriptor was left.
#[test]
fn vox_mmap_emfile() {
    let _alone = alone();
    let (registry, attachments) = connected(PAGE, PAGE);
    let first = filled(&registry, &[1; PAGE]);
    {
        let _none = NoDescriptors::left();
        for _ in 0..3 {
            let sending = registry.alloc(PAGE, NOW).expect_err("a region has a descriptor");
            let receiving = resolve(&attachments, &first).expect_err("it comes with a descriptor");
            for error in [sending, receiving] {
                assert_eq!((error.code(), error.os_errno()), (Code::Sys, libc::EMFILE));
            }
        }
    }
    let second = filled(&registry, &[2; PAGE]);
    assert_eq!(resolve(&attachments, &first).expect("it has waited").to_vec(), [1; PAGE]);
    assert_eq!(resolve(&attachments, &second).expect("announced").to_vec(), [2; PAGE]);
    assert_eq!(registry.info().expect("info").channels, 1);
}

/// There only full regions were given back, and places within a region never.
#[test]
fn vox_no_partial_reclaim() {
    let _alone = alone();
    let (registry, attachments) = connected(4 * PAGE, 0);
    let regions = || registry.info().expect("info").regions;
    let mut offsets = BTreeSet::new();
    for round in 0..1000u64 {
        let lease = filled(&registry, &round.to_le_bytes().repeat(PAGE / 8));
        offsets.insert(lease.offset());
        assert_eq!(
            resolve(&attachments, &lease).expect("announced").to_vec()[..8],
            round.to_le_bytes()
        );
        assert_eq!(regions(), 1);
    }
    assert_eq!(offsets.len(), 4, "places are used again");

    // Here three quarters of a region are never leased, because a larger payload follows.
    let part = registry.alloc(PAGE, NOW).expect("memory");
    let whole = registry.alloc(4 * PAGE, NOW).expect("memory");
    assert_ne!(part.map_id(), whole.map_id());
    assert_eq!(regions(), 2);
    drop(part);
    assert_eq!(regions(), 1, "what was not full is given back, too");
}

/// There every payload lay in pages that nobody had touched.
#[test]
fn vox_fresh_pages_of_regions() {
    const LEN: usize = 16 * PAGE;
    let _alone = alone();
    let (registry, attachments) = connected(4 * LEN, 4 * LEN);
    let bytes = vec![1; LEN];
    let mut copy = vec![0; LEN];
    let mut round = || {
        let lease = filled(&registry, &bytes);
        assert_eq!(resolve(&attachments, &lease).expect("announced").copy_to(&mut copy), LEN);
        lease.generation()
    };
    let first = round();
    for _ in 1..8 {
        round(); // all places of the region, on both sides, twice
    }
    let before = page_faults();
    for _ in 0..100 {
        round();
    }
    let touched = page_faults() - before;
    assert!(touched < 100, "{touched} new pages in 100 rounds of 16 pages, on both sides");
    assert!(round() > first + 20, "the region has begun anew all the time");
}

/// There parts of a region began wherever the previous one ended.
#[test]
fn vox_no_alignment_of_regions() {
    let _alone = alone();
    for align in [64, 256, 4096] {
        let (near, far) = pair();
        let registry =
            Registry::new(&RegistryOptions { align, ..RegistryOptions::default() }).expect("one");
        registry.add(&near, NOW).expect("it is empty");
        let attachments = attachments(&far);
        // All are leased at once, so they lie side by side; the last one has a region of its own.
        let lengths = [1, 63, 64, 65, 0, 4095, 4097, 12345, 3 << 20];
        let leases: Vec<Lease> =
            lengths.iter().map(|len| filled(&registry, &vec![7; *len])).collect();
        for lease in &leases {
            let place = resolve(&attachments, lease).expect("announced");
            assert_eq!(lease.offset() % u64::from(align), 0);
            assert_eq!(lease.as_ptr().addr() % align as usize, 0, "where it is written");
            assert_eq!(place.as_ptr().addr() % align as usize, 0, "where it is read");
        }
    }
}

/// There `offset + len` wrapped, and the largest length fitted.
#[test]
fn vox_alloc_overflow_of_regions() {
    let _alone = alone();
    let (registry, attachments) = connected(PAGE, PAGE);
    // Into a region that is empty, and into one that already has leases.
    for used in [0, 64, 128] {
        for len in [
            usize::MAX,
            usize::MAX - 62,
            usize::MAX - 63,
            usize::MAX - 64,
            usize::MAX - 128,
            1 << 63,
        ] {
            assert_eq!(code(registry.alloc(len, NOW)), Code::NoMemory, "{len} bytes");
        }
        let lease = registry.alloc(1, NOW).expect("memory");
        assert_eq!(lease.offset(), used);
        let ask = |offset, len| {
            code(attachments.resolve(lease.map_id(), lease.generation(), offset, len))
        };
        for offset in [1, used + 1, PAGE as u64] {
            assert_eq!(ask(offset, u64::MAX), Code::Overflow);
            assert_eq!(ask(offset, u64::MAX - offset), Code::OutOfBounds);
            assert_eq!(ask(u64::MAX, offset), Code::Overflow);
        }
    }
}

/// There the number of a map wrapped, its generation never changed, and an old reference meant
/// something new.
#[test]
fn vox_map_generation_constant() {
    let _alone = alone();
    // A region that is reused again and again, and more regions than 16 bits can count, none of
    // which is kept.
    for (len, rounds) in [(PAGE, 1000), (2 * PAGE, 70_000u32)] {
        let (registry, attachments) = connected(PAGE, 0);
        let mut seen = BTreeSet::new();
        let mut last = None;
        for round in 0..rounds {
            let bytes = round.to_le_bytes();
            let mut lease = registry.alloc(len, NOW).expect("memory");
            lease.copy_from(&bytes).expect("it fits");
            assert_eq!(lease.map_id(), 0, "numbers are used again");
            assert!(seen.insert(lease.generation()), "a reference was given out twice");
            assert_eq!(resolve(&attachments, &lease).expect("announced").to_vec()[..4], bytes);
            if let Some(old) = last.replace(lease.generation()) {
                assert_eq!(code(attachments.resolve(0, old, 0, 4)), Code::UnknownMapping);
            }
        }
    }
}

/// There nobody was told that the other end of the control channel was gone.
#[test]
fn vox_control_no_eof() {
    let _alone = alone();
    // A receiver waits for a region:
    let (near, far) = pair();
    let receiver = attachments(&far);
    let waited = asleep_in_poll(|| receiver.resolve_wait(0, 1, 0, 1, PATIENT), || drop(near));
    assert_eq!(code(waited), Code::ChannelBroken);
    assert_eq!(code(receiver.drain()), Code::ChannelBroken);

    // and a sender waits to announce one.
    let (near, far) = pair();
    let sender = registry(PAGE, 0);
    sender.add(&near, NOW).expect("it is empty");
    let _leases = fill_the_channel(&sender);
    asleep_in_poll(|| sender.alloc(PAGE, PATIENT), || drop(far)).expect("nobody is in the way");
    let removed = sender.take_removed().expect("here");
    assert_eq!(removed.iter().map(|error| error.code()).collect::<Vec<_>>(), [Code::ChannelBroken]);
    assert_eq!(sender.info().expect("info").channels, 0);
}

/// There 278 unread messages blocked the sender. Here it is told, or sleeps as long as it wants to,
/// and nothing is lost.
#[test]
fn vox_control_queue_limit() {
    let _alone = alone();
    let (near, far) = pair();
    let registry = registry(PAGE, 0);
    registry.add(&near, NOW).expect("it is empty");
    let receiver = attachments(&far);
    let mut leases = fill_the_channel(&registry);
    assert!(leases.len() > 1);
    assert_eq!(code(registry.alloc(PAGE, NOW)), Code::Again);
    assert_eq!(code(registry.alloc(PAGE, Some(Duration::from_millis(1)))), Code::Timeout);

    let drain = || assert!(receiver.drain().expect("it drains") as usize >= leases.len());
    let mut last =
        asleep_in_poll(|| registry.alloc(PAGE, PATIENT), drain).expect("there is room now");
    last.copy_from(&(leases.len() as u64).to_le_bytes()).expect("it fits");
    leases.push(last);
    for (lease, number) in leases.iter().zip(0u64..) {
        let place = resolve(&receiver, lease).expect("announced before it was given out");
        assert_eq!(place.to_vec()[..8], number.to_le_bytes());
    }
}

/// How often this thread has gone to sleep.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).expect("the kernel counts")
}

/// There a reference that arrived before its region made the caller's thread sleep, in steps, for
/// 2.2 s.
#[test]
fn vox_grace_blocks_thread() {
    let _alone = alone();
    let (near, far) = pair();
    let registry = registry(PAGE, PAGE);
    let receiver = attachments(&far);
    let lease = filled(&registry, b"text");
    let ask = |timeout| receiver.resolve_wait(lease.map_id(), lease.generation(), 0, 4, timeout);
    // Here a caller without a timeout does not wait,
    let before = sleeps();
    for _ in 0..1000 {
        assert_eq!(code(ask(NOW)), Code::Again);
    }
    let slept = sleeps() - before;
    assert!(slept < 500, "{slept} sleeps in 1000 looks");
    // and one with a timeout is woken by the message.
    let place = asleep_in_poll(|| ask(PATIENT), || registry.add(&near, NOW).expect("it is empty"));
    assert_eq!(place.expect("it came").to_vec(), b"text");
}
