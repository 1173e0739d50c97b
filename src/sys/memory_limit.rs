//! The memory that this process's control groups have left. tmpfs does not fail when a group is
//! full: the kernel kills a process of the group, and the file stays. So large allocations are
//! checked before they are made. The result is an estimate, because groups fill and empty
//! meanwhile. A limit that cannot be read counts as no limit.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// Smaller allocations are not checked: the check costs a quarter of what allocating this much
/// costs.
const FROM: u64 = 4 << 20;

/// The most bytes that are read of a kernel file.
const MOST: usize = 1 << 20;

/// Refuses a size that exceeds the memory limits of this process.
pub(crate) fn check_memory_limit(size: u64) -> Result<()> {
    if size < FROM {
        return Ok(());
    }
    match Group::of_this_process().and_then(|group| group.lacks(size, Path::new("/proc/meminfo"))) {
        None => Ok(()),
        Some(Lack { level, room }) => Err(Error::new(Code::NoMemory)
            .about(format_args!(
                "no room for {size} bytes: a memory limit leaves {room} (control group {level} levels \
                 above /proc/self/cgroup)"
            ))
            .advice("raise that limit, or ask for fewer or smaller slots")
            .with_numbers([size, room, level])),
    }
}

/// The file names of a version of control groups.
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// The rows of `memory.stat` for pages that the kernel drops before it kills.
    cache: [&'static str; 2],
    swap_limit: &'static str,
    swap_usage: &'static str,
    /// Whether the two files for swap count memory and swap together.
    swap_is_the_sum: bool,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
    swap_limit: "memory.memsw.limit_in_bytes",
    swap_usage: "memory.memsw.usage_in_bytes",
    swap_is_the_sum: true,
};

const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file", "active_file"],
    swap_limit: "memory.swap.max",
    swap_usage: "memory.swap.current",
    swap_is_the_sum: false,
};

/// The control group to which memory is charged.
struct Group {
    names: &'static Names,
    /// Its directory.
    directory: PathBuf,
    /// The highest directory that is visible.
    top: PathBuf,
}

/// Which group has too little room, as a number of levels above the process's group, and how much
/// it has.
#[derive(Debug, PartialEq, Eq)]
struct Lack {
    level: u64,
    room: u64,
}

impl Group {
    fn of_this_process() -> Option<Group> {
        Group::find(
            &text(Path::new("/proc/self/cgroup"))?,
            &text(Path::new("/proc/self/mountinfo"))?,
        )
    }

    /// From the contents of `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn find(membership: &str, mounts: &str) -> Option<Group> {
        let (names, path) = membership_of(membership)?;
        let (root, point) =
            mounts.lines().filter_map(|line| mount_of(line, names)).find_map(|(root, point)| {
                // In a container the mount may show only a part of the tree.
                Some((Path::new(path).strip_prefix(root).ok()?.to_owned(), point))
            })?;
        // The group is outside of the visible tree.
        if root.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        Some(Group { names, directory: point.join(root), top: point })
    }

    /// The first group, on the way up, that has no room for so many bytes.
    fn lacks(&self, size: u64, meminfo: &Path) -> Option<Lack> {
        let groups =
            self.directory.ancestors().take_while(|directory| directory.starts_with(&self.top));
        (0..).zip(groups).find_map(|(level, directory)| {
            let room = self.room(directory, size, meminfo)?;
            (room < size).then_some(Lack { level, room })
        })
    }

    /// The room in one group; nothing if it has no limit. It reads more files only if `size`
    /// requires it.
    fn room(&self, directory: &Path, size: u64, meminfo: &Path) -> Option<u64> {
        let left = |limit, usage| {
            let limit = number(&directory.join(limit))?;
            Some(limit.saturating_sub(number(&directory.join(usage))?))
        };
        let room = left(self.names.limit, self.names.usage)?;
        if room >= size {
            return Some(room);
        }
        let cache = text(&directory.join("memory.stat")).map_or(0, |stat| {
            self.names
                .cache
                .iter()
                .filter_map(|row| row_of(&stat, row))
                .fold(0, u64::saturating_add)
        });
        let room = room.saturating_add(cache);
        // Moving pages to swap makes room for more.
        let free = text(meminfo)
            .and_then(|text| row_of(&text, "SwapFree:"))
            .unwrap_or(0)
            .saturating_mul(1024);
        if free == 0 {
            return Some(room);
        }
        let with_swap = room.saturating_add(free);
        Some(match left(self.names.swap_limit, self.names.swap_usage) {
            Some(both) if self.names.swap_is_the_sum => with_swap.min(both.saturating_add(cache)),
            Some(swap) => room.saturating_add(swap.min(free)),
            None => with_swap,
        })
    }
}

/// The version that memory is charged by, and the group in it. A line is `number:controllers:path`,
/// without controllers in version 2.
fn membership_of(text: &str) -> Option<(&'static Names, &str)> {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first =
        lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let second = || lines().find(|(controllers, _)| controllers.is_empty());
    first.map(|(_, path)| (&V1, path)).or_else(|| second().map(|(_, path)| (&V2, path)))
}

/// The part of the tree that a mount shows, and its mount point, if it is a mount of these control
/// groups: `id parent device root point options - type source options`.
fn mount_of(line: &str, names: &Names) -> Option<(PathBuf, PathBuf)> {
    let (mount, of) = line.split_once(" - ")?;
    let mut of = of.split(' ');
    let right = match of.next()? {
        "cgroup" => names.swap_is_the_sum && of.nth(1)?.split(',').any(|name| name == "memory"),
        "cgroup2" => !names.swap_is_the_sum,
        _ => false,
    };
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    right.then(|| (unescaped(root).into(), unescaped(point).into()))
}

/// The kernel writes blanks, tabs, line feeds and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or("").to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(part.get(3..).unwrap_or(""));
            }
            None => plain.push_str(part),
        }
    }
    plain
}

/// The number in a row `name number`.
fn row_of(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', '\t']))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The number in a file; nothing for `max`.
fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// The contents of a kernel file.
fn text(path: &Path) -> Option<String> {
    let file = super::open_file(path, false).ok()?;
    let mut bytes = vec![0; 4096];
    loop {
        let read = super::read_at(&file, 0, &mut bytes).ok()?;
        if read < bytes.len() || bytes.len() >= MOST {
            bytes.truncate(read);
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.resize(bytes.len() * 4, 0);
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)] // Without its files a test cannot continue.
mod tests {
    use super::*;

    const MOUNTS_V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_group_of_a_process() {
        let found = |membership, mounts| {
            Group::find(membership, mounts)
                .map(|group| (group.directory, group.top, group.names.limit))
        };
        let right = |directory: &str, top: &str, limit| Some((directory.into(), top.into(), limit));
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            found("0::/user.slice/a b\n", v2),
            right("/sys/fs/cgroup/user.slice/a b", "/sys/fs/cgroup", "memory.max")
        );
        assert_eq!(found("0::/\n", v2), right("/sys/fs/cgroup/", "/sys/fs/cgroup", "memory.max"));
        // Both versions are mounted: version 1 has the memory controller, alone or with others.
        for membership in
            ["9:pids:/\n4:memory:/job/1\n0::/\n", "5:cpu,memory:/job/1\n0::/elsewhere\n"]
        {
            let directory = "/sys/fs/cgroup/memory/job/1";
            let right = right(directory, "/sys/fs/cgroup/memory", "memory.limit_in_bytes");
            assert_eq!(found(membership, MOUNTS_V1), right);
        }
        assert_eq!(found("9:pids:/\n0::/x\n", MOUNTS_V1).map(|found| found.2), Some("memory.max"));
        // A container that sees its own part of the tree, at a mount point with a blank in its
        // name.
        let part = "30 23 0:26 /docker/12 /run/c\\040g rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found("0::/docker/12/in", part), right("/run/c g/in", "/run/c g", "memory.max"));
        // Outside of the visible tree, or not mounted at all.
        assert_eq!(found("0::/../other", v2), None);
        assert_eq!(found("0::/docker/13", part), None);
        assert_eq!(found("4:memory:/", v2), None);
        for nonsense in ["", "0", "0:", ":::", "x\n\n0:y"] {
            assert_eq!(found(nonsense, nonsense), None);
            assert_eq!(found("0::/", nonsense), None);
        }
    }

    #[test]
    fn names_with_escapes() {
        assert_eq!(unescaped("/a\\040b\\134c\\011"), "/a b\\c\t");
        assert_eq!(unescaped("/a\\9é\\"), "/a9é");
    }

    /// A tree of files like the kernel's; its top has no limit.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let root = std::env::temp_dir().join(format!("shmslot-{name}-{}", std::process::id()));
            std::fs::create_dir_all(root.join("outer/inner")).expect("a folder");
            Tree(root)
        }

        fn write(&self, file: &str, text: &str) -> &Tree {
            std::fs::write(self.0.join(file), text).expect("a file");
            self
        }

        fn lacks(&self, names: &'static Names, size: u64) -> Option<(u64, u64)> {
            let group = Group { names, directory: self.0.join("outer/inner"), top: self.0.clone() };
            group.lacks(size, &self.0.join("meminfo")).map(|lack| (lack.level, lack.room))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn room_in_version_2() {
        let tree = Tree::new("limits-v2");
        assert_eq!(tree.lacks(&V2, u64::MAX), None); // no files yet
        tree.write("outer/inner/memory.max", "max\n").write("outer/inner/memory.current", "5000\n");
        assert_eq!(tree.lacks(&V2, u64::MAX), None);
        tree.write("outer/inner/memory.max", "9000\n");
        assert_eq!((tree.lacks(&V2, 4000), tree.lacks(&V2, 4001)), (None, Some((0, 4000))));
        tree.write("outer/memory.max", "9100\n").write("outer/memory.current", "9000\n");
        assert_eq!((tree.lacks(&V2, 100), tree.lacks(&V2, 101)), (None, Some((1, 100))));
        // Pages that the kernel drops first make room; pages of shared memory do not.
        tree.write(
            "outer/memory.stat",
            "anon 7\nfile 900\nshmem 800\ninactive_file 30\nactive_file 20\nx_inactive_file 9\n",
        );
        assert_eq!((tree.lacks(&V2, 150), tree.lacks(&V2, 151)), (None, Some((1, 150))));
        // For a moment more than the limit is in use.
        tree.write("outer/memory.current", "9200\n");
        assert_eq!(tree.lacks(&V2, 51), Some((1, 50)));
        tree.write("outer/memory.current", "9000\n");
        // Swap: as much as is free, and not more than the group may have.
        tree.write("meminfo", "MemFree: 9 kB\nSwapTotal:       8 kB\nSwapFree:        2 kB\n");
        assert_eq!((tree.lacks(&V2, 2198), tree.lacks(&V2, 2199)), (None, Some((1, 2198))));
        tree.write("outer/memory.swap.max", "1000\n").write("outer/memory.swap.current", "400\n");
        assert_eq!((tree.lacks(&V2, 750), tree.lacks(&V2, 751)), (None, Some((1, 750))));
        tree.write("outer/memory.swap.max", "0\n");
        assert_eq!(tree.lacks(&V2, 151), Some((1, 150)));
        // Corrupt files are no limit.
        tree.write("outer/memory.max", "many\n");
        assert_eq!(tree.lacks(&V2, 151), None);
    }

    #[test]
    fn room_in_version_1() {
        let tree = Tree::new("limits-v1");
        tree.write("outer/inner/memory.limit_in_bytes", "9223372036854771712\n");
        tree.write("outer/inner/memory.usage_in_bytes", "4096\n");
        assert_eq!(tree.lacks(&V1, 1 << 40), None);
        tree.write("outer/memory.limit_in_bytes", "9000\n")
            .write("outer/memory.usage_in_bytes", "8900\n");
        tree.write(
            "outer/memory.stat",
            "inactive_file 7\ntotal_inactive_file 30\ntotal_active_file 20\n",
        );
        assert_eq!((tree.lacks(&V1, 150), tree.lacks(&V1, 151)), (None, Some((1, 150))));
        tree.write("meminfo", "SwapFree: 2 kB\n");
        assert_eq!((tree.lacks(&V1, 2198), tree.lacks(&V1, 2199)), (None, Some((1, 2198))));
        // Here the limit of swap counts memory and swap together.
        tree.write("outer/memory.memsw.limit_in_bytes", "9500\n")
            .write("outer/memory.memsw.usage_in_bytes", "9000\n");
        assert_eq!((tree.lacks(&V1, 550), tree.lacks(&V1, 551)), (None, Some((1, 550))));
    }

    #[test]
    fn long_files_are_read_whole() {
        let tree = Tree::new("limits-long");
        let long = "0123456789abcdef".repeat(1000);
        tree.write("long", &long).write("empty", "");
        assert_eq!(text(&tree.0.join("long")).as_deref(), Some(long.as_str()));
        assert_eq!(text(&tree.0.join("empty")).as_deref(), Some(""));
        assert_eq!(text(&tree.0.join("none")), None);
    }
}
