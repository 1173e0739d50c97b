//! A peer of a channel that sends anything: there is no panic, and no descriptor and no mapping is
//! left, whatever it does. The driver is that of the fuzz target `attach_message`, with scripts
//! from a generator.

#[path = "hostile_channel/mod.rs"]
mod driver;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    maps.lines().filter(|line| line.contains("memfd:")).count()
}

#[test]
fn scripts_of_a_generator() {
    let before = (open_descriptors(), mappings());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut resolved = 0;
    for _ in 0..20_000 {
        let script: Vec<u8> = (0..400)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        resolved += driver::play(&script);
    }
    assert!(resolved > 1000, "the scripts break every channel at once: {resolved}");
    assert_eq!((open_descriptors(), mappings()), before);
}
