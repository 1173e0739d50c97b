//! Regions: leases, channels and attachments from Rust, both ends in one process.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Mutex;
use std::time::Duration;

use shmslot::{
    AttachOptions, Attachments, Channel, ChannelOptions, Code, CreateOptions, Lease, Listener,
    Mapped, PoolInfo, Registry, RegistryOptions, Result, Segment,
};

const NOW: Option<Duration> = Some(Duration::ZERO);
const SHORT: Option<Duration> = Some(Duration::from_millis(20));
/// Longer than anything takes, so that a hanging test fails.
const PATIENT: Option<Duration> = Some(Duration::from_secs(100));
const PAGE: u64 = 4096;

/// Tests that count what the whole process has open or mapped must not run beside others.
static COUNTING: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn code<T>(result: Result<T>) -> Code {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.code(),
    }
}

fn pair() -> (Channel, Channel) {
    Channel::pair(&ChannelOptions::default()).expect("a pair")
}

fn registry(region_size: u64, max_idle: u64) -> Registry {
    let options = RegistryOptions { region_size, max_idle, ..RegistryOptions::default() };
    Registry::new(&options).expect("a registry")
}

fn attachments(channel: &Channel) -> Attachments {
    Attachments::new(Some(channel), &ChannelOptions::default()).expect("attachments")
}

/// Both ends, connected.
fn both(region_size: u64, max_idle: u64) -> (Registry, Attachments) {
    let (near, far) = pair();
    let registry = registry(region_size, max_idle);
    registry.add(&near, NOW).expect("it is empty");
    (registry, attachments(&far))
}

fn resolve(attachments: &Attachments, lease: &Lease) -> Result<Mapped> {
    attachments.resolve(lease.map_id(), lease.generation(), lease.offset(), lease.len() as u64)
}

fn filled(registry: &Registry, bytes: &[u8]) -> Lease {
    let mut lease = registry.alloc(bytes.len(), NOW).expect("memory");
    lease.copy_from(bytes).expect("it fits");
    lease
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// Bytes and number of the mappings of regions, in this process.
fn mapped_regions() -> (u64, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    let mut total = (0, 0);
    for line in maps.lines().filter(|line| line.contains("shmslot-region")) {
        let range = line.split(' ').next().expect("a range");
        let (start, end) = range.split_once('-').expect("two ends");
        let number = |text| u64::from_str_radix(text, 16).expect("an address");
        total = (total.0 + number(end) - number(start), total.1 + 1);
    }
    total
}

#[test]
fn what_is_leased_is_what_is_resolved() {
    let _alone = alone();
    let (registry, attachments) = both(1 << 16, 1 << 20);
    for text in [&b"first"[..], b"", b"third"] {
        let lease = filled(&registry, text);
        assert_eq!(lease.offset() % 64, 0);
        assert_eq!(lease.as_ptr().addr() % 64, 0);
        assert_eq!(resolve(&attachments, &lease).expect("it was announced").to_vec(), text);
    }
}

#[test]
fn a_region_is_announced_once() {
    let _alone = alone();
    let (registry, attachments) = both(1 << 16, 1 << 20);
    let leases: Vec<Lease> = (0..10).map(|i| filled(&registry, &[i])).collect();
    assert_eq!(attachments.drain().expect("it drains"), 1);
    assert_eq!(attachments.drain().expect("it drains"), 0);
    for (i, lease) in leases.iter().enumerate() {
        assert_eq!(resolve(&attachments, lease).expect("known").to_vec(), [i as u8]);
    }
}

#[test]
fn leases_are_aligned_as_asked() {
    let _alone = alone();
    for align in [64, 128, 4096] {
        let options = RegistryOptions { align, ..RegistryOptions::default() };
        let registry = Registry::new(&options).expect("a registry");
        let leases: Vec<Lease> =
            (0..5).map(|i| registry.alloc(i * 37, NOW).expect("memory")).collect();
        for lease in &leases {
            assert_eq!(lease.as_ptr().addr() % align as usize, 0);
        }
        for two in leases.windows(2) {
            assert!(two[1].offset() >= two[0].offset() + (two[0].len() as u64).max(1));
        }
    }
    for align in [0, 32, 96, 8192] {
        let options = RegistryOptions { align, ..RegistryOptions::default() };
        assert_eq!(code(Registry::new(&options)), Code::BadOptions);
    }
}

#[test]
fn impossible_lengths_are_refused() {
    let _alone = alone();
    let (registry, attachments) = both(PAGE, PAGE);
    for len in [usize::MAX, usize::MAX - 63, isize::MAX as usize, 1 << 62] {
        assert_eq!(code(registry.alloc(len, NOW)), Code::NoMemory);
    }
    assert_eq!(registry.info().expect("info").regions, 0);
    let lease = filled(&registry, b"text");
    let (id, generation) = (lease.map_id(), lease.generation());
    let ask = |offset, len| code(attachments.resolve(id, generation, offset, len));
    assert_eq!(ask(PAGE, 1), Code::OutOfBounds);
    assert_eq!(ask(0, PAGE + 1), Code::OutOfBounds);
    assert_eq!(ask(u64::MAX, 0), Code::OutOfBounds);
    assert_eq!(ask(u64::MAX, 1), Code::Overflow);
    assert_eq!(ask(1, u64::MAX), Code::Overflow);
    assert_eq!(code(attachments.resolve(id + 1, generation, 0, 1)), Code::UnknownMapping);
    assert_eq!(code(attachments.resolve(id, generation + 1, 0, 1)), Code::UnknownMapping);
    let error = attachments.resolve(id, generation, 4000, 200).expect_err("beyond the end");
    assert!(
        error
            .to_string()
            .starts_with("offset 4000 and length 200 end beyond a region of 4096 bytes; ")
    );
    assert!(attachments.resolve(id, generation, PAGE, 0).expect("the very end").is_empty());
}

#[test]
fn a_lease_is_written_before_it_is_shared() {
    let _alone = alone();
    let (registry, attachments) = both(PAGE, PAGE);
    let mut lease = filled(&registry, b"text");
    assert_eq!(code(lease.copy_from(b"longer")), Code::BadLength);
    let other = lease.clone();
    assert_eq!(code(lease.copy_from(b"more")), Code::Held);
    drop(lease);
    assert_eq!(registry.info().expect("info").leases, 1);
    assert_eq!(resolve(&attachments, &other).expect("known").to_vec(), b"text");
    drop(other);
    assert_eq!(registry.info().expect("info").leases, 0);
}

/// Memory is reused, and a reference is never given out twice; resolving an old one fails.
#[test]
fn generations_rise() {
    let _alone = alone();
    let (registry, attachments) = both(PAGE, PAGE);
    let first = filled(&registry, &[1; PAGE as usize]);
    let kept = resolve(&attachments, &first).expect("known");
    let old = (first.map_id(), first.generation());
    drop(first);
    let second = filled(&registry, &[2; PAGE as usize]);
    assert_eq!(second.map_id(), old.0, "the memory was not used again");
    assert!(second.generation() > old.1);
    assert_eq!(resolve(&attachments, &second).expect("known").to_vec(), [2; PAGE as usize]);
    assert_eq!(code(attachments.resolve(old.0, old.1, 0, 1)), Code::UnknownMapping);
    // Old bytes stay mapped as long as they are used, and contain what the sender has written
    // since.
    assert_eq!(kept.to_vec(), [2; PAGE as usize]);
    assert_eq!(
        mapped_regions(),
        (2 * (PAGE + PAGE), 2),
        "one mapping on each side, each with a page more"
    );
}

/// A reused region is not announced again. A receiver that never drains still gets new regions, and
/// finds the current contents of old ones, whenever it drains.
#[test]
fn use_again_takes_no_message() {
    let _alone = alone();
    let (registry, attachments) = both(PAGE, PAGE);
    let mut last = None;
    for round in 0..2000u32 {
        drop(last.take());
        last = Some(filled(&registry, &round.to_le_bytes().repeat(PAGE as usize / 4)));
    }
    let last = last.expect("there were rounds");
    let other = filled(&registry, &[7; 3 * PAGE as usize]);
    assert_eq!(attachments.drain().expect("it drains"), 2, "one message for each region");
    assert_eq!(
        resolve(&attachments, &last).expect("announced").to_vec()[..4],
        1999u32.to_le_bytes()
    );
    assert_eq!(resolve(&attachments, &other).expect("announced").to_vec()[..4], [7; 4]);
    // A lease that is over is over at once, even for a receiver that has not drained since.
    let old = (last.map_id(), last.generation());
    drop(last);
    let next = filled(&registry, &[8; PAGE as usize]);
    assert_eq!(next.map_id(), old.0, "the memory was not used again");
    assert_eq!(code(attachments.resolve(old.0, old.1, 0, 1)), Code::UnknownMapping);
    assert_eq!(resolve(&attachments, &next).expect("announced").to_vec()[..4], [8; 4]);
    // A channel that is added late, and one whose number had another region before.
    let (near, far) = pair();
    registry.add(&near, NOW).expect("there is room");
    let late = Attachments::new(Some(&far), &ChannelOptions::default()).expect("attachments");
    assert_eq!(resolve(&late, &next).expect("announced").to_vec()[..4], [8; 4]);
    let (id, generation) = (other.map_id(), other.generation());
    drop(other);
    let another = filled(&registry, &[9; 5 * PAGE as usize]);
    assert_eq!(another.map_id(), id, "the number was not used again");
    assert_eq!(resolve(&late, &another).expect("announced").to_vec()[..4], [9; 4]);
    assert_eq!(code(late.resolve(id, generation, 0, 1)), Code::UnknownMapping);
}

/// Receivers of other libraries read only messages: each generation has its own message.
#[test]
fn foreign_receivers_are_told_of_every_generation() {
    let _alone = alone();
    let options = RegistryOptions {
        region_size: PAGE,
        foreign_receivers: true,
        ..RegistryOptions::default()
    };
    let registry = Registry::new(&options).expect("a registry");
    let (near, far) = pair();
    registry.add(&near, NOW).expect("there is room");
    let attachments =
        Attachments::new(Some(&far), &ChannelOptions::default()).expect("attachments");
    for round in 0..20u8 {
        let lease = filled(&registry, &[round; PAGE as usize]);
        assert_eq!(lease.map_id(), 0, "the memory was not used again");
        assert_eq!(attachments.drain().expect("it drains"), 1);
        assert_eq!(
            resolve(&attachments, &lease).expect("announced").to_vec(),
            [round; PAGE as usize]
        );
    }
    assert_eq!(mapped_regions(), (2 * (PAGE + PAGE), 2), "the same file keeps its mapping");
}

#[test]
fn memory_is_given_back_on_demand() {
    let _alone = alone();
    let (before_fds, before) = (open_descriptors(), mapped_regions());
    let (registry, attachments) = both(PAGE, 64 * PAGE);
    assert_eq!(registry.reclaim().expect("here"), 0);
    let kept = filled(&registry, &[1; 2 * PAGE as usize]);
    let leases: Vec<Lease> = (0..5).map(|i| filled(&registry, &vec![i; PAGE as usize])).collect();
    attachments.drain().expect("it drains");
    drop(leases);
    assert_eq!(registry.info().expect("info").regions, 6);
    assert_eq!(registry.reclaim().expect("here"), 5, "also the one that small leases are cut from");
    let info = registry.info().expect("info");
    assert_eq!((info.regions, info.bytes, info.idle_bytes), (1, 2 * PAGE, 0));
    attachments.drain().expect("it drains");
    assert_eq!(mapped_regions().0 - before.0, 2 * (2 + 1) * PAGE + 5 * PAGE);
    let place = resolve(&attachments, &kept).expect("announced");
    assert_eq!((kept.region_len(), place.region_len()), (2 * PAGE, 2 * PAGE));
    assert_eq!(kept.region_ptr().addr() as u64 + kept.offset(), kept.as_ptr().addr() as u64);
    assert_eq!(place.region_ptr().addr() as u64 + kept.offset(), place.as_ptr().addr() as u64);
    drop(filled(&registry, &[1; 64]));
    assert_eq!(registry.reclaim().expect("here"), 1);
    drop((kept, place, registry, attachments));
    assert_eq!((open_descriptors(), mapped_regions()), (before_fds, before));
}

/// While one lease is not released, its region and its bytes stay.
#[test]
fn what_is_leased_is_not_used_again() {
    let _alone = alone();
    let (registry, attachments) = both(PAGE, 4 * PAGE);
    let kept = filled(&registry, &[7; 64]);
    for round in 0..200u8 {
        drop(filled(&registry, &[round; 1024]));
    }
    assert_eq!(resolve(&attachments, &kept).expect("known").to_vec(), [7; 64]);
    assert_eq!(registry.info().expect("info").regions, 2);
}

/// 10^5 leases of several sizes: descriptors, mappings and memory end where they were after a
/// thousand.
#[test]
fn a_steady_load_leaves_everything_flat() {
    let _alone = alone();
    let (registry, attachments) = both(1 << 16, 1 << 20);
    let mut window: Vec<(Lease, Mapped)> = Vec::new();
    let mut after_a_while = None;
    for round in 0..100_000u64 {
        let len = [100, 70_000, 3000, 1 << 16, 40_000][(round % 5) as usize] + (round % 7) as usize;
        let mut lease = registry.alloc(len, NOW).expect("memory");
        lease.copy_from(&round.to_le_bytes()).expect("it fits");
        let mapped = resolve(&attachments, &lease).expect("announced");
        window.push((lease, mapped));
        if window.len() == 4 {
            let (lease, mapped) = window.remove(0);
            let mut number = [0; 8];
            assert_eq!(mapped.copy_to(&mut number), 8);
            assert_eq!(u64::from_le_bytes(number), round - 3);
            assert_eq!(mapped.len(), lease.len());
        }
        if round % 1000 == 999 {
            let now = (registry.info().expect("info"), open_descriptors(), mapped_regions());
            let (first, fds, (bytes, _)) = *after_a_while.get_or_insert(now);
            assert!(now.0.bytes <= first.bytes, "{now:?} after {first:?}");
            assert!(
                now.1 <= fds && now.2.0 <= bytes,
                "{now:?} after {fds} descriptors, {bytes} bytes"
            );
        }
    }
    // Both sides map the same few regions.
    let info = registry.info().expect("info");
    assert!(info.bytes < 1 << 20, "{info:?}");
}

/// Memory that is no longer used is released, on both sides.
#[test]
fn idle_memory_is_given_back() {
    let _alone = alone();
    let (before_fds, before) = (open_descriptors(), mapped_regions());
    let (registry, attachments) = both(PAGE, 8 * PAGE);
    let leases: Vec<Lease> =
        (0..50).map(|i| filled(&registry, &vec![i; 3 * PAGE as usize])).collect();
    let mapped: Vec<Mapped> =
        leases.iter().map(|l| resolve(&attachments, l).expect("announced")).collect();
    assert_eq!(mapped_regions().0 - before.0, 2 * 50 * (3 + 1) * PAGE);
    drop(leases);
    let info = registry.info().expect("info");
    assert_eq!((info.bytes, info.idle_bytes, info.regions), (6 * PAGE, 6 * PAGE, 2));
    attachments.drain().expect("it drains");
    // Resolved bytes stay mapped until they are released.
    assert_eq!(mapped[3].to_vec(), vec![3; 3 * PAGE as usize]);
    drop(mapped);
    // Here 2 regions, there 2 regions and a page for each of 48 others.
    assert_eq!(mapped_regions().0 - before.0, (2 * 2 * (3 + 1) + 48) * PAGE);
    drop((registry, attachments));
    assert_eq!((open_descriptors(), mapped_regions()), (before_fds, before));
}

#[test]
fn numbers_of_regions_are_used_again() {
    let _alone = alone();
    let (registry, attachments) = both(PAGE, 1);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..1000u32 {
        let lease = filled(&registry, &vec![round as u8; (2 + round as usize % 5) * PAGE as usize]);
        assert!(lease.map_id() < 2);
        assert!(
            seen.insert((lease.map_id(), lease.generation())),
            "a reference was given out twice"
        );
        assert_eq!(resolve(&attachments, &lease).expect("announced").to_vec()[0], round as u8);
    }
}

#[test]
fn the_limit_of_all_bytes_holds() {
    let _alone = alone();
    let options =
        RegistryOptions { region_size: PAGE, max_bytes: 4 * PAGE, ..RegistryOptions::default() };
    let registry = Registry::new(&options).expect("a registry");
    let leases: Vec<Lease> =
        (0..4).map(|_| registry.alloc(PAGE as usize, NOW).expect("memory")).collect();
    let error = registry.alloc(1, NOW).expect_err("all is used");
    assert_eq!(error.code(), Code::NoMemory);
    assert!(
        error.to_string().starts_with(
            "no room for a region of 4096 bytes: 16384 are in use, max_bytes is 16384; "
        )
    );
    assert_eq!(error.numbers(), [PAGE, 4 * PAGE, 4 * PAGE]);
    drop(leases);
    // Idle regions make room for one of another size.
    let large = registry.alloc(4 * PAGE as usize, NOW).expect("memory");
    assert_eq!(registry.info().expect("info").regions, 1);
    drop(large);
    registry.alloc(1, NOW).expect("memory");
}

#[test]
fn who_comes_late_hears_of_everything() {
    let _alone = alone();
    let registry = registry(PAGE, 8 * PAGE);
    let leases: Vec<Lease> = (0..20).map(|i| filled(&registry, &[i; PAGE as usize])).collect();
    let (near, far) = pair();
    registry.add(&near, NOW).expect("there is room");
    registry.add(&near, NOW).expect("again is fine");
    let attachments = attachments(&far);
    assert_eq!(attachments.drain().expect("it drains"), 20);
    for (i, lease) in leases.iter().enumerate() {
        assert_eq!(
            resolve(&attachments, lease).expect("announced").to_vec(),
            [i as u8; PAGE as usize]
        );
    }
    registry.remove(&near).expect("it is there");
    let unheard = filled(&registry, b"unheard");
    assert_eq!(code(resolve(&attachments, &unheard)), Code::UnknownMapping);
}

/// The other end does not read: the call ends in time, nothing is lost, and it continues as soon as
/// there is room.
#[test]
fn a_full_channel_holds_nothing_up_for_ever() {
    let _alone = alone();
    let (near, far) = pair();
    let registry = registry(PAGE, 1 << 24);
    registry.add(&near, NOW).expect("it is empty");
    let mut leases = Vec::new();
    while let Ok(lease) = registry.alloc(PAGE as usize, NOW) {
        leases.push(lease);
        assert!(leases.len() < 100_000);
    }
    let full = |info: PoolInfo| (info.leases, info.regions);
    let (count, regions) = full(registry.info().expect("info"));
    assert_eq!(count as usize, leases.len());
    let fds = open_descriptors();
    for _ in 0..10_000 {
        assert_eq!(code(registry.alloc(PAGE as usize, NOW)), Code::Again);
    }
    assert_eq!(code(registry.alloc(PAGE as usize, SHORT)), Code::Timeout);
    assert_eq!(full(registry.info().expect("info")), (count, regions));
    assert_eq!(open_descriptors(), fds);
    // Another channel cannot be delayed before it has all of them.
    let attachments = attachments(&far);
    let waiting = std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| registry.alloc(PAGE as usize, PATIENT).expect("there will be room"));
        attachments.drain().expect("it drains");
        waiting.join().expect("it ends")
    });
    assert_eq!(resolve(&attachments, &waiting).expect("announced").len(), PAGE as usize);
    for lease in &leases {
        resolve(&attachments, lease).expect("announced before it was given out");
    }
}

/// Removing the full channel is a way out, too.
#[test]
fn who_waits_for_a_channel_goes_on_without_it() {
    let _alone = alone();
    let (near, _far) = pair();
    let registry = registry(PAGE, 1 << 24);
    registry.add(&near, NOW).expect("it is empty");
    let mut leases = Vec::new();
    while let Ok(lease) = registry.alloc(PAGE as usize, NOW) {
        leases.push(lease);
    }
    std::thread::scope(|scope| {
        let ask = || registry.alloc(PAGE as usize, PATIENT).expect("nobody is in the way");
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        // The others have waited for a while when this one times out.
        assert_eq!(code(registry.alloc(PAGE as usize, SHORT)), Code::Timeout);
        registry.remove(&near).expect("it is there");
        leases.extend(waiting.into_iter().map(|thread| thread.join().expect("it ends")));
    });
    assert_eq!(code(registry.add(&near, NOW)), Code::Again);
}

#[test]
fn a_channel_whose_other_end_is_gone_is_removed() {
    let _alone = alone();
    let registry = registry(PAGE, PAGE);
    let ((near, far), (near_too, far_too)) = (pair(), pair());
    registry.add(&near, NOW).expect("it is empty");
    registry.add(&near_too, NOW).expect("it is empty");
    drop(far);
    let attachments = attachments(&far_too);
    let lease = filled(&registry, b"for who is left");
    let removed = registry.take_removed().expect("here");
    assert_eq!(removed.iter().map(|error| error.code()).collect::<Vec<_>>(), [Code::ChannelBroken]);
    assert_eq!(registry.info().expect("info").channels, 1);
    assert_eq!(resolve(&attachments, &lease).expect("announced").to_vec(), b"for who is left");
    let other = registry.add(&near, NOW);
    assert_eq!(code(other), Code::ChannelBroken);
}

/// What was sent before the end can be resolved after it.
#[test]
fn the_last_message_is_not_lost() {
    let _alone = alone();
    for unread in [false, true] {
        let (near, far) = pair();
        let registry = registry(PAGE, PAGE);
        registry.add(&near, NOW).expect("it is empty");
        if unread {
            // An end that has unread messages of its own closes with a reset.
            let segment = Segment::create_anonymous(&CreateOptions::default()).expect("a segment");
            far.send_segment(&segment, NOW).expect("there is room");
        }
        let lease = filled(&registry, b"last");
        let numbers = (lease.map_id(), lease.generation());
        drop((lease, registry, near));
        let attachments = attachments(&far);
        let place = attachments.resolve(numbers.0, numbers.1, 0, 4).expect("it was sent");
        assert_eq!(place.to_vec(), b"last");
        assert_eq!(code(attachments.drain()), Code::ChannelBroken);
        assert_eq!(
            attachments.resolve(numbers.0, numbers.1, 1, 3).expect("known").to_vec(),
            b"ast"
        );
        assert_eq!(code(attachments.resolve(numbers.0 + 1, 1, 0, 1)), Code::ChannelBroken);
        let waited = attachments.resolve_wait(numbers.0 + 1, 1, 0, 1, PATIENT);
        assert_eq!(code(waited), Code::ChannelBroken);
    }
}

#[test]
fn waiting_ends_with_the_message() {
    let _alone = alone();
    let (near, far) = pair();
    let registry = registry(PAGE, PAGE);
    let attachments = attachments(&far);
    assert_eq!(code(attachments.resolve_wait(0, 1, 0, 4, SHORT)), Code::Timeout);
    let lease = filled(&registry, b"text");
    assert_eq!(code(resolve(&attachments, &lease)), Code::UnknownMapping);
    std::thread::scope(|scope| {
        let ask = || {
            let (id, generation) = (lease.map_id(), lease.generation());
            attachments.resolve_wait(id, generation, 0, 4, PATIENT).expect("it comes").to_vec()
        };
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        registry.add(&near, NOW).expect("it is empty");
        for thread in waiting {
            assert_eq!(thread.join().expect("it ends"), b"text");
        }
    });
}

/// Some threads wait, others take from the socket what they wait for, and a descriptor arrives
/// another way.
#[test]
fn nobody_sleeps_through_what_another_has_taken() {
    let _alone = alone();
    for round in 0..300 {
        let (near, far) = pair();
        let registry = registry(PAGE, PAGE);
        let attachments = attachments(&far);
        let lease = filled(&registry, b"text");
        let ask = || {
            let (id, generation) = (lease.map_id(), lease.generation());
            attachments.resolve_wait(id, generation, 0, 4, PATIENT).expect("it comes").to_vec()
        };
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(ask)).collect();
            let taking = scope.spawn(|| match round % 2 {
                0 => while resolve(&attachments, &lease).is_err() {},
                _ => while code(far.recv_segment(&AttachOptions::default(), NOW)) != Code::Again {},
            });
            registry.add(&near, NOW).expect("it is empty");
            taking.join().expect("it ends");
            for thread in waiting {
                assert_eq!(thread.join().expect("it ends"), b"text");
            }
        });
    }
}

#[test]
fn segments_and_regions_share_a_channel() {
    let _alone = alone();
    let before = open_descriptors();
    {
        let (near, far) = pair();
        let registry = registry(PAGE, PAGE);
        registry.add(&near, NOW).expect("it is empty");
        let attachments = attachments(&far);
        let segment = Segment::create_anonymous(&CreateOptions::default()).expect("a segment");
        assert_eq!(code(far.recv_segment(&AttachOptions::default(), NOW)), Code::Again);
        assert_eq!(code(far.recv_segment(&AttachOptions::default(), SHORT)), Code::Timeout);
        let first = filled(&registry, &[1; PAGE as usize]);
        near.send_segment(&segment, NOW).expect("there is room");
        let second = filled(&registry, &[2; PAGE as usize]);
        let received = far.recv_segment(&AttachOptions::default(), PATIENT).expect("it was sent");
        let writer = segment.writer().expect("a writer");
        let reader = received.reader(0).expect("a reader");
        writer.write(b"through the segment", NOW).expect("a slot");
        assert_eq!(reader.read().expect("read").expect("one").to_vec(), b"through the segment");
        assert_eq!(resolve(&attachments, &first).expect("kept").to_vec(), [1; PAGE as usize]);
        assert_eq!(resolve(&attachments, &second).expect("came").to_vec(), [2; PAGE as usize]);
        let local = Segment::create_local(&CreateOptions::default()).expect("a segment");
        assert_eq!(code(near.send_segment(&local, NOW)), Code::NotSupported);
    }
    assert_eq!(open_descriptors(), before);
}

/// Also over sockets from elsewhere: a stream, whose messages have no borders, and datagrams, which
/// have no end.
#[test]
fn any_kind_of_unix_socket_will_do() {
    let _alone = alone();
    let stream = UnixStream::pair().map(|(one, other)| (OwnedFd::from(one), OwnedFd::from(other)));
    let datagrams =
        UnixDatagram::pair().map(|(one, other)| (OwnedFd::from(one), OwnedFd::from(other)));
    for ends in [stream, datagrams] {
        let (one, other) = ends.expect("a pair");
        let options = ChannelOptions::default();
        let near = Channel::from_fd(one, &options).expect("a unix socket");
        let far = Channel::from_fd(other, &options).expect("a unix socket");
        let (forth, back) = (registry(PAGE, PAGE), registry(PAGE, PAGE));
        forth.add(&near, NOW).expect("it is empty");
        back.add(&far, NOW).expect("it is empty");
        let (there, here) = (attachments(&far), attachments(&near));
        for i in 0..100 {
            let (one, other) = (filled(&forth, &[i; PAGE as usize]), filled(&back, &[i; 5000]));
            assert_eq!(resolve(&there, &one).expect("announced").to_vec(), [i; PAGE as usize]);
            assert_eq!(resolve(&here, &other).expect("announced").to_vec(), [i; 5000]);
        }
    }
    let (pipe, _other) = nix::unistd::pipe().expect("a pipe");
    assert_eq!(code(Channel::from_fd(pipe, &ChannelOptions::default())), Code::Invalid);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    assert_eq!(code(Channel::from_fd(listener.into(), &ChannelOptions::default())), Code::Invalid);
}

#[test]
fn channels_have_names() {
    let _alone = alone();
    let file = format!("/dev/shm/shmslot-test-channel-{}", std::process::id());
    let options = ChannelOptions::default();
    for name in [format!("@shmslot-test-{}", std::process::id()), file.clone()] {
        assert_eq!(code(Listener::bind("no-path", &options)), Code::BadName);
        let listener = Listener::bind(&name, &options).expect("the name is free");
        assert_eq!(code(Listener::bind(&name, &options)), Code::Exists);
        assert_eq!(code(listener.accept(NOW)), Code::Again);
        assert_eq!(code(listener.accept(SHORT)), Code::Timeout);
        let near = Channel::connect(&name, &options, PATIENT).expect("it listens");
        let far = listener.accept(None).expect("one has connected");
        let registry = registry(PAGE, PAGE);
        registry.add(&near, NOW).expect("it is empty");
        let lease = filled(&registry, b"by name");
        assert_eq!(resolve(&attachments(&far), &lease).expect("announced").to_vec(), b"by name");
        drop(listener);
        assert!(matches!(code(Channel::connect(&name, &options, PATIENT)), Code::NotFound));
    }
    // The remains of a dead process: a socket file without a socket.
    drop(std::os::unix::net::UnixListener::bind(&file).expect("the name is free"));
    assert!(std::fs::exists(&file).expect("it can be looked at"));
    let listener = Listener::bind(&file, &options).expect("the dead one is replaced");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    drop(listener);
    // But not a file of another program.
    std::fs::write(&file, b"precious").expect("the name is free");
    assert_eq!(code(Listener::bind(&file, &options)), Code::Exists);
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"precious");
    std::fs::remove_file(&file).expect("it is ours");
}

#[test]
fn leases_and_places_outlive_what_gave_them() {
    let _alone = alone();
    let before = (open_descriptors(), mapped_regions());
    let (registry, attachments) = both(PAGE, PAGE);
    let lease = filled(&registry, b"text");
    let place = resolve(&attachments, &lease).expect("announced");
    drop((registry, attachments));
    assert_eq!(place.to_vec(), b"text");
    drop(lease);
    assert_eq!(place.to_vec(), b"text");
    drop(place);
    assert_eq!((open_descriptors(), mapped_regions()), before);
}

/// Other processes can neither write to nor truncate the regions that they map.
#[test]
fn receivers_can_only_read() {
    let _alone = alone();
    let (near, far) = pair();
    let registry = registry(PAGE, PAGE);
    registry.add(&near, NOW).expect("it is empty");
    let _lease = filled(&registry, b"text");
    let held = std::fs::read_dir("/proc/self/fd")
        .expect("procfs")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| {
            std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("shmslot-region"))
        })
        .expect("the region has a descriptor");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(held).expect("ours");
    let refused = |result: std::io::Result<()>| {
        assert_eq!(result.expect_err("sealed").kind(), ErrorKind::PermissionDenied);
    };
    refused(file.set_len(1));
    refused(file.set_len(1 << 20));
    refused(memmap2::MmapOptions::new().map_raw(&file).map(drop));
    assert!(far.fd().expect("its own").as_raw_fd() >= 0);
}
