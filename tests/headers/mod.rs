//! Generates the C headers from `src/ffi` and `src/error.rs`.
//!
//! cbindgen writes all constants of a header first, then all types, then all functions. So it runs
//! once for each section here, and `HEADERS` says which sections make which header.

use std::path::Path;

/// No line of code is longer.
const WIDTH: usize = 100;

/// A header of `include/`.
pub(crate) struct Header {
    pub(crate) name: &'static str,
    guard: &'static str,
    includes: &'static str,
    /// The comment at its top; `None` is that of cbindgen.toml.
    about: Option<&'static str>,
    /// The sources of each section. The section's title is the first line of the last of them.
    sections: &'static [&'static [&'static str]],
}

/// All headers, in the order of a reader.
pub(crate) const HEADERS: &[Header] = &[
    Header {
        name: "shmslot.h",
        guard: "SHMSLOT_H",
        includes: "#include <stddef.h>\n#include <stdint.h>\n",
        about: None,
        sections: &[
            &["src/error.rs", "src/ffi/library.rs"],
            &["src/ffi/options.rs"],
            &["src/ffi/segment.rs"],
            &["src/ffi/counters.rs"],
            &["src/ffi/writer.rs"],
            &["src/ffi/reader.rs"],
        ],
    },
    Header {
        name: "shmslot_events.h",
        guard: "SHMSLOT_EVENTS_H",
        includes: "#include \"shmslot.h\"\n",
        about: Some(EVENTS),
        sections: &[&["src/ffi/events.rs"], &["src/ffi/set.rs"]],
    },
    Header {
        name: "shmslot_reference.h",
        guard: "SHMSLOT_REFERENCE_H",
        includes: "#include \"shmslot.h\"\n",
        about: Some(REFERENCE),
        sections: &[&["src/ffi/reference.rs"]],
    },
    Header {
        name: "shmslot_pool.h",
        guard: "SHMSLOT_POOL_H",
        includes: "#include \"shmslot.h\"\n",
        about: Some(POOL),
        sections: &[&["src/ffi/channel.rs"], &["src/ffi/region.rs"], &["src/ffi/attachments.rs"]],
    },
];

const EVENTS: &str = "
/**
 * @file shmslot_events.h
 * Readers and writers in event loops: each has one descriptor, which poll, epoll and every loop
 * can wait for, or many of them share the descriptor of a set. docs/events.md has the rule for
 * each loop.
 *
 * The rules at the top of shmslot.h hold here.
 */
";

const REFERENCE: &str = "
/**
 * @file shmslot_reference.h
 * Reference operations: the slots of a segment for middleware that tracks its readers itself.
 *
 * Such a caller says which readers a sample is for, and marks it for each of them. It may share a
 * segment with writers and readers of shmslot.h.
 *
 * The rules at the top of shmslot.h hold here.
 */
";

const POOL: &str = "
/**
 * @file shmslot_pool.h
 * Channels and pools: memory outside segments that one process writes and others read.
 *
 * A registry lends memory of its regions for payloads of any size. A channel, which is a connected
 * unix socket, carries the descriptors of the regions to the receivers, whose attachments map them.
 * Channels carry segments, too. docs/regions.md says how the parts work together.
 *
 * The rules at the top of shmslot.h hold here.
 */
";

/// The text of a header, as the sources under `root` give it.
pub(crate) fn generate(root: &Path, header: &Header) -> String {
    let config =
        cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is right");
    let about =
        header.about.or(config.header.as_deref()).expect("cbindgen.toml has the comment").trim();
    let Header { guard, includes, .. } = header;
    let sections: String =
        header.sections.iter().map(|sources| section(root, sources, &config)).collect();
    format!(
        "{about}

#ifndef {guard}
#define {guard}

/* Generated from src/ffi; tests/header.rs compares and rewrites it. */

{includes}
#ifdef __cplusplus
extern \"C\" {{
#endif

{sections}#ifdef __cplusplus
}} /* extern \"C\" */
#endif

#endif /* {guard} */
"
    )
}

fn section(root: &Path, sources: &[&str], config: &cbindgen::Config) -> String {
    let paths = sources.iter().map(|source| root.join(source));
    let last = std::fs::read_to_string(paths.clone().next_back().expect("a section has a source"))
        .expect("the source is there");
    let title = last
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("//! ")?.strip_suffix('.'))
        .expect("it begins with a title");

    let mut builder =
        cbindgen::Builder::new().with_config(cbindgen::Config { header: None, ..config.clone() });
    for path in paths {
        builder = builder.with_src(path);
    }
    let mut generated = Vec::new();
    builder.generate().expect("cbindgen reads the sources").write(&mut generated);
    let generated = String::from_utf8(generated).expect("the header is text");

    let lines: String = generated.trim().lines().map(finish).collect();
    format!("/* ---- {title} ---- */\n{}\n{lines}\n", initialisers(&lines))
}

/// A line as cbindgen writes it, with its line break.
///
/// cbindgen gives structs a tag, by which they can be declared in advance, and then writes `struct`
/// at each use. Their own names need no such word.
fn finish(line: &str) -> String {
    if line.starts_with("typedef ") || line.trim_start().starts_with("//") {
        return format!("{line}\n");
    }
    let line = line.replace("struct shmslot_", "shmslot_");
    match line.split_once('(') {
        Some((function, arguments)) => fill(&format!("{function}("), arguments, "") + "\n",
        None => line + "\n",
    }
}

/// `start` and a list, with line breaks where it would be longer than `WIDTH`; further lines begin
/// where the list does.
fn fill(start: &str, list: &str, end_of_line: &str) -> String {
    let (mut text, mut column) = (start.to_owned(), start.len());
    for item in list.split_inclusive(", ") {
        if column + item.trim_end().len() + end_of_line.len() > WIDTH {
            text.truncate(text.trim_end().len());
            text += &format!("{end_of_line}\n{:1$}", "", start.len());
            column = start.len();
        }
        text += item;
        column += item.len();
    }
    text
}

/// `SHMSLOT_..._INIT` for each struct of a section that begins with its size.
fn initialisers(section: &str) -> String {
    let mut text = String::new();
    for (name, rest) in section.split("typedef struct ").filter_map(|part| part.split_once(" {\n"))
    {
        if !rest.lines().any(|line| line == "    uint32_t struct_size;") {
            continue;
        }
        let fields = rest.lines().take_while(|line| !line.starts_with('}'));
        let fields = fields.filter(|line| !line.trim_start().starts_with("//"));
        let value = |field: &str| match field.trim() {
            "uint32_t struct_size;" => format!("sizeof({name})"),
            array if array.contains('[') => "{0}".to_owned(),
            pointer if pointer.contains('*') => "NULL".to_owned(),
            _ => "0".to_owned(),
        };
        let values: Vec<String> = fields.map(value).collect();
        let init = format!("{}_INIT", name.to_uppercase());
        let values = fill("    {", &format!("{}}}", values.join(", ")), " \\");
        text += &format!(
            "/// The initial value of a {name}: all defaults.\n#define {init} \\\n{values}\n"
        );
    }
    text
}
