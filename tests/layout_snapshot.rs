//! `docs/segment-layout.md` matches the code, byte by byte and bit by bit.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use shmslot::layout::{
    self, BIT_FIELDS, Geometry, HEADER_FIELDS, HEADER_SIZE, HeaderBytes, Offsets,
};
use shmslot::{AttachOptions, Code, CreateOptions, Policy, Segment};

// ---- the page ----

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/segment-layout.md");
    std::fs::read_to_string(path).expect("docs/segment-layout.md is there")
}

/// The rows of the only table under a heading. Names are in backticks there.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let marked = format!("\n{heading}\n");
    let parts: Vec<&str> = page.split(&marked).collect();
    assert_eq!(parts.len(), 2, "the heading {heading:?} stands there once");
    let lines: Vec<&str> = parts[1]
        .lines()
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with('|'))
        .collect();
    let rows: Vec<_> = lines[2..]
        .iter()
        .map(|line| {
            line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "an empty table under {heading:?}");
    rows
}

fn number(text: &str) -> u64 {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// A table of names and numbers; a name that occurs twice is a mistake of the page.
fn numbers(heading: &str, column: usize) -> BTreeMap<String, u64> {
    let rows = table(heading);
    let map: BTreeMap<_, _> =
        rows.iter().map(|row| (row[0].clone(), number(&row[column]))).collect();
    assert_eq!(map.len(), rows.len(), "a name twice under {heading:?}");
    map
}

fn named<T: AsRef<str>>(pairs: impl IntoIterator<Item = (T, u64)>) -> BTreeMap<String, u64> {
    pairs.into_iter().map(|(name, value)| (name.as_ref().to_owned(), value)).collect()
}

/// A bit field of a word: lowest bit and number of bits.
fn bits(word: u64, table: &str, field: &str) -> u64 {
    let heading = format!("### Bits of `{table}`");
    let (low, count) = (numbers(&heading, 1), numbers(&heading, 2));
    word >> low[field] & u64::MAX >> (64 - count[field])
}

const WORD_TABLES: [&str; 7] = [
    "### Hot words",
    "### Slot line",
    "### Receipts",
    "### Claim",
    "### Region row",
    "### Reader row",
    "### Participant row",
];

/// The offset of a word, from the page.
fn word_at(name: &str) -> usize {
    let all = WORD_TABLES.iter().find_map(|heading| numbers(heading, 1).remove(name));
    all.unwrap_or_else(|| panic!("no word {name:?}")) as usize
}

/// The bytes of a header field, from the page.
fn field<'a>(bytes: &'a [u8], name: &str) -> &'a [u8] {
    let heading = "## Constant header";
    let at = numbers(heading, 1)[name] as usize;
    &bytes[at..at + numbers(heading, 2)[name] as usize]
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

// ---- the page against the code ----

#[test]
fn header_fields() {
    let code = |part: fn(&layout::HeaderField) -> usize| {
        named(HEADER_FIELDS.iter().map(|field| (field.0, part(field) as u64)))
    };
    assert_eq!(numbers("## Constant header", 1), code(|field| field.1), "offsets");
    assert_eq!(numbers("## Constant header", 2), code(|field| field.2), "sizes");

    let mut end = 0;
    for (name, offset, size) in HEADER_FIELDS {
        assert_eq!(*offset, end, "{name} follows the field before it");
        end = offset + size;
    }
    assert_eq!(end, HEADER_SIZE);
}

#[test]
fn words() {
    let page: BTreeMap<_, _> = WORD_TABLES.iter().flat_map(|heading| numbers(heading, 1)).collect();
    let code = layout::word_offsets().into_iter().map(|(name, offset)| (name, offset as u64));
    assert_eq!(page, named(code));

    // A word that overlaps another, or exceeds its row, is a mistake of the page.
    let ends = [
        layout::READERS_OFFSET,
        layout::SLOT_LINE_SIZE,
        layout::SLOT_LINE_SIZE,
        layout::CLAIM_SIZE,
        layout::REGION_ROW_SIZE,
        layout::READER_ROW_SIZE,
        layout::PARTICIPANT_ROW_SIZE,
    ];
    for (heading, end) in WORD_TABLES.into_iter().zip(ends) {
        let mut free_from = 0;
        for row in table(heading) {
            assert!(number(&row[1]) >= free_from, "{} overlaps the word before it", row[0]);
            free_from = number(&row[1]) + number(&row[2]);
        }
        assert!(free_from <= end, "{heading} is longer than its row");
    }
}

#[test]
fn constants() {
    let mut rows: BTreeMap<String, String> =
        table("## Constants").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let magic = rows.remove("MAGIC").expect("MAGIC is there");
    let bytes: Vec<u8> =
        magic.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
    assert_eq!(bytes, layout::MAGIC);
    let page: BTreeMap<_, _> =
        rows.into_iter().map(|(name, value)| (name, number(&value))).collect();
    let code = named([
        ("LAYOUT_VERSION", u64::from(layout::LAYOUT_VERSION)),
        ("BYTE_ORDER", u64::from(layout::BYTE_ORDER)),
        ("HEADER_SIZE", layout::HEADER_SIZE as u64),
        ("HOT_OFFSET", layout::HOT_OFFSET),
        ("READERS_OFFSET", layout::READERS_OFFSET),
        ("ANTEROOM_OFFSET", layout::ANTEROOM_OFFSET),
        ("PARTICIPANTS_OFFSET", layout::PARTICIPANTS_OFFSET),
        ("NEW_ROW", u64::from(layout::NEW_ROW)),
        ("PAGE", layout::PAGE),
        ("MAX_SLOTS", u64::from(layout::MAX_SLOTS)),
        ("MAX_CAPACITY", layout::MAX_CAPACITY),
        ("MAX_READERS", u64::from(layout::MAX_READERS)),
        ("MAX_PARTICIPANTS", u64::from(layout::MAX_PARTICIPANTS)),
        ("MAX_USER_HEADER", u64::from(layout::MAX_USER_HEADER)),
        ("MAX_TYPE_NAME", layout::MAX_TYPE_NAME as u64),
        ("MARKS_PER_WORD", u64::from(layout::MARKS_PER_WORD)),
        ("MARK_WORDS", layout::MARK_WORDS as u64),
        ("SLOT_LINE_SIZE", layout::SLOT_LINE_SIZE),
        ("CLAIM_SIZE", layout::CLAIM_SIZE),
        ("READER_ROW_SIZE", layout::READER_ROW_SIZE),
        ("REGION_ROW_SIZE", layout::REGION_ROW_SIZE),
        ("MAX_REGIONS", u64::from(layout::MAX_REGIONS)),
        ("REGION_ALIGN", layout::REGION_ALIGN),
        ("PARTICIPANT_ROW_SIZE", layout::PARTICIPANT_ROW_SIZE),
        ("BEING_TAKEN", u64::from(layout::BEING_TAKEN)),
        ("RETIRED", u64::from(layout::RETIRED)),
        ("FLAG_SINGLE_WRITER", u64::from(layout::FLAG_SINGLE_WRITER)),
        ("FLAG_TIMESTAMPS", u64::from(layout::FLAG_TIMESTAMPS)),
        ("FLAG_EPHEMERAL", u64::from(layout::FLAG_EPHEMERAL)),
        ("Policy::Block", Policy::Block as u64),
        ("Policy::Fail", Policy::Fail as u64),
        ("Policy::DropOldest", Policy::DropOldest as u64),
    ]);
    assert_eq!(page, code);
}

#[test]
fn bit_fields() {
    let words: BTreeSet<&str> = BIT_FIELDS.iter().map(|field| field.0).collect();
    for word in words {
        let heading = format!("### Bits of `{word}`");
        let of_word = || BIT_FIELDS.iter().filter(|field| field.0 == word);
        let lowest = named(of_word().map(|(_, name, low, _)| (*name, u64::from(*low))));
        let counts = named(of_word().map(|(_, name, _, count)| (*name, u64::from(*count))));
        assert_eq!((numbers(&heading, 1), numbers(&heading, 2)), (lowest, counts), "{word}");
    }
}

fn default_geometry() -> Geometry {
    let segment = Segment::create_local(&CreateOptions::default()).expect("a segment");
    Geometry { segment_id: 1, ..segment.info().expect("not forked").geometry }
}

#[test]
fn worked_example() {
    // Destructured without "..", so that a new part is noticed here and not forgotten on the page.
    let Offsets {
        lines,
        claims,
        vacancy,
        region_rows,
        audiences,
        control_size,
        user_headers,
        user_header_stride,
        payload,
        payload_stride,
        fixed_size,
        regions,
        region_stride,
        total,
    } = default_geometry().offsets().expect("it fits");
    let code = named([
        ("lines", lines),
        ("claims", claims),
        ("vacancy", vacancy),
        ("region_rows", region_rows),
        ("audiences", audiences),
        ("control_size", control_size),
        ("user_headers", user_headers),
        ("user_header_stride", user_header_stride),
        ("payload", payload),
        ("payload_stride", payload_stride),
        ("fixed_size", fixed_size),
        ("regions", regions),
        ("region_stride", region_stride),
        ("total", total),
    ]);
    assert_eq!(numbers("### Worked example", 1), code);
    let slot_5 =
        [("line", lines + 5 * 64), ("claim", claims + 5 * 16), ("payload", payload + 5 * 4096)];
    for (what, at) in slot_5 {
        assert!(page().contains(&format!(" = {at}")), "the {what} of slot 5 is at {at}");
    }
}

// ---- headers as bytes ----

/// The rule of the page, implemented again: the parts in their order, each aligned.
fn expected_offsets(geometry: &Geometry) -> Offsets {
    let up = |value: u64, align: u64| value.div_ceil(align) * align;
    let slots = u64::from(geometry.slot_count);
    let (mut level, mut vacancy_words) = (slots, 0);
    while level != 1 || vacancy_words == 0 {
        level = level.div_ceil(64);
        vacancy_words += level;
    }
    let align = u64::from(geometry.payload_align);
    let lines = up(0x1800 + u64::from(geometry.max_participants) * 64, 128);
    let claims = lines + slots * 64;
    let vacancy = up(claims + slots * 16, 128);
    let region_rows = up(vacancy + vacancy_words * 8, 64);
    let region_count = u64::from(geometry.region_count);
    let audiences = region_rows + region_count * 64;
    let control_size = up(audiences + slots * 8, 4096);
    let user_header_stride = up(u64::from(geometry.user_header_size), 64);
    let payload = up(control_size + slots * user_header_stride, align);
    let payload_stride = up(geometry.slot_capacity, align);
    let fixed_size = up(payload + slots * payload_stride, 4096);
    let regions = if region_count == 0 { fixed_size } else { up(fixed_size, 2 << 20) };
    let region_stride = up(geometry.max_payload, 2 << 20);
    let total = regions + region_count * region_stride;
    Offsets {
        lines,
        claims,
        vacancy,
        region_rows,
        audiences,
        control_size,
        user_headers: control_size,
        user_header_stride,
        payload,
        payload_stride,
        fixed_size,
        regions,
        region_stride,
        total,
    }
}

/// Geometries at the limits of every range, in a fixed mixed order.
fn edge_geometries() -> impl Iterator<Item = Geometry> {
    const COUNT: u64 = 20_000;
    (0..COUNT).map(|index| {
        // Steps through all combinations with a stride that shares no factor with their number.
        let mut rest = index.wrapping_mul(1_000_003);
        let mut pick = |choices: &[u64]| {
            let choice = choices[(rest % choices.len() as u64) as usize];
            rest /= choices.len() as u64;
            choice
        };
        let slot_count =
            pick(&[1, 2, 3, 63, 64, 65, 4095, 4096, 4097, 1 << 18, (1 << 24) - 1, 1 << 24]) as u32;
        let history = pick(&[0, u64::from(slot_count / 2), u64::from(slot_count - 1)]) as u32;
        let slot_capacity = pick(&[1, 63, 64, 65, 4095, 4096, (1 << 32) - 1, 1 << 32]);
        // Regions only where the ranges leave room for them.
        let with_regions = history < 63 && slot_capacity < 1 << 32 && pick(&[0, 1]) == 1;
        let max_payload = pick(&[slot_capacity + 1, (slot_capacity + 1).max(2 << 20), 1 << 32]);
        let region_count = pick(&[u64::from(history) + 1, 63]);
        Geometry {
            max_payload: if with_regions { max_payload } else { 0 },
            region_count: if with_regions { region_count as u32 } else { 0 },
            max_held: pick(&[0, 1, u64::from(u32::MAX)]) as u32,
            slot_count,
            slot_capacity,
            payload_align: pick(&[64, 128, 4096]) as u32,
            user_header_size: pick(&[0, 1, 64, 65, 256]) as u32,
            max_readers: pick(&[1, 15, 16, 31, 32, 63]) as u32,
            max_participants: pick(&[1, 2, 64, 4095]) as u32,
            history,
            policy: [Policy::Fail, Policy::Block, Policy::DropOldest][pick(&[0, 1, 2]) as usize],
            single_writer: pick(&[0, 1]) == 1,
            timestamps: pick(&[0, 1]) == 1,
            ephemeral: pick(&[0, 1]) == 1,
            mode: pick(&[0o600, 0o660, 0o666]) as u32,
            segment_id: index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            type_hash: [index as u8; 16],
            type_name: std::array::from_fn(|at| if at < 63 { index as u8 } else { 0 }),
        }
    })
}

#[test]
fn decode_gives_back_what_was_encoded() {
    for geometry in edge_geometries() {
        assert_eq!(geometry.check(), Ok(()), "{geometry:?}");
        let offsets = geometry.offsets().expect("check() made sure");
        assert_eq!(offsets, expected_offsets(&geometry), "{geometry:?}");
        let header = geometry.encode(&offsets);
        assert_eq!(Geometry::decode(&header), Ok((geometry, offsets)));
        assert_eq!(little(field(&header, "checksum")), fnv1a(&header[..504]));
    }
}

fn valid_header() -> HeaderBytes {
    let geometry = Geometry {
        history: 3,
        user_header_size: 16,
        policy: Policy::DropOldest,
        type_name: std::array::from_fn(|at| if at < 4 { b't' } else { 0 }),
        ..default_geometry()
    };
    geometry.encode(&geometry.offsets().expect("it fits"))
}

#[test]
fn a_changed_byte_is_found() {
    let valid = valid_header();
    let (geometry, offsets) = Geometry::decode(&valid).expect("it is valid");
    for at in 0..HEADER_SIZE {
        for change in 1..=u8::MAX {
            let mut header = valid;
            header[at] ^= change;
            if let Ok(decoded) = Geometry::decode(&header) {
                assert_eq!(
                    decoded,
                    (geometry.clone(), offsets),
                    "byte {at} changed by {change:#x}"
                );
            }
        }
    }
}

/// Stores the right checksum over a changed header, as a hostile process would.
fn forge(header: &mut HeaderBytes) {
    let sum = fnv1a(&header[..504]);
    header[504..].copy_from_slice(&sum.to_le_bytes());
}

/// Decoding a header ends, whatever it contains: a call that does not return fails here.
fn decode(header: HeaderBytes) -> Result<(Geometry, Offsets), Code> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(tell.send(Geometry::decode(&header))));
    told.recv_timeout(std::time::Duration::from_secs(60)).expect("decode comes back")
}

#[test]
fn a_forged_header_is_refused_or_consistent() {
    for at in 0..504 {
        for change in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            let mut header = valid_header();
            header[at] ^= change;
            forge(&mut header);
            if let Ok((geometry, offsets)) = decode(header) {
                assert_eq!(geometry.check(), Ok(()), "byte {at} changed by {change:#x}");
                assert_eq!(geometry.offsets(), Some(offsets));
            }
        }
    }
}

#[test]
fn each_check_has_its_code() {
    let cases = [
        ("magic", 0, Err(Code::NotASegment)),
        ("layout_version", 1, Err(Code::LayoutVersion)),
        ("byte_order", 0x0403_0201, Err(Code::LayoutVersion)),
        ("header_size", 513, Err(Code::Corrupt)),
        ("features_required", 1 << 63, Err(Code::LayoutVersion)),
        ("features_optional", 1 << 63, Ok(())),
        ("flags", 8, Err(Code::LayoutVersion)),
        ("policy", 4, Err(Code::LayoutVersion)),
        ("slot_count", 0, Err(Code::Corrupt)),
        ("slot_count", 1 << 24, Err(Code::Corrupt)), // in its range, but the sizes differ
        ("payload_align", 96, Err(Code::Corrupt)),
        ("history", 64, Err(Code::Corrupt)),
        ("mode", 0o777, Err(Code::Corrupt)),
        ("total_size", 0, Err(Code::Corrupt)),
        ("control_size", 0, Err(Code::Corrupt)),
        ("payload_offset", 0, Err(Code::Corrupt)),
        ("payload_stride", 0, Err(Code::Corrupt)),
    ];
    for (name, value, expected) in cases {
        let mut header = valid_header();
        let (_, offset, size) =
            HEADER_FIELDS.iter().find(|field| field.0 == name).expect("a field");
        header[*offset..offset + size].copy_from_slice(&u64::to_le_bytes(value)[..*size]);
        // Without the right checksum it is corrupt, except for what is checked before that.
        let unforged = match name {
            "magic" | "layout_version" | "byte_order" => expected,
            _ => Err(Code::Corrupt),
        };
        assert_eq!(decode(header).map(drop), unforged, "{name}");
        forge(&mut header);
        assert_eq!(decode(header).map(drop), expected, "{name} = {value:#x}");
    }
}

// ---- a real segment ----

/// A folder in shared memory that is removed with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = PathBuf::from(format!("/dev/shm/shmslot-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("/dev/shm can be written");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder is ours");
    }
}

/// The bytes of a segment file, read by the page.
struct Dump {
    bytes: Vec<u8>,
    at: Offsets,
}

impl Dump {
    fn of(path: &Path) -> Dump {
        let bytes = std::fs::read(path).expect("the segment is a file");
        let header = bytes[..HEADER_SIZE].try_into().expect("512 bytes");
        let (_, at) = Geometry::decode(&header).expect("it is a segment");
        Dump { bytes, at }
    }

    fn u32(&self, offset: usize) -> u64 {
        little(&self.bytes[offset..offset + 4])
    }

    fn u64(&self, offset: usize) -> u64 {
        little(&self.bytes[offset..offset + 8])
    }

    fn hot(&self, name: &str) -> u64 {
        self.u64(word_at(name))
    }

    fn line(&self, slot: usize, name: &str, index: usize) -> u64 {
        self.u64(self.at.lines as usize + slot * 64 + word_at(name) + index * 8)
    }

    fn claim(&self, slot: usize, name: &str) -> u64 {
        self.u64(self.at.claims as usize + slot * 16 + word_at(name))
    }

    fn reader(&self, index: u32, name: &str) -> u64 {
        self.u64(0x800 + index as usize * 64 + word_at(name))
    }
}

#[test]
fn a_real_segment_is_what_the_page_says() {
    let folder = Folder::new("layout");
    let path = folder.0.join("segment");
    let name = path.to_str().expect("it is text");
    let options = CreateOptions {
        slot_count: 4,
        slot_capacity: 100,
        payload_align: 128,
        user_header_size: 16,
        max_readers: 20,
        max_participants: 3,
        history: 1,
        max_held: 5,
        mode: 0o640,
        type_hash: *b"0123456789abcdef",
        type_name: "example::Type".to_owned(),
        ..CreateOptions::default()
    };
    let segment = Segment::create(name, &options).expect("a new segment");
    let info = segment.info().expect("not forked");

    // The constant header, field by field; no field may be forgotten here.
    let dump = Dump::of(&path);
    let mut type_name = options.type_name.clone().into_bytes();
    type_name.resize(64, 0);
    let le4 = |value: u32| value.to_le_bytes().to_vec();
    let le8 = |value: u64| value.to_le_bytes().to_vec();
    let expected: BTreeMap<&str, Vec<u8>> = [
        ("magic", layout::MAGIC.to_vec()),
        ("layout_version", le4(2)),
        ("byte_order", le4(0x0102_0304)),
        ("header_size", le4(512)),
        ("reserved_20", le4(0)),
        ("features_required", le8(0)),
        ("features_optional", le8(0)),
        ("total_size", le8(info.total_size)),
        ("segment_id", le8(info.geometry.segment_id)),
        ("slot_capacity", le8(100)),
        ("slot_count", le4(4)),
        ("payload_align", le4(128)),
        ("user_header_size", le4(16)),
        ("max_readers", le4(20)),
        ("max_participants", le4(3)),
        ("history", le4(1)),
        ("policy", le4(1)),
        ("flags", le4(0)),
        ("mode", le4(0o640)),
        ("reserved_100", le4(0)),
        ("control_size", le8(dump.at.control_size)),
        ("payload_offset", le8(dump.at.payload)),
        ("payload_stride", le8(128)),
        ("max_payload", le8(0)),
        ("region_count", le4(0)),
        ("max_held", le4(5)),
        ("regions_offset", le8(dump.at.total)),
        ("region_stride", le8(0)),
        ("reserved_240", vec![0; 264]),
        ("type_hash", options.type_hash.to_vec()),
        ("type_name", type_name),
        ("checksum", le8(fnv1a(&dump.bytes[..504]))),
    ]
    .into();
    let fields: BTreeMap<&str, Vec<u8>> =
        HEADER_FIELDS.iter().map(|(name, ..)| (*name, field(&dump.bytes, name).to_vec())).collect();
    assert_eq!(fields, expected);
    assert_eq!(dump.at, expected_offsets(&info.geometry));
    let facts = std::fs::metadata(&path).expect("the file is there");
    assert_eq!((facts.len(), facts.mode() & 0o7777), (dump.at.total, 0o640));

    // A new segment is zero, except for the tail, the vacancy map, and this process's row.
    assert_eq!((dump.hot("tail"), dump.u64(dump.at.vacancy as usize)), (1, 0b1111));
    let row = layout::PARTICIPANTS_OFFSET as usize;
    assert_eq!(dump.u32(row + word_at("participant.state")), u64::from(layout::NEW_ROW) + 1);
    assert_eq!(dump.u32(row + word_at("participant.pid")), u64::from(std::process::id()));
    let namespace = std::fs::metadata("/proc/self/ns/pid").expect("Linux has one").ino();
    assert_eq!(dump.u64(row + word_at("participant.pid_namespace")), namespace);
    assert_ne!(dump.u64(row + word_at("participant.born")), 0);
    let anteroom = layout::ANTEROOM_OFFSET as usize;
    let rows = 1 + options.max_participants as usize;
    let free = (anteroom..)
        .step_by(layout::PARTICIPANT_ROW_SIZE as usize)
        .take(rows)
        .filter(|at| *at != row);
    let free: Vec<usize> = free.collect();
    for at in &free {
        assert_eq!(
            dump.u64(*at),
            u64::from(layout::NEW_ROW),
            "the row at {at:#x} of a new segment"
        );
    }
    let used = [word_at("tail"), word_at("attention"), dump.at.vacancy as usize, row]
        .into_iter()
        .chain(["participant.pid_namespace", "participant.born"].map(|word| row + word_at(word)))
        .chain(free)
        .collect::<Vec<_>>();
    let rest = (HEADER_SIZE..dump.bytes.len()).step_by(8).filter(|at| !used.contains(at));
    for at in rest {
        assert_eq!(dump.u64(at), 0, "the word at {at:#x} of a new segment");
    }

    // Joined: the last row, whose marks are in the second word.
    let reader = segment.reader(0).expect("a reader");
    assert_eq!(reader.index(), 19);
    let dump = Dump::of(&path);
    assert_eq!(dump.hot("active"), 1 << 19);
    let state = |dump: &Dump| {
        let word = dump.reader(19, "reader.state");
        ["phase", "participant", "generation"].map(|field| bits(word, "reader.state", field))
    };
    assert_eq!((state(&dump), dump.reader(19, "reader.cursor")), ([1, 0, 1], 1));

    // Loaned: the home slot of sequence 1.
    let writer = segment.writer().expect("a writer");
    let mut loan = writer.reserve(7, None).expect("a loan");
    loan.copy_from(b"payload").expect("it fits");
    let dump = Dump::of(&path);
    let ctl = dump.claim(1, "claim.ctl");
    assert_eq!((bits(ctl, "claim.ctl", "phase"), bits(ctl, "claim.ctl", "generation")), (2, 1));
    assert_eq!(bits(ctl, "claim.ctl", "owner"), u64::from(writer.id()));
    assert_eq!(dump.claim(1, "claim.aux"), 7);
    let payload = dump.at.payload as usize + dump.at.payload_stride as usize;
    assert_eq!(&dump.bytes[payload..payload + 7], b"payload");

    // Committed, with the change bell watched and the data bell armed by a wait that timed out.
    assert_eq!(segment.generation().expect("a number"), 0);
    let waited =
        reader.wait(Some(std::time::Duration::from_micros(50))).map_err(|error| error.code());
    assert_eq!(waited, Err(Code::Timeout));
    let bell = |dump: &Dump, name: &str| {
        ["armed", "watched", "count"].map(|field| bits(dump.u32(word_at(name)), "bells", field))
    };
    let dump = Dump::of(&path);
    assert_eq!((bell(&dump, "bells.change"), bell(&dump, "bells.data")), ([0, 1, 0], [1, 0, 0]));
    assert_eq!(loan.commit(5).expect("a sequence"), 1);
    let dump = Dump::of(&path);
    assert_eq!((bell(&dump, "bells.change"), bell(&dump, "bells.data")), ([0, 0, 1], [0, 0, 1]));
    assert_eq!(dump.u32(word_at("bells.space")), 0);
    assert_eq!(dump.hot("tail"), 2);
    let ctl = dump.claim(1, "claim.ctl");
    assert_eq!((bits(ctl, "claim.ctl", "phase"), bits(ctl, "claim.ctl", "generation")), (1, 1));
    let entry = dump.line(1, "line.entry", 0);
    assert_eq!((bits(entry, "line.entry", "slot"), bits(entry, "line.entry", "sequence")), (1, 1));
    assert_eq!(dump.line(1, "line.entry", 1), 0);
    assert_eq!(dump.line(1, "line.sequence", 0), 1);
    let extent = dump.line(1, "line.extent", 0);
    assert_eq!(bits(extent, "line.extent", "length"), 5);
    assert_eq!(
        (bits(extent, "line.extent", "named"), bits(extent, "line.extent", "region")),
        (0, 0)
    );
    assert_eq!(bits(extent, "line.extent", "writer"), u64::from(writer.id()));
    // History owns place 0, the reader place 20: word 1, bit 4.
    for (word, owed) in [(0, 1), (1, 1 << 4)] {
        let marks = dump.line(1, "line.marks", word);
        let part = |field| bits(marks, "line.marks", field);
        assert_eq!((part("tag"), part("owed"), part("held")), (1, owed, 0), "marks {word}");
    }
    assert_eq!((dump.line(1, "line.marks", 2), dump.line(1, "line.marks", 3)), (0, 0));

    // Read, then marked: history keeps it.
    let sample = reader.read().expect("no failure").expect("a sample");
    assert_eq!(Dump::of(&path).reader(19, "reader.cursor"), 2);
    drop(sample);
    let dump = Dump::of(&path);
    assert_eq!(bits(dump.line(1, "line.marks", 1), "line.marks", "owed"), 0);
    assert_eq!(bits(dump.line(1, "line.marks", 0), "line.marks", "owed"), 1);

    // Held after leaving: the row stays taken.
    let peeked = reader.peek_latest().expect("no failure").expect("history has one").into_owned();
    assert_eq!(bits(Dump::of(&path).line(1, "line.marks", 1), "line.marks", "held"), 1 << 4);
    drop(reader);
    let dump = Dump::of(&path);
    assert_eq!((dump.hot("active"), state(&dump)), (0, [2, 0, 1]));
    drop(peeked);
    let dump = Dump::of(&path);
    assert_eq!((state(&dump), dump.reader(19, "reader.cursor")), ([0, 0, 1], 0));

    // Expelled, with one sample read and one unread.
    let reader = segment.reader(0).expect("a reader");
    for _ in 0..2 {
        writer.write(b"x", None).expect("a slot is free");
    }
    let held = reader.read().expect("no failure").expect("a sample");
    let counters = segment.readers().expect("the readers");
    segment.expel(&counters[0]).expect("membarrier");
    let dump = Dump::of(&path);
    assert_eq!((dump.hot("active"), state(&dump)), (0, [7, 0, 2]));
    let words = ["reader.cut", "reader.expeller"].map(|word| dump.reader(19, word));
    assert_eq!(words, [held.sequence() + 1, 0]);
    drop(held);
    drop(reader);

    drop(writer);
    drop(segment);
    assert_eq!(
        Dump::of(&path).u32(row + word_at("participant.state")),
        u64::from(layout::NEW_ROW) + 2
    );
    Segment::unlink(name).expect("it has a name");
    assert!(!path.exists());
}

#[test]
fn the_region_of_a_large_payload() {
    let folder = Folder::new("layout-region");
    let path = folder.0.join("segment");
    let name = path.to_str().expect("it is text");
    let options = CreateOptions {
        slot_count: 4,
        max_payload: 3 << 20,
        region_count: 2,
        max_participants: 1,
        ..CreateOptions::default()
    };
    let segment = Segment::create(name, &options).expect("a new segment");
    let (writer, reader) =
        (segment.writer().expect("a writer"), segment.reader(0).expect("a reader"));
    let mut loan = writer.reserve(1 << 20, None).expect("a region");
    loan.copy_from(&vec![7; 1 << 20]).expect("it fits");
    let dump = Dump::of(&path);
    // Sequence 1 has its home in slot 1.
    let row = dump.at.region_rows as usize;
    let lease = dump.u64(row + word_at("region.lease"));
    let part = |field| bits(lease, "region.lease", field);
    assert_eq!((part("state"), part("number"), part("generation")), (1, 1, 1));
    assert_eq!(dump.u64(row + word_at("region.allocated")), 1 << 20);
    assert_eq!(dump.claim(1, "claim.aux"), 1 << 34 | 1 << 20);
    assert_eq!(dump.bytes[dump.at.regions as usize..][..1 << 20], vec![7; 1 << 20]);
    loan.commit(1 << 20).expect("a sequence");
    let extent = Dump::of(&path).line(1, "line.extent", 0);
    assert_eq!(
        (bits(extent, "line.extent", "region"), bits(extent, "line.extent", "length")),
        (1, 1 << 20)
    );
    drop((reader, writer));
    assert_eq!(segment.trim(), Ok(1 << 20));
    assert_eq!(Dump::of(&path).u64(row + word_at("region.lease")), 0);
}

#[test]
fn the_writer_word_of_a_single_writer_segment() {
    let folder = Folder::new("layout-single");
    let path = folder.0.join("segment");
    let name = path.to_str().expect("it is text");
    let options = CreateOptions {
        single_writer: true,
        timestamps: true,
        ephemeral: true,
        ..CreateOptions::default()
    };
    let segment = Segment::create(name, &options).expect("a new segment");
    assert_eq!(little(field(&Dump::of(&path).bytes, "flags")), 7);
    let writer = segment.writer().expect("a writer");
    let word = || Dump::of(&path).u32(word_at("lifecycle.writer"));
    assert_eq!(word(), u64::from(writer.id()) + 1);
    writer.write(b"x", None).expect("a sequence");
    assert_ne!(Dump::of(&path).claim(1, "claim.aux"), 0, "the time of the commit");
    drop(writer);
    assert_eq!(word(), 0);
}

#[test]
fn a_segment_under_replacement_is_not_joined() {
    let folder = Folder::new("layout-retired");
    let path = folder.0.join("segment");
    let name = path.to_str().expect("it is text");
    let segment = Segment::create(name, &CreateOptions::default()).expect("a new segment");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file is ours");
    let retired = word_at("lifecycle.retired") as u64;
    std::os::unix::fs::FileExt::write_all_at(&file, &[1, 0, 0, 0], retired).expect("a word");
    let replacer = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        // Of a process that is unknown.
        l_start: 1 << 60,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&replacer))
        .expect("nobody else replaces it");
    let refused =
        Segment::attach(name, &AttachOptions::default()).map(drop).map_err(|error| error.code());
    assert_eq!(refused, Err(Code::NameBusy));

    // A replacer that died before it took the name away has replaced nothing.
    drop(file);
    let again = Segment::attach(name, &AttachOptions::default()).expect("it is there");
    assert_eq!(Dump::of(&path).hot("lifecycle.retired"), 0);
    drop((segment, again));
}
