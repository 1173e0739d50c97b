//! Payloads larger than a slot: regions here, and what other libraries have for that. One thread on
//! both sides.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::place::Place;
use crate::harness::rows::{Settings, keep};
use crate::payload::{
    self, Home, Measure, Source, Table, Work, one_thread, raw_copy, raw_copy_and_sum, row,
};
use shm_primitives::FileCleanup;
use vox_shm::mmap_registry::{MmapAttachments, MmapChannelRx, MmapChannelTx, MmapRegistry};
use vox_shm::{Segment, SegmentConfig, SizeClassConfig, create_test_link_pair};
use vox_types::{Link, LinkRx, LinkTx, LinkTxPermit, WriteSlot};
use zerodds_flatdata::{PosixSlotAllocator, SlotBackend};

/// Slots in hand of each library, as many as shmslot has.
const SLOTS: u32 = 4;

/// How many payloads go through vox-shm's regions at most: their mappings and descriptors stay
/// until the end.
const MOST_REGIONS: usize = 256;

fn unique_path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("shmslot-peers-{}-{count}-{name}", std::process::id()))
}

fn finish(bytes: &[u8], source: Option<&Source>) -> u64 {
    match source {
        Some(_) => payload::sum(bytes),
        None => std::hint::black_box(bytes).len() as u64,
    }
}

/// alloc, resolve and release of vox-shm's registry, without its ring: nobody orders or announces
/// the payload.
fn vox_registry(work: Work, len: usize) -> f64 {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (sender, receiver) =
        shm_primitives_async::create_mmap_control_pair_connected().expect("a pair");
    // As its link makes it.
    let mut registry = MmapRegistry::new(MmapChannelTx::Real(sender), 1 << 20);
    let mut attachments = MmapAttachments::new(MmapChannelRx::Real(receiver));
    payload::per_turn(len, work, MOST_REGIONS, |source| {
        let mut allocation = registry.alloc(len).expect("memory");
        if let Some(source) = source {
            // SAFETY: just allocated, so nobody reads it.
            unsafe { allocation.payload_mut(len) }.copy_from_slice(&source.bytes);
        }
        attachments.drain_control();
        let (id, generation, offset) =
            (allocation.map_id, allocation.map_generation, allocation.map_offset);
        let mapping = attachments.resolve(id, generation, offset, len as u32).expect("announced");
        let region = mapping.region.region();
        // SAFETY: `resolve` has looked that it is inside, and nobody writes to it.
        let bytes =
            unsafe { std::slice::from_raw_parts(region.as_ptr().add(offset as usize), len) };
        let result = finish(bytes, source);
        allocation.lease_counter.fetch_sub(1, Ordering::Release);
        registry.try_reclaim();
        result
    })
}

/// The whole of vox-shm: reserve, alloc, commit, recv and drop, by its link. Polled: it never waits
/// on its sockets.
fn vox_link(home: Home, work: Work, len: usize) -> f64 {
    // A payload in a slot has four bytes before it.
    let slot_size = if home == Home::Slot { len as u32 + 64 } else { 4096 };
    let size_classes = [SizeClassConfig { slot_size, slot_count: SLOTS }];
    let config = SegmentConfig {
        max_guests: 1,
        bipbuf_capacity: 64 << 10,
        max_payload_size: len as u32,
        inline_threshold: 256,
        heartbeat_interval: 0,
        size_classes: &size_classes,
    };
    let runtime = runtime();
    let segment =
        Segment::create(&unique_path("vox"), config, FileCleanup::Auto).expect("a segment");
    runtime.block_on(async {
        let (host, guest) = create_test_link_pair(Arc::new(segment)).await.expect("a link");
        let (tx, _) = host.split();
        let (_, mut rx) = guest.split();
        let most = if home == Home::Slot { usize::MAX } else { MOST_REGIONS };
        payload::per_turn(len, work, most, |source| {
            // All of these are ready at once, so no runtime is needed to drive them.
            let permit = ready(tx.reserve()).expect("room");
            let mut slot = permit.alloc(len).expect("memory");
            if let Some(source) = source {
                slot.as_mut_slice().copy_from_slice(&source.bytes);
            }
            slot.commit();
            let backing = ready(rx.recv()).expect("a payload").expect("the peer lives");
            finish(backing.as_bytes(), source)
        })
    })
}

/// reserve, commit in place, next unread and mark of zerodds-flatdata.
fn flatdata(work: Work, len: usize) -> f64 {
    let allocator = PosixSlotAllocator::create(unique_path("flatdata"), SLOTS as usize, len)
        .expect("a segment");
    payload::per_turn(len, work, usize::MAX, |source| {
        let loan = allocator.reserve_slot(1).expect("a slot");
        let (start, room) = allocator.slot_data_ptr(loan).expect("a loan");
        assert!(room >= len);
        if let Some(source) = source {
            // SAFETY: a loan with that much room.
            unsafe { start.copy_from_nonoverlapping(source.bytes.as_ptr(), len) };
        }
        allocator.commit_in_place(loan, len).expect("a commit");
        let slot = allocator.next_unread_slot(0).expect("a read").expect("a sample");
        let (start, size) = allocator.slot_read_ptr(slot).expect("a sample");
        // SAFETY: unread, so nobody writes to it.
        let result = finish(unsafe { std::slice::from_raw_parts(start, size) }, source);
        allocator.mark_read(slot, 0).expect("a mark");
        result
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime")
}

/// What a future gives that does not wait.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

fn rows(work: Work) -> Vec<(String, Measure)> {
    vec![
        row("shmslot, in a region", move |len| one_thread(Home::Region, work, len)),
        row("shmslot, in a slot of that size", move |len| one_thread(Home::Slot, work, len)),
        row("vox-shm, in its regions, registry alone", move |len| vox_registry(work, len)),
        row("vox-shm, in its regions", move |len| vox_link(Home::Region, work, len)),
        row("vox-shm, in a slot of that size", move |len| vox_link(Home::Slot, work, len)),
        row("zerodds-flatdata, in a slot of that size", move |len| flatdata(work, len)),
    ]
}

/// Prints its two tables.
pub(crate) fn run(settings: &Settings, place: &'static Place) {
    // Their files in memory, as ours are.
    // SAFETY: this program has one thread.
    unsafe { std::env::set_var("TMPDIR", "/dev/shm") };
    let (quick, rounds) = (settings.quick, settings.rounds.min(7));
    let mut untouched = rows(Work::Untouched);
    let ours = untouched.remove(0);
    let mut touched = rows(Work::WrittenAndRead);
    touched.insert(0, row("copy alone, private buffers", raw_copy));
    let copied = row("copy and sum, private buffers", raw_copy_and_sum);
    let text: String = [
        ("one thread, large payload untouched", ours, untouched),
        ("one thread, large payload written and read", copied, touched),
    ]
    .into_iter()
    .filter(|(title, ..)| settings.wants(title))
    .map(|(title, raw, rows)| {
        payload::table(&Table { title, raw, rows, rounds, quick, crosses: false }, place)
    })
    .collect();
    if !text.is_empty() {
        print!("{text}");
        keep(settings, "peers_large", &text);
    }
}
