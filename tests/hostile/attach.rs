//! Files that pretend to be segments.

use std::cell::OnceCell;
use std::ffi::CString;
use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::sync::OnceLock;

use shmslot::layout::{HEADER_FIELDS, HEADER_SIZE};
use shmslot::{AttachOptions, Code, CreateOptions, Policy, Segment};

use super::calls::World;
use super::choices::Choices;
use super::fence::fenced;

/// Longest file whose bytes are all written; larger ones have holes.
const MAX_CONTENTS: usize = 1 << 17;
/// Largest control part, because attach touches all of it.
const MAX_CONTROL: u128 = 1 << 20;
/// Largest file; a hole takes no memory, but page tables for a whole address space would.
const MAX_TOTAL: u128 = 1 << 45;

/// How a file is given to attach.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Descriptor,
    Name,
    Path,
}

/// A file that is a segment, changed by the bytes, or that consists of bytes only. If attach
/// accepts it, a life on it follows, beside a hostile peer.
pub(crate) fn attach(bytes: &[u8]) {
    let mut c = Choices::new(bytes);
    let options = AttachOptions {
        observer: c.byte() >= 224,
        any_owner: c.flag(),
        type_hash: if c.byte() < 240 { [0; 16] } else { [c.byte(); 16] },
        ..AttachOptions::default()
    };
    let by = c.pick(&[By::Descriptor, By::Descriptor, By::Name, By::Path]);
    let (sealed, mode) = (c.byte() < 240, if c.byte() < 240 { 0o600 } else { 0o644 });
    let (contents, size, life) =
        if c.byte() < 240 { impostor(&mut c) } else { (c.rest().to_vec(), None, &[][..]) };
    let size = size.unwrap_or(contents.len() as u64);

    let file = if by == By::Descriptor { anonymous_file() } else { named_file(mode) };
    fill(&file, &contents, size);
    if by == By::Descriptor && sealed {
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a call on a descriptor, with a number.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        assert_eq!(result, 0, "sealing");
    }

    let path = file_of_this_process().to_str().expect("plain");
    let attached = fenced(size as usize, || match by {
        By::Descriptor => Segment::attach_fd(file.as_fd(), &options),
        By::Name => Segment::attach(&format!("hostile-{}", std::process::id()), &options),
        By::Path => Segment::attach(path, &options),
    });
    if by != By::Descriptor {
        // An ephemeral segment that says so takes its name away when nobody is left in it.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.expect("it was made above"),
        }
    }
    let (segment, fence) = match attached {
        Ok(attached) => attached,
        Err(error) => return assert_ne!(error.code(), Code::Panic),
    };
    let header = &contents[..HEADER_SIZE];
    let mut consistent = header.to_vec();
    let needed = make_consistent(&mut consistent);
    assert!(is_in_range(header) && header == consistent, "attached to nonsense");
    assert_eq!(needed, Some(size), "attached to a file of another size");
    let Some(fence) = fence else { return };
    World::attached(segment, fence, file.as_fd(), options).live(&mut Choices::new(life));
}

/// Where files with a name are, in a form that a signal handler can remove.
pub(crate) fn file_of_this_process() -> &'static CString {
    static PATH: OnceLock<CString> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = format!("/dev/shm/shmslot.hostile-{}", std::process::id());
        CString::new(path).expect("a path has no NUL")
    })
}

fn anonymous_file() -> File {
    // SAFETY: the name is a C string; the result is a new descriptor, or -1.
    let fd = unsafe {
        libc::memfd_create(c"hostile".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    };
    assert!(fd >= 0, "memfd_create");
    // SAFETY: just made, and not owned by anything else.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.set_permissions(Permissions::from_mode(0o600)).expect("our own file");
    file
}

fn named_file(mode: u32) -> File {
    let path = file_of_this_process().to_str().expect("plain");
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path);
    file.expect("a name of our own in shared memory")
}

/// Pages of zeros stay holes.
fn fill(file: &File, contents: &[u8], size: u64) {
    const PAGE: usize = 4096;
    for (page, bytes) in contents.chunks(PAGE).enumerate() {
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(bytes, (page * PAGE) as u64).expect("there is memory");
        }
    }
    file.set_len(size).expect("a size that files can have");
}

/// A header field, as a number of up to 8 bytes.
fn field(name: &str) -> (usize, usize) {
    let field = HEADER_FIELDS.iter().find(|(field, ..)| *field == name).expect("documented");
    (field.1, field.2.min(8))
}

fn get(header: &[u8], name: &str) -> u128 {
    let (at, size) = field(name);
    header[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn put(header: &mut [u8], name: &str, value: u64) {
    let (at, size) = field(name);
    header[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

/// FNV-1a as `docs/segment-layout.md` defines it.
fn checksum(header: &[u8]) -> u64 {
    let (end, _) = field("checksum");
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    header[..end].iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Whether every field from which sizes are computed is in its range.
fn is_in_range(header: &[u8]) -> bool {
    let get = |name| get(header, name);
    (1..=1 << 24).contains(&get("slot_count"))
        && (1..=1 << 32).contains(&get("slot_capacity"))
        && [64, 128, 256, 512, 1024, 2048, 4096].contains(&get("payload_align"))
        && get("user_header_size") <= 256
        && (1..=63).contains(&get("max_readers"))
        && (1..=4095).contains(&get("max_participants"))
        && get("history") < get("slot_count")
        && match get("max_payload") {
            0 => get("region_count") == 0,
            max => {
                (get("slot_capacity") + 1..=1 << 32).contains(&max)
                    && (get("history") + 1..=63).contains(&get("region_count"))
            }
        }
        && (1..=3).contains(&get("policy"))
        && get("flags") <= 7
}

/// The size of the control part, the start of the regions, and the total size that the page gives
/// for this geometry, valid or not, in numbers that cannot overflow.
fn extents_of(header: &[u8]) -> (u128, u128, u128) {
    let get = |name| get(header, name);
    let (slots, align) = (get("slot_count"), get("payload_align").max(1));
    let up = |value: u128, to: u128| value.div_ceil(to) * to;
    let mut vacancy_words = 0;
    let mut level = slots;
    while level > 1 || vacancy_words == 0 {
        level = level.div_ceil(64);
        vacancy_words += level.max(1);
    }
    let lines = up(0x1800 + get("max_participants") * 64, 128);
    let vacancy = up(lines + slots * 64 + slots * 16, 128);
    let rows = up(vacancy + vacancy_words * 8, 64);
    let control = up(rows + get("region_count") * 64, 4096);
    let payload = up(control + slots * up(get("user_header_size"), 64), align);
    let fixed = up(payload + slots * up(get("slot_capacity"), align), 4096);
    let regions = if get("region_count") == 0 { fixed } else { up(fixed, 2 << 20) };
    (control, regions, regions + get("region_count") * up(get("max_payload"), 2 << 20))
}

/// Makes the sizes in the header agree with its geometry; returns the size that the file needs, if
/// that is possible.
fn make_consistent(header: &mut [u8]) -> Option<u64> {
    let (control, regions, total) = extents_of(header);
    let slots = get(header, "slot_count");
    let align = get(header, "payload_align").max(1);
    let stride = get(header, "slot_capacity").div_ceil(align) * align;
    let payload = (control + slots * get(header, "user_header_size").div_ceil(64) * 64)
        .div_ceil(align)
        * align;
    put(header, "total_size", total as u64);
    put(header, "control_size", control as u64);
    put(header, "payload_offset", payload as u64);
    put(header, "payload_stride", stride as u64);
    put(header, "regions_offset", regions as u64);
    put(header, "region_stride", (get(header, "max_payload").div_ceil(2 << 20) * (2 << 20)) as u64);
    (control <= MAX_CONTROL && total <= MAX_TOTAL).then_some(total as u64)
}

/// Segments as processes leave them behind.
fn templates() -> Vec<Vec<u8>> {
    let shape = |slot_count, history, policy, single_writer, max_readers| CreateOptions {
        slot_count,
        slot_capacity: 100,
        user_header_size: if single_writer { 8 } else { 0 },
        max_readers,
        max_participants: 2,
        history,
        policy: Some(policy),
        single_writer,
        timestamps: single_writer,
        ..CreateOptions::default()
    };
    let shapes = [
        shape(4, 0, Policy::Fail, false, 3),
        shape(5, 2, Policy::DropOldest, false, 15),
        shape(65, 3, Policy::Block, true, 63),
        shape(2, 1, Policy::DropOldest, true, 17),
    ];
    shapes.iter().map(template).collect()
}

fn template(options: &CreateOptions) -> Vec<u8> {
    let segment = Segment::create_anonymous(options).expect("the shape is right");
    let file = File::from(
        segment.fd().expect("it has a file").try_clone_to_owned().expect("a descriptor"),
    );
    {
        let reader = segment.reader(0).expect("room for a reader");
        let writer = segment.writer().expect("the only one");
        let _ = writer.write(b"first", None);
        let _ = reader.read().expect("it is there").map(|sample| sample.to_vec());
        let _ = writer.write(b"second", Some(std::time::Duration::ZERO));
    }
    drop(segment);
    let mut bytes = vec![0; file.metadata().expect("our own file").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("as long as it says");
    bytes
}

/// Bytes of a file, its size if that differs, and the bytes that decide what happens to it later.
fn impostor<'a>(c: &mut Choices<'a>) -> (Vec<u8>, Option<u64>, &'a [u8]) {
    thread_local!(static TEMPLATES: OnceCell<Vec<Vec<u8>>> = const { OnceCell::new() });
    let which = c.below(4);
    let mut bytes = TEMPLATES.with(|all| all.get_or_init(templates)[which].clone());
    // Each alone, and both: a hostile geometry that is consistent gets furthest.
    let (consistent, summed) =
        c.pick(&[(true, true), (true, true), (true, true), (true, false), (false, true)]);
    for _ in 0..c.below(6) {
        spoil(&mut bytes, c);
    }
    bytes.truncate(MAX_CONTENTS);
    let mut size = None;
    if let Some(header) = bytes.get_mut(..HEADER_SIZE) {
        if consistent {
            size = make_consistent(header);
        }
        if summed {
            let sum = checksum(header);
            put(header, "checksum", sum);
        }
    }
    (bytes, size, c.rest())
}

/// The fields from which sizes are computed, and those that select features.
const GEOMETRY: [&str; 11] = [
    "slot_capacity",
    "slot_count",
    "payload_align",
    "user_header_size",
    "max_readers",
    "max_participants",
    "history",
    "max_payload",
    "region_count",
    "policy",
    "flags",
];

fn spoil(bytes: &mut Vec<u8>, c: &mut Choices<'_>) {
    let at = |bytes: &[u8], c: &mut Choices<'_>, step: usize| {
        c.below((bytes.len() / step).max(1)) * step
    };
    match c.below(8) {
        0..4 if bytes.len() >= HEADER_SIZE => {
            let (any, ..) = c.pick(HEADER_FIELDS);
            let name = if c.flag() { c.pick(&GEOMETRY) } else { any };
            let old = get(bytes, name) as u64;
            let random = c.word() >> c.below(64);
            let numbers =
                [0, 1, 2, 3, 63, 64, 65, 100, 4095, 4096, 1 << 24, 1 << 32, u64::MAX, random];
            let value = match c.below(4) {
                0 => old ^ 1 << c.below(64),
                1 => old.wrapping_add_signed(i64::from(c.byte() as i8)),
                _ => c.pick(&numbers),
            };
            put(bytes, name, value);
        }
        4 => {
            let (at, bit) = (at(bytes, c, 1), c.below(8));
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
        }
        5 => {
            let (at, word) = (at(bytes, c, 8), c.word().to_le_bytes());
            bytes.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = new);
        }
        6 => {
            let at = at(bytes, c, 1);
            bytes.resize(if c.flag() { at } else { bytes.len() + at }, 0);
        }
        _ => {
            let hole = at(bytes, c, 512);
            let len = c.pick(&[512, 4096, 1 << 16]);
            bytes.iter_mut().skip(hole).take(len).for_each(|byte| *byte = 0);
        }
    }
}
